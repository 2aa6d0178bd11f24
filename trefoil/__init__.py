"""Trefoil: from-scratch encoder, decoder and encoder-decoder transformers in the Hugging Face ecosystem.

Where this package is imported, every family is registered with transformers' Auto classes and with PEFT, and its pipelines
are: as soon as these are imported themselves, so that whoever needs none of them waits for none.
"""

from . import configuration, modeling
from . import quiet as quiet  # before transformers is imported
from .configuration.lazy import lazy_names
from .configuration.version import __version__ as __version__
from .registration import register

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "configuration": configuration.__all__,
        "modeling": modeling.__all__,
        "visualization.attention": ["attention_maps"],
        "predict": ["load"],
        "runs": ["train"],
        "pipelines.by_length": ["predict_by_length"],
        "pipelines.continuous_batching": ["continuous_batching"],
    },
)

register()
