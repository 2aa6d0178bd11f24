"""The layer: self-attention, optional cross-attention, feed-forward, each with its residual connection."""

from collections.abc import Callable

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import MultiHeadAttention
from .feed_forward import FeedForward
from .norms import make_norm


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

        def attention(
            causal: bool, key_value_size: int | None = None, sliding_window: int | None = None
        ) -> MultiHeadAttention:
            return MultiHeadAttention(
                config,
                layer_idx,
                hidden_size=config.hidden_size,
                num_heads=config.num_attention_heads,
                num_key_value_heads=config.num_key_value_heads,
                head_dim=config.head_dim,
                bias=config.attention_bias,
                output_bias=config.attention_output_bias,
                dropout=config.attention_dropout,
                is_causal=causal,
                key_value_size=key_value_size,
                scaled=config.scale_attention,
                qk_norm_eps=config.norm_eps if config.qk_norm else None,
                sliding_window=sliding_window,
            )

        self.attention_type = config.layer_types[layer_idx]
        window = config.sliding_window if self.attention_type == "sliding_attention" else None
        self.pre_norm = config.norm_position == "pre"
        # a causal window counts the query's own token, a bidirectional one does not; kernels want it counted
        self.self_attn = attention(is_causal, sliding_window=window if window is None or is_causal else window + 1)
        skip_norm = config.skip_first_norm and layer_idx == 0
        self.self_attn_norm = nn.Identity() if skip_norm else make_norm(config)
        self.cross_attn = None
        if cross_attention_size is not None:
            self.cross_attn = attention(False, key_value_size=cross_attention_size)
            self.cross_attn_norm = make_norm(config)
        self.mlp = FeedForward(
            config.hidden_size,
            config.intermediate_size,
            config.hidden_act,
            gated=config.is_gated_act,
            bias=config.mlp_bias,
            dropout=config.activation_dropout,
        )
        self.mlp_norm = make_norm(config)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def _residual(self, hidden_states: torch.Tensor, norm: nn.Module, sublayer: Callable) -> torch.Tensor:
        """The order of residual and norm, for every sublayer: `x + sublayer(norm(x))` (pre; Xiong et al. 2020,
        figure 1b) or `norm(x + sublayer(x))` (post; Vaswani et al. 2017, figure 1)."""
        if self.pre_norm:
            return hidden_states + self.dropout(sublayer(norm(hidden_states)))
        return norm(hidden_states + self.dropout(sublayer(hidden_states)))

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """`(B, T, C)` to `(B, T, C)`; the masks are ready for the attention implementation.

        Args:
            position_embeddings: For rotary positions.
            position_bias: `(1, H, T, S)`, added to the scores of self-attention.
        """
        self_cache = past_key_values
        if isinstance(past_key_values, EncoderDecoderCache):
            self_cache = past_key_values.self_attention_cache

        def self_attention(states: torch.Tensor) -> torch.Tensor:
            return self.self_attn(
                states,
                attention_mask=attention_mask,
                position_embeddings=position_embeddings,
                past_key_values=self_cache,
                position_bias=position_bias,
                **kwargs,
            )[0]

        def cross_attention(states: torch.Tensor) -> torch.Tensor:
            return self.cross_attn(  # type: ignore[misc]  # not None where this is called
                states,
                key_value_states=encoder_hidden_states,
                attention_mask=encoder_attention_mask,
                past_key_values=past_key_values,
                **(kwargs | {"is_causal": False}),
            )[0]

        hidden_states = self._residual(hidden_states, self.self_attn_norm, self_attention)
        if self.cross_attn is not None and encoder_hidden_states is not None:
            hidden_states = self._residual(hidden_states, self.cross_attn_norm, cross_attention)
        return self._residual(hidden_states, self.mlp_norm, self.mlp)
