"""Trefoil: from-scratch encoder, decoder and encoder-decoder transformers in the Hugging Face ecosystem.

Importing this package registers every family with transformers' Auto classes.
"""

from .configuration import *
from .modeling import *
from .registration import register

__version__ = "0.1.0"

register()
