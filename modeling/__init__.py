"""The forward pass: attention, positions, feed-forward, layers, stacks, families and their heads."""

from .decoder import TrefoilDecoderForCausalLM, TrefoilDecoderModel
from .encoder import TrefoilEncoderForMaskedLM, TrefoilEncoderModel
from .encoder_decoder import TrefoilEncoderDecoderForConditionalGeneration, TrefoilEncoderDecoderModel

__all__ = [
    "TrefoilDecoderForCausalLM",
    "TrefoilDecoderModel",
    "TrefoilEncoderDecoderForConditionalGeneration",
    "TrefoilEncoderDecoderModel",
    "TrefoilEncoderForMaskedLM",
    "TrefoilEncoderModel",
]
