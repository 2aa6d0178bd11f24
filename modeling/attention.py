"""Attention: the one implementation that every family uses.

Shapes: B batch, T query length, S key/value length, H query heads, G key/value heads, D head width, C hidden size.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .norms import RMSNorm
from .positions import apply_rotary_positions


def attention_weights(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The softmax of scores `(..., T, S)` over the keys, in float32.

    Args:
        mask: Broadcastable to the scores. Boolean: True where a query may look; floating: added to them.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    return nn.functional.softmax(scores, dim=-1, dtype=torch.float32)


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
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

    Returns:
        The output `(..., T, D')` and the attention weights `(..., T, S)`, each row of which sums to one
        (before dropout). The softmax runs in float32; both results have the query's dtype.
    """
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    scores = torch.matmul(query, key.transpose(-2, -1)) * scaling
    if position_bias is not None:
        scores = scores + position_bias
    weights = attention_weights(scores, mask).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout)
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
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Our equation behind transformers' attention interface: `(B, H, T, D)` in, `(B, T, H, D)` out."""
    key = repeat_key_value_heads(key, module.num_key_value_groups)
    value = repeat_key_value_heads(value, module.num_key_value_groups)
    output, weights = scaled_dot_product_attention(query, key, value, attention_mask, scaling, dropout, position_bias)
    return output.transpose(1, 2).contiguous(), weights


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, §3.2.2) for self-attention and, given `key_value_states`,
    cross-attention (§3.2.3); with fewer key/value heads than query heads it is grouped (Ainslie et al. 2023).

    Args:
        config: Only asked for the attention implementation, which may change after construction.
        layer_idx: This layer's place in the key/value cache.
        hidden_size: C, the width of queries and output.
        num_heads: H.
        num_key_value_heads: G; divides H.
        head_dim: D.
        bias: Biases on the query, key and value projections.
        output_bias: A bias on the output projection.
        dropout: Probability of dropping an attention weight in training.
        is_causal: Whether a query only looks left where no mask is given.
        key_value_size: Width of `key_value_states`. Default: C.
        scaled: Whether scores are divided by `√D`.
        qk_norm_eps: Normalise the queries and keys of each head, with this eps; None for no norm.
        sliding_window: For kernels that know no mask: how many keys to each side are seen, with the query's own.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        layer_idx: int,
        hidden_size: int,
        num_heads: int,
        num_key_value_heads: int,
        head_dim: int,
        bias: bool = False,
        output_bias: bool = False,
        dropout: float = 0.0,
        is_causal: bool = False,
        key_value_size: int | None = None,
        scaled: bool = True,
        qk_norm_eps: float | None = None,
        sliding_window: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = head_dim
        self.num_key_value_groups = num_heads // num_key_value_heads
        self.scaling = head_dim**-0.5 if scaled else 1.0
        self.sliding_window = sliding_window
        self.attention_dropout = dropout
        self.is_causal = is_causal
        key_value_size = key_value_size or hidden_size
        self.q_proj = nn.Linear(hidden_size, num_heads * head_dim, bias=bias)
        self.k_proj = nn.Linear(key_value_size, num_key_value_heads * head_dim, bias=bias)
        self.v_proj = nn.Linear(key_value_size, num_key_value_heads * head_dim, bias=bias)
        self.o_proj = nn.Linear(num_heads * head_dim, hidden_size, bias=output_bias)
        self.q_norm = nn.Identity() if qk_norm_eps is None else RMSNorm(head_dim, qk_norm_eps)
        self.k_norm = nn.Identity() if qk_norm_eps is None else RMSNorm(head_dim, qk_norm_eps)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:-1], -1, self.head_dim).transpose(1, 2)

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states: `(B, T, C)`; the queries come from here.
            key_value_states: `(B, S, key_value_size)` for cross-attention; else keys and values come from
                `hidden_states`.
            attention_mask: As `transformers.masking_utils` makes it for the attention implementation.
            position_embeddings: Cosines and sines for rotary positions; self-attention only.
            past_key_values: The cache; self-attention appends to it, cross-attention fills it once.
            kwargs: For the attention implementation, such as `position_bias (B or 1, H, T, S)`.

        Returns:
            Output `(B, T, C)`, and attention weights `(B, H, T, S)` where the implementation gives them.
        """
        query = self.q_norm(self._split_heads(self.q_proj(hidden_states)))
        if key_value_states is None:
            key, value = self._self_key_value(hidden_states, past_key_values, position_embeddings)
            if position_embeddings is not None:
                query = apply_rotary_positions(query, *position_embeddings)
        else:
            key, value = self._cross_key_value(key_value_states, past_key_values)

        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attention(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        return self.o_proj(output.reshape(*hidden_states.shape[:-1], -1)), weights

    def _project_key_value(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.k_norm(self._split_heads(self.k_proj(states))), self._split_heads(self.v_proj(states))

    def _self_key_value(
        self,
        states: torch.Tensor,
        past_key_values: Cache | None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = self._project_key_value(states)
        if position_embeddings is not None:
            key = apply_rotary_positions(key, *position_embeddings)
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
