"""Attention: the one implementation that every family uses.

Shapes: B batch, T query length, S key/value length, H query heads, G key/value heads, D head width, C hidden size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .modeling_dropout import drop
from .modeling_norms import make_rms_norm
from .modeling_positions import POSITION_CLASSES, Positions, QueryKeyPositions
from .modeling_scores import attention_weights, soft_cap


def attention_function(config: PreTrainedConfig) -> Callable:
    """What the configuration's attention implementation computes attention by."""
    return ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention_forward)


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`softmax(Q Kᵀ / √D) V`: Vaswani et al. 2017, §3.2.1, equation 1.

    Args:
        query: `(..., T, D)`.
        key: `(..., S, D)`.
        value: `(..., S, D')`.
        mask: Broadcastable to `(..., T, S)`. Boolean: True where a query may look; floating: added to the scores.
        scaling: Factor on the scores. Default: `1 / √D`.
        dropout: Probability of dropping an attention weight; pass 0 outside of training.
        position_bias: Broadcastable to `(..., T, S)`, added to the scores (relative positions).
        softcap: `soft_cap` of the scores, before anything is added to them.

    Returns:
        The output `(..., T, D')` and the attention weights `(..., T, S)`, each row of which sums to one
        (before dropout). The softmax runs in float32; both results have the query's dtype.
    """
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    scores = soft_cap(torch.matmul(query, key.transpose(-2, -1)) * scaling, softcap)
    if position_bias is not None:
        scores = scores + position_bias
    weights = attention_weights(scores, mask).to(query.dtype)
    weights = drop(weights, dropout)
    return torch.matmul(weights, value), weights


def repeat_key_value_heads(states: torch.Tensor, groups: int) -> torch.Tensor:
    """Let `groups` query heads share each key/value head: `(B, G, S, D)` to `(B, G * groups, S, D)`."""
    return states if groups == 1 else states.repeat_interleave(groups, dim=1)


def eager_attention_forward(
    module: "MultiHeadAttention",
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Our equation behind transformers' attention interface: `(B, H, T, D)` in, `(B, T, H, D)` out."""
    key = repeat_key_value_heads(key, module.num_key_value_groups)
    value = repeat_key_value_heads(value, module.num_key_value_groups)
    output, weights = scaled_dot_product_attention(
        query, key, value, attention_mask, scaling, dropout, position_bias, softcap
    )
    return output.transpose(1, 2).contiguous(), weights


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, §3.2.2) for self-attention and, given `key_value_states`,
    cross-attention (§3.2.3); with fewer key/value heads than query heads it is grouped (Ainslie et al. 2023).

    Args:
        config: The stack's configuration.
        layer_idx: This layer's place in the stack and in the key/value cache.
        is_causal: Whether a query only looks left where no mask is given.
        key_value_size: Width of `key_value_states`, for cross-attention; None for self-attention.
    """

    def __init__(
        self, config: PreTrainedConfig, layer_idx: int, is_causal: bool = False, key_value_size: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.query_pre_attn_scalar**-0.5
        self.softcap = config.attn_logit_softcapping
        self.attention_dropout = config.attention_dropout
        self.sliding_window = None
        if key_value_size is None and config.layer_types[layer_idx] == "sliding_attention":
            # a causal window counts the query's own token, a bidirectional one does not; kernels want it counted
            self.sliding_window = config.sliding_window + (0 if is_causal else 1)

        self.turn: Callable | None = None
        positions: type = POSITION_CLASSES.get(config.position_embedding_type, Positions)
        turned = config.no_rope_layers is None or config.no_rope_layers[layer_idx]
        if turned and issubclass(positions, QueryKeyPositions):
            self.turn = positions.turn

        query_size = config.num_attention_heads * config.head_dim
        shared_size = config.num_key_value_heads * config.head_dim
        key_value_size = key_value_size or config.hidden_size
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=config.attention_bias)
        self.k_proj = nn.Linear(key_value_size, shared_size, bias=config.attention_bias)
        self.v_proj = nn.Linear(key_value_size, shared_size, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=config.attention_output_bias)
        self.norm_projections = config.qk_norm == "projection"
        self.q_norm = self.k_norm = None
        if config.qk_norm != "none":
            sizes = (query_size, shared_size) if self.norm_projections else (config.head_dim, config.head_dim)
            self.q_norm, self.k_norm = (make_rms_norm(config, size) for size in sizes)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:-1], -1, self.head_dim).transpose(1, 2)

    def _normed_heads(self, states: torch.Tensor, norm: nn.Module | None) -> torch.Tensor:
        """Queries or keys: each head normed (Henry et al. 2020; Qwen3), or all of them together (OLMo 2)."""
        if norm is None:
            return self._split_heads(states)
        return self._split_heads(norm(states)) if self.norm_projections else norm(self._split_heads(states))

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        attention: Callable | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states: `(B, T, C)`; the queries come from here.
            key_value_states: `(B, S, key_value_size)` for cross-attention; else keys and values come from
                `hidden_states`.
            attention_mask: As `transformers.masking_utils` makes it for the attention implementation.
            position_embeddings: For positions that are applied to queries and keys, such as rotary cosines and sines;
                self-attention only.
            past_key_values: The cache; self-attention appends to it, cross-attention fills it once.
            attention: `attention_function` of the configuration, where it was asked for before.
            kwargs: For the attention implementation, such as `position_bias (B or 1, H, T, S)`.

        Returns:
            Output `(B, T, C)`, and attention weights `(B, H, T, S)` where the implementation gives them.
        """
        query = self._normed_heads(self.q_proj(hidden_states), self.q_norm)
        if key_value_states is None:
            key, value = self._self_key_value(hidden_states, past_key_values, position_embeddings)
            if self.turn is not None and position_embeddings is not None:
                query = self.turn(query, *position_embeddings)
        else:
            key, value = self._cross_key_value(key_value_states, past_key_values)

        output, weights = (attention or attention_function(self.config))(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            softcap=self.softcap,
            **kwargs,
        )
        return self.o_proj(output.reshape(*hidden_states.shape[:-1], -1)), weights

    def _project_key_value(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._normed_heads(self.k_proj(states), self.k_norm), self._split_heads(self.v_proj(states))

    def _self_key_value(
        self,
        states: torch.Tensor,
        past_key_values: Cache | None,
        position_embeddings: tuple[torch.Tensor, ...] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = self._project_key_value(states)
        if self.turn is not None and position_embeddings is not None:
            key = self.turn(key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        return key, value

    def _cross_key_value(
        self, states: torch.Tensor, past_key_values: Cache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # a cache that is not an EncoderDecoderCache has no room for the encoder's keys and values
        if not isinstance(past_key_values, EncoderDecoderCache):
            return self._project_key_value(states)
        cache = past_key_values.cross_attention_cache
        if past_key_values.is_updated.get(self.layer_idx):
            return cache.layers[self.layer_idx].keys, cache.layers[self.layer_idx].values
        key, value = cache.update(*self._project_key_value(states), self.layer_idx)
        past_key_values.is_updated[self.layer_idx] = True
        return key, value
