"""What a model is: configuration classes and presets."""

from .lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "base": ["TrefoilConfig"],
        "decoder": ["TrefoilDecoderConfig"],
        "encoder": ["TrefoilEncoderConfig"],
        "encoder_decoder": ["TrefoilEncoderDecoderConfig"],
        "presets": ["PRESETS", "preset_config"],
        "recurrent": ["TrefoilRecurrentConfig"],
        "vision_encoder_decoder": ["TrefoilVisionEncoderDecoderConfig"],
    },
)
