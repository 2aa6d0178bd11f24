"""The recurrent encoder-decoder, with and without attention: what the transformers grew out of."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig


@strict
class TrefoilRecurrentConfig(PreTrainedConfig):
    """Configuration of `TrefoilRecurrentModel` and its head: Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015.

    Args:
        vocab_size: Number of token ids, of source and target.
        hidden_size: Width of embeddings and of each layer; a bidirectional layer gives half of it to each direction.
        num_hidden_layers: Layers of the encoder, and of the decoder, which start from the encoder's last states.
        cell_type: `lstm` (Hochreiter & Schmidhuber 1997) or `gru` (Cho et al. 2014).
        bidirectional: The encoder reads both ways (Schuster & Paliwal 1997).
        attention_type: How the decoder scores the source's states (Luong et al. 2015, §3.1): `dot`, `general`, `concat`
            (Bahdanau et al. 2015), or `none`: it has the encoder's last states only.
        hidden_dropout: Dropout on the embeddings and between layers.
        initializer_range: Standard deviation of initial weights.
        max_position_embeddings: Longest sequence, in tokens, that pipelines and trainers keep to.
        decoder_start_token_id: First input of the decoder. Default: `bos_token_id`.
        start_from_labels: The decoder's first input is the last real token of the labels instead.
        tie_word_embeddings: Use the decoder's embedding as the output projection.
        share_encoder_decoder_embeddings: One embedding for both halves. Default: `tie_word_embeddings`.
        use_cache: Return the decoder's states.

    Raises:
        StrictDataclassError: (of `huggingface_hub.errors`) A value of a wrong type, or sizes that do not fit together.
    """

    model_type = "trefoil_recurrent"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 32000
    hidden_size: int = 512
    num_hidden_layers: int = 2
    cell_type: Literal["lstm", "gru"] = "lstm"
    bidirectional: bool = True
    attention_type: Literal["none", "dot", "general", "concat"] = "general"
    hidden_dropout: float | int = 0.0
    initializer_range: float = 0.05
    max_position_embeddings: int = 1024
    is_encoder_decoder: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = None
    start_from_labels: bool = False
    tie_word_embeddings: bool = True
    share_encoder_decoder_embeddings: bool | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.decoder_start_token_id is None and not self.start_from_labels:
            self.decoder_start_token_id = self.bos_token_id
        if self.share_encoder_decoder_embeddings is None:
            self.share_encoder_decoder_embeddings = self.tie_word_embeddings
        super().__post_init__(**kwargs)

    @property
    def state_parts(self) -> int:
        """Vectors in the state of a layer: an LSTM has its output and its cell, a GRU only the former."""
        return 2 if self.cell_type == "lstm" else 1

    def validate_architecture(self) -> None:
        """Checks between fields; each message names the fields and their values."""
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if self.bidirectional and self.hidden_size % 2 != 0:
            raise ValueError(f"hidden_size={self.hidden_size} must be even with bidirectional=True")
        if not 0 <= self.hidden_dropout < 1:
            raise ValueError(f"hidden_dropout={self.hidden_dropout} must lie in [0, 1)")
