"""The encoder-decoder: literally one encoder and one decoder (BART's and T5's kind)."""

from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from .configuration_decoder import TrefoilDecoderConfig
from .configuration_encoder import TrefoilEncoderConfig
from .configuration_halves import attend_to

if TYPE_CHECKING:
    Half = Any  # once __post_init__ is through, always a configuration
else:
    Half = PreTrainedConfig | dict[str, Any] | None


@strict
class TrefoilEncoderDecoderConfig(PreTrainedConfig):
    """Configuration of `TrefoilEncoderDecoderModel` and its head.

    Args:
        encoder: The encoder's configuration, or its fields as a dict. Default: `TrefoilEncoderConfig()`.
        decoder: Likewise; cross-attention is switched on and its width set to the encoder's.
        decoder_start_token_id: First input of the decoder. Default: `bos_token_id`.
        start_from_labels: The decoder's first input is not `decoder_start_token_id` but the last real token of the
            labels (mBART: the language).
        pad_token_id, bos_token_id, eos_token_id: Default: the decoder's.
        tie_word_embeddings: Use the decoder's embedding as the output projection.
        share_encoder_decoder_embeddings: One embedding for both halves. Default: where `tie_word_embeddings` is set and
            both halves have the same `vocab_size` and `hidden_size`.

    Raises:
        StrictDataclassError: (of `huggingface_hub.errors`) Embeddings are to be shared but differ in size, or a value has a
            wrong type.
    """

    model_type = "trefoil_encoder_decoder"
    sub_configs = {"encoder": TrefoilEncoderConfig, "decoder": TrefoilDecoderConfig}
    keys_to_ignore_at_inference = ["past_key_values"]

    encoder: Half = None
    decoder: Half = None
    is_encoder_decoder: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    start_from_labels: bool = False
    tie_word_embeddings: bool = True
    share_encoder_decoder_embeddings: bool | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name, config_class in self.sub_configs.items():
            half = getattr(self, name)
            if not isinstance(half, PreTrainedConfig):
                setattr(self, name, config_class(**(half or {})))
        self.decoder.is_decoder = True
        attend_to(self.decoder, self.encoder)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            if getattr(self, name) is None:
                setattr(self, name, getattr(self.decoder, name))
        if self.decoder_start_token_id is None and not self.start_from_labels:
            self.decoder_start_token_id = self.bos_token_id
        if self.share_encoder_decoder_embeddings is None:
            self.share_encoder_decoder_embeddings = self.tie_word_embeddings and self._embeddings_fit()
        super().__post_init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        """The target vocabulary's size; setting it sets the source's too where they are shared."""
        return self.decoder.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        if self.share_encoder_decoder_embeddings:
            self.encoder.vocab_size = value
        self.decoder.vocab_size = value

    @property
    def hidden_size(self) -> int:
        """Width of the decoder."""
        return self.decoder.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """Depth of the decoder."""
        return self.decoder.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        """Query heads of the decoder."""
        return self.decoder.num_attention_heads

    def _embeddings_fit(self) -> bool:
        encoder, decoder = self.encoder, self.decoder
        return (encoder.vocab_size, encoder.embedding_size) == (decoder.vocab_size, decoder.hidden_size)

    def validate_architecture(self) -> None:
        """Checks between fields; each message names the fields and their values."""
        self.decoder.validate_architecture()  # what it was made with may not go with cross-attention
        if self.share_encoder_decoder_embeddings and not self._embeddings_fit():
            raise ValueError(
                "share_encoder_decoder_embeddings=True needs equal sizes, but the encoder's embedding is "
                f"{self.encoder.vocab_size} x {self.encoder.embedding_size} and the decoder's "
                f"{self.decoder.vocab_size} x {self.decoder.hidden_size} (vocab_size x width)"
            )
