"""The encoder: a stack that sees both ways (BERT's kind)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .base import TrefoilConfig


@strict
class TrefoilEncoderConfig(TrefoilConfig):
    """Configuration of `TrefoilEncoderModel` and its heads; the fields are those of `TrefoilConfig` and:

    Args:
        classifier_pooling: What a sequence is classified by: the hidden state of its first token (`cls`), or the
            `mean` over its tokens.
    """

    model_type = "trefoil_encoder"

    classifier_pooling: Literal["cls", "mean"] = "cls"
