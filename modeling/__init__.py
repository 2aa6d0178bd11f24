"""The forward pass: attention, positions, feed-forward, layers, stacks, families and their heads."""

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

__all__ = [
    "TrefoilDecoderForCausalLM",
    "TrefoilDecoderForSequenceClassification",
    "TrefoilDecoderForTokenClassification",
    "TrefoilDecoderModel",
    "TrefoilEncoderDecoderForConditionalGeneration",
    "TrefoilEncoderDecoderModel",
    "TrefoilEncoderForMaskedLM",
    "TrefoilEncoderForQuestionAnswering",
    "TrefoilEncoderForSequenceClassification",
    "TrefoilEncoderForTokenClassification",
    "TrefoilEncoderModel",
    "TrefoilRecurrentForConditionalGeneration",
    "TrefoilRecurrentModel",
]
