"""The encoder: a stack that sees both ways (BERT's kind)."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_base import TrefoilConfig


@strict
class TrefoilEncoderConfig(TrefoilConfig):
    """Configuration of `TrefoilEncoderModel` and its heads; the fields are those of `TrefoilConfig` and:

    Args:
        embedding_size: Width of the embeddings. Where it is not `hidden_size`, a projection stands behind them
            (Lan et al. 2020, §3.1; ELECTRA), and the transform of masked language modelling leads back to it.
            Default: `hidden_size`.
        classifier_pooling: What a sequence is classified by: the hidden state of its first token (`cls`), or the
            `mean` over its tokens.
        classifier_transform: Every head starts with the transform of masked language modelling (dense, activation,
            norm; ModernBERT); else only that for sequences has one of its own, dense and activation (BERT's pooler).
        transform_act: Activation of the transform. Default: `hidden_act`.
        transform_bias: A bias in the transform. Default: `mlp_bias`.
        pooler_act: Activation of the pooler.
        add_pooler: The bare model has a pooler too and returns `pooler_output` (BERT).
    """

    model_type = "trefoil_encoder"

    embedding_size: int | None = None
    classifier_pooling: Literal["cls", "mean"] = "cls"
    classifier_transform: bool = False
    transform_act: str | None = None
    transform_bias: bool | None = None
    pooler_act: str = "tanh"
    add_pooler: bool = False
    lm_head_bias: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.embedding_size is None:
            self.embedding_size = self.hidden_size
        if self.transform_act is None:
            self.transform_act = self.hidden_act
        if self.transform_bias is None:
            self.transform_bias = self.mlp_bias
        super().__post_init__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get("hidden_size")
        super().__setattr__(name, value)
        if name == "hidden_size" and before is not None and self.__dict__.get("embedding_size") == before:
            self.embedding_size = value

    def validate_architecture(self) -> None:
        """Checks between fields; each message names the fields and their values."""
        super().validate_architecture()
        assert self.embedding_size is not None  # filled in by __post_init__
        if self.embedding_size <= 0:
            raise ValueError(f"embedding_size={self.embedding_size} must be positive")
        if self.position_embedding_type == "sinusoidal" and self.embedding_size % 2 != 0:
            raise ValueError(
                f"embedding_size={self.embedding_size} must be even with position_embedding_type='sinusoidal'"
            )
