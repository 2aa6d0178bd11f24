"""What a model is: configuration classes and presets."""

from .base import TrefoilConfig
from .decoder import TrefoilDecoderConfig
from .encoder import TrefoilEncoderConfig
from .encoder_decoder import TrefoilEncoderDecoderConfig
from .presets import PRESETS, preset_config
from .recurrent import TrefoilRecurrentConfig

__all__ = [
    "PRESETS",
    "TrefoilConfig",
    "TrefoilDecoderConfig",
    "TrefoilEncoderConfig",
    "TrefoilEncoderDecoderConfig",
    "TrefoilRecurrentConfig",
    "preset_config",
]
