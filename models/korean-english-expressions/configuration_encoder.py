"""The encoder: a stack that sees both ways (BERT's kind)."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_base import TrefoilConfig

TABLES = {
    "ngram_sizes": {"ngram_vocab_size": 65_536, "ngram_embedding_size": 64},
    "classifier_ngram_sizes": {"classifier_ngram_vocab_size": 262_144},
}


@strict
class TrefoilEncoderConfig(TrefoilConfig):
    """Configuration of `TrefoilEncoderModel` and its heads; the fields are those of `TrefoilConfig` and:

    Args:
        embedding_size: Width of the embeddings. Where it is not `hidden_size`, a projection stands behind them
            (Lan et al. 2020, §3.1; ELECTRA), and the transform of masked language modelling leads back to it.
            Default: `hidden_size`.
        ngram_sizes: Lengths, in tokens, of n-grams that have embeddings of their own, which are added to those of the tokens with
            which they end and begin (Bojanowski et al. 2017; Huang et al. 2025): with few data, what stands beside a token tells
            more than layers learn to see. Such a model reads ids, not `inputs_embeds`. Default: none.
        ngram_vocab_size: Rows of their table, in which n-grams are found by hashing. Default: 65,536, where there are n-grams.
        ngram_embedding_size: Width of their table. Default: 64, where there are n-grams.
        matched_ngram_sizes: Lengths, in tokens, of n-grams of which a token is told that it is in one that stands in the other segment, too,
            by an embedding each (Chen et al. 2017, §3.2): where a text stands with a question, or with another text, and few data
            teach attention little of what is the same in both. Segments are told by `token_type_ids`. Such a model reads ids, not
            `inputs_embeds`. Default: none.
        classifier_pooling: What a sequence is classified by: the hidden state of its first token (`cls`), or the
            `mean` over its tokens.
        classifier_ngram_sizes: Lengths, in tokens, of n-grams by which a sequence, or a token that is in them or near them, is classified
            beside the layers, a weight for each and label (Wang & Manning 2012; Cheng et al. 2016): where few data let layers learn
            little, a linear model learns more. In tokens that are characters it sees words and their parts. Such a model reads
            ids, not `inputs_embeds`. Default: none.
        classifier_ngram_vocab_size: Rows of their table, in which n-grams are found by hashing. Default: 262,144, where there are.
        classifier_transform: Every head starts with the transform of masked language modelling (dense, activation,
            norm; ModernBERT); else only that for sequences has one of its own, dense and activation (BERT's pooler).
        transform_act: Activation of the transform. Default: `hidden_act`.
        transform_bias: A bias in the transform. Default: `mlp_bias`.
        pooler_act: Activation of the pooler.
        add_pooler: The bare model has a pooler too and returns `pooler_output` (BERT).
    """

    model_type = "trefoil_encoder"

    embedding_size: int | None = None
    ngram_sizes: list[int] | None = None
    ngram_vocab_size: int | None = None
    ngram_embedding_size: int | None = None
    matched_ngram_sizes: list[int] | None = None
    classifier_pooling: Literal["cls", "mean"] = "cls"
    classifier_ngram_sizes: list[int] | None = None
    classifier_ngram_vocab_size: int | None = None
    classifier_transform: bool = False
    transform_act: str | None = None
    transform_bias: bool | None = None
    pooler_act: str = "tanh"
    add_pooler: bool = False
    lm_head_bias: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.embedding_size is None:
            self.embedding_size = self.hidden_size
        for name in TABLES:
            self._complete_table(name)
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
        if name in TABLES:
            self._complete_table(name)

    def _complete_table(self, sizes: str) -> None:
        """Of a pretrained model they are set when all is made."""
        for name, default in TABLES[sizes].items():
            if self.__dict__.get(sizes) and self.__dict__.get(name, default) is None:
                setattr(self, name, default)

    def validate_architecture(self) -> None:
        """Checks between fields; each message names the fields and their values."""
        super().validate_architecture()
        assert self.embedding_size is not None  # filled in by __post_init__
        for name in ("embedding_size", "ngram_vocab_size", "ngram_embedding_size", "classifier_ngram_vocab_size"):
            if (size := getattr(self, name)) is not None and size <= 0:
                raise ValueError(f"{name}={size} must be positive")
        if any(size < 2 for size in self.ngram_sizes or []):
            raise ValueError(f"ngram_sizes={self.ngram_sizes} must be 2 or more; single tokens have embeddings")
        for name in ("matched_ngram_sizes", "classifier_ngram_sizes"):
            if any(size < 1 for size in getattr(self, name) or []):
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.matched_ngram_sizes and self.type_vocab_size < 2:
            raise ValueError(
                f"matched_ngram_sizes={self.matched_ngram_sizes} are of one segment and of another, which type_vocab_size="
                f"{self.type_vocab_size} does not tell apart; it must be 2 or more"
            )
        if self.position_embedding_type == "sinusoidal" and self.embedding_size % 2 != 0:
            raise ValueError(
                f"embedding_size={self.embedding_size} must be even with position_embedding_type='sinusoidal'"
            )
