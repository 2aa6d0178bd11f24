"""The forward pass: attention, positions, feed-forward, layers, stacks, families and their heads."""

from ..configuration.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "decoder": [
            "TrefoilDecoderForCausalLM",
            "TrefoilDecoderForSequenceClassification",
            "TrefoilDecoderForTokenClassification",
            "TrefoilDecoderModel",
        ],
        "encoder": [
            "TrefoilEncoderForMaskedLM",
            "TrefoilEncoderForQuestionAnswering",
            "TrefoilEncoderForSequenceClassification",
            "TrefoilEncoderForTokenClassification",
            "TrefoilEncoderModel",
        ],
        "encoder_decoder": ["TrefoilEncoderDecoderForConditionalGeneration", "TrefoilEncoderDecoderModel"],
        "recurrent": ["TrefoilRecurrentForConditionalGeneration", "TrefoilRecurrentModel"],
        "vision_encoder_decoder": ["TrefoilVisionEncoderDecoderModel"],
    },
)
