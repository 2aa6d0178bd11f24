"""Registration with transformers' Auto classes, so that no folder's own code is run where this package is imported."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..configuration.decoder import TrefoilDecoderConfig
from ..configuration.encoder import TrefoilEncoderConfig
from ..configuration.encoder_decoder import TrefoilEncoderDecoderConfig
from ..configuration.recurrent import TrefoilRecurrentConfig
from .decoder import (
    TrefoilDecoderForCausalLM,
    TrefoilDecoderForSequenceClassification,
    TrefoilDecoderForTokenClassification,
    TrefoilDecoderModel,
)
from .encoder import (
    TrefoilEncoderForMaskedLM,
    TrefoilEncoderForQuestionAnswering,
    TrefoilEncoderForSequenceClassification,
    TrefoilEncoderForTokenClassification,
    TrefoilEncoderModel,
)
from .encoder_decoder import TrefoilEncoderDecoderForConditionalGeneration, TrefoilEncoderDecoderModel
from .recurrent import TrefoilRecurrentForConditionalGeneration, TrefoilRecurrentModel

# what `config.json` of a published folder says of the code beside it
CODE_KEYS = ("auto_map", "custom_pipelines", "trefoil_version")

# configuration class -> Auto class -> model class; the publisher's `auto_map` comes from here too
AUTO_CLASSES: dict[type[PreTrainedConfig], dict[type, type[PreTrainedModel]]] = {
    TrefoilEncoderConfig: {
        AutoModel: TrefoilEncoderModel,
        AutoModelForMaskedLM: TrefoilEncoderForMaskedLM,
        AutoModelForSequenceClassification: TrefoilEncoderForSequenceClassification,
        AutoModelForTokenClassification: TrefoilEncoderForTokenClassification,
        AutoModelForQuestionAnswering: TrefoilEncoderForQuestionAnswering,
    },
    TrefoilDecoderConfig: {
        AutoModel: TrefoilDecoderModel,
        AutoModelForCausalLM: TrefoilDecoderForCausalLM,
        AutoModelForSequenceClassification: TrefoilDecoderForSequenceClassification,
        AutoModelForTokenClassification: TrefoilDecoderForTokenClassification,
    },
    TrefoilEncoderDecoderConfig: {
        AutoModel: TrefoilEncoderDecoderModel,
        AutoModelForSeq2SeqLM: TrefoilEncoderDecoderForConditionalGeneration,
    },
    TrefoilRecurrentConfig: {
        AutoModel: TrefoilRecurrentModel,
        AutoModelForSeq2SeqLM: TrefoilRecurrentForConditionalGeneration,
    },
}


def register_models() -> None:
    """Make the Auto classes know every Trefoil family."""
    for config_class, models in AUTO_CLASSES.items():
        use_installed_code(config_class)
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        for auto_class, model_class in models.items():
            auto_class.register(config_class, model_class, exist_ok=True)  # type: ignore[attr-defined]


def use_installed_code(config_class: type[PreTrainedConfig]) -> None:
    """Makes a registered configuration class forget the code that a published folder brings along.

    The installed classes are the ones that run. If the configuration still pointed at the folder's code, `pipeline()`
    would ask to trust it, and saving the model again would write a `config.json` that names files that are not there.
    """
    from_dict = config_class.from_dict.__func__

    def from_dict_without_code(cls: type[PreTrainedConfig], config_dict: dict[str, Any], **kwargs: Any) -> Any:
        kept = {key: value for key, value in config_dict.items() if key not in CODE_KEYS}
        return from_dict(cls, kept, **kwargs)

    config_class.from_dict = classmethod(from_dict_without_code)
