"""Registration of models with transformers' Auto classes, by importing this module."""

from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
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
from ..configuration.vision_encoder_decoder import TrefoilVisionEncoderDecoderConfig
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
from .vision_encoder_decoder import TrefoilVisionEncoderDecoderModel

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
    TrefoilVisionEncoderDecoderConfig: {AutoModelForImageTextToText: TrefoilVisionEncoderDecoderModel},
}


for config_class, models in AUTO_CLASSES.items():
    for auto_class, model_class in models.items():
        auto_class.register(config_class, model_class, exist_ok=True)  # type: ignore[attr-defined]
