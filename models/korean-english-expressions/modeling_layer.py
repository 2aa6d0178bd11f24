"""The layer: self-attention, optional cross-attention, feed-forward, each with its residual connection."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from .modeling_attention import MultiHeadAttention
from .modeling_dropout import Dropout
from .modeling_feed_forward import FeedForward
from .modeling_norms import make_norm


class TransformerLayer(GradientCheckpointingLayer):
    """One layer of a stack.

    Args:
        config: The stack's configuration.
        layer_idx: Index in the stack.
        is_causal: Whether self-attention only looks left.
        cross_attention_size: Width of the encoder's hidden states, for cross-attention; None for no cross-attention.
    """

    def __init__(
        self, config: PreTrainedConfig, layer_idx: int, is_causal: bool, cross_attention_size: int | None = None
    ) -> None:
        super().__init__()
        self.attention_type = config.layer_types[layer_idx]
        self.norm_position = config.norm_position
        self.self_attn = MultiHeadAttention(config, layer_idx, is_causal)
        self._add_norms(config, "self_attn", skip_first=config.skip_first_norm and layer_idx == 0)
        self.cross_attn = None
        if cross_attention_size is not None:
            self.cross_attn = MultiHeadAttention(config, layer_idx, key_value_size=cross_attention_size)
            self._add_norms(config, "cross_attn")
        self.mlp = FeedForward(config)
        self._add_norms(config, "mlp")
        self.dropout = Dropout(config.hidden_dropout)
        self._set_initial_std(config)

    def _set_initial_std(self, config: PreTrainedConfig) -> None:
        """`std_factor` of each matrix that writes to the residual stream, for `_init_weights`."""
        outputs = [self.self_attn.o_proj, self.mlp.down_proj]
        if self.cross_attn is not None:
            outputs.append(self.cross_attn.o_proj)
        factors = {"normal": 1.0, "scaled": (len(outputs) * config.num_hidden_layers) ** -0.5, "zero": 0.0}
        for projection in outputs:
            projection.std_factor = factors[config.residual_init]  # type: ignore[assignment]

    def _add_norms(self, config: PreTrainedConfig, sublayer: str, skip_first: bool = False) -> None:
        """A sublayer's norm and, where it stands between two, its other one."""
        setattr(self, f"{sublayer}_norm", None if skip_first else make_norm(config))
        if self.norm_position == "sandwich":
            setattr(self, f"{sublayer}_output_norm", make_norm(config))

    def _residual(self, hidden_states: torch.Tensor, name: str, sublayer: Callable) -> torch.Tensor:
        """The order of residual and norm, for every sublayer.

        | `norm_position` | | |
        |---|---|---|
        | `pre` | `x + sublayer(norm(x))` | Xiong et al. 2020, figure 1b |
        | `post` | `norm(x + sublayer(x))` | Vaswani et al. 2017, figure 1 |
        | `output` | `x + norm(sublayer(x))` | OLMo et al. 2025, §3.2 |
        | `sandwich` | `x + output_norm(sublayer(norm(x)))` | Ding et al. 2021, §2.2; Gemma 2 |
        """
        norm = getattr(self, name + "_norm")
        normed_first = self.norm_position in ("pre", "sandwich") and norm is not None
        output = sublayer(norm(hidden_states) if normed_first else hidden_states)
        if self.norm_position == "output":
            output = norm(output)
        elif self.norm_position == "sandwich":
            output = getattr(self, name + "_output_norm")(output)
        if self.dropout.training:
            output = self.dropout(output)
        return norm(hidden_states + output) if self.norm_position == "post" else hidden_states + output

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        attention: Callable | None = None,
        cross_attention: Callable | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`(B, T, C)` to `(B, T, C)`; the masks are ready for the attention implementation.

        Args:
            position_embeddings: Of positions that are applied to queries and keys.
            position_bias: `(1, H, T, S)`, added to the scores of self-attention.
            attention, cross_attention: `attention_function` for each, where it was asked for before.
        """
        self_cache = past_key_values
        if isinstance(past_key_values, EncoderDecoderCache):
            self_cache = past_key_values.self_attention_cache

        def attend_to_self(states: torch.Tensor) -> torch.Tensor:
            return self.self_attn(
                states,
                attention_mask=attention_mask,
                position_embeddings=position_embeddings,
                past_key_values=self_cache,
                position_bias=position_bias,
                attention=attention,
                **kwargs,
            )[0]

        def attend_to_source(states: torch.Tensor) -> torch.Tensor:
            return self.cross_attn(  # type: ignore[misc]  # not None where this is called
                states,
                key_value_states=encoder_hidden_states,
                attention_mask=encoder_attention_mask,
                past_key_values=past_key_values,
                attention=cross_attention,
                **(kwargs | {"is_causal": False}),
            )[0]

        hidden_states = self._residual(hidden_states, "self_attn", attend_to_self)
        if self.cross_attn is not None and encoder_hidden_states is not None:
            hidden_states = self._residual(hidden_states, "cross_attn", attend_to_source)
        return self._residual(hidden_states, "mlp", self.mlp)
