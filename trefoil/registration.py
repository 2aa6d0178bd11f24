"""Registration with transformers' Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from . import configuration, modeling

# configuration class -> Auto class -> model class; the publisher's `auto_map` comes from here too
AUTO_CLASSES: dict[type[PreTrainedConfig], dict[type, type[PreTrainedModel]]] = {
    configuration.TrefoilEncoderConfig: {
        AutoModel: modeling.TrefoilEncoderModel,
        AutoModelForMaskedLM: modeling.TrefoilEncoderForMaskedLM,
    },
    configuration.TrefoilDecoderConfig: {
        AutoModel: modeling.TrefoilDecoderModel,
        AutoModelForCausalLM: modeling.TrefoilDecoderForCausalLM,
    },
    configuration.TrefoilEncoderDecoderConfig: {
        AutoModel: modeling.TrefoilEncoderDecoderModel,
        AutoModelForSeq2SeqLM: modeling.TrefoilEncoderDecoderForConditionalGeneration,
    },
}


def register() -> None:
    """Make the Auto classes know every Trefoil family."""
    for config_class, models in AUTO_CLASSES.items():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        for auto_class, model_class in models.items():
            auto_class.register(config_class, model_class, exist_ok=True)  # type: ignore[attr-defined]
