"""Trefoil: from-scratch encoder, decoder and encoder-decoder transformers in the Hugging Face ecosystem.

Importing this package registers every family with transformers' Auto classes and with PEFT, and its pipelines.
"""

from . import quiet as quiet  # before transformers is imported
from .adapters import register_adapters
from .configuration import *
from .configuration.version import __version__ as __version__
from .modeling import *
from .modeling.auto import register_models
from .pipelines.registration import register_pipelines
from .visualization.attention import attention_maps as attention_maps

register_models()
register_pipelines()
register_adapters()
