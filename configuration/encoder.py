"""The encoder: a stack that sees both ways (BERT's kind)."""

from huggingface_hub.dataclasses import strict

from .base import TrefoilConfig


@strict
class TrefoilEncoderConfig(TrefoilConfig):
    """Configuration of `TrefoilEncoderModel` and its heads; the fields are those of `TrefoilConfig`."""

    model_type = "trefoil_encoder"
