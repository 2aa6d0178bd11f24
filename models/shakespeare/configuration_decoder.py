"""The decoder: a stack that sees left only (GPT's kind), with cross-attention where it follows an encoder."""

from huggingface_hub.dataclasses import strict

from .configuration_base import TrefoilConfig


@strict
class TrefoilDecoderConfig(TrefoilConfig):
    """Configuration of `TrefoilDecoderModel` and its heads; the fields are those of `TrefoilConfig` and:

    Args:
        use_cache: Return the key/value cache.
        add_cross_attention: Add cross-attention to every layer, for use behind an encoder.
        cross_attention_hidden_size: Width of the encoder's hidden states. Default: `hidden_size`.
        scale_lm_head: Divide what enters the output projection by `sqrt(hidden_size)` (T5, where it is tied).
        final_logit_softcapping: Logits are bent to stay below this (Gemma 2). Default: they are not.
    """

    model_type = "trefoil_decoder"

    use_cache: bool = True
    is_decoder: bool = True
    add_cross_attention: bool = False
    cross_attention_hidden_size: int | None = None
    scale_lm_head: bool = False
    final_logit_softcapping: float | int | None = None

    def validate_architecture(self) -> None:
        """Checks between fields; each message names the fields and their values."""
        super().validate_architecture()
        if (self.final_logit_softcapping or 1) <= 0:
            raise ValueError(f"final_logit_softcapping={self.final_logit_softcapping} must be positive")
        if self.add_cross_attention and "sliding_attention" in (self.layer_types or []):
            raise ValueError(
                "layer_types: a decoder with add_cross_attention=True cannot have 'sliding_attention' layers, since "
                "transformers' caches would cut the source, too"
            )

    def _attention_modules(self) -> list[str]:
        return ["self_attn", "cross_attn"] if self.add_cross_attention else ["self_attn"]
