"""The feed-forward sublayer, plain or gated."""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

from .modeling_dropout import Dropout


class FeedForward(nn.Module):
    """`act(x W_up) W_down` (Vaswani et al. 2017, §3.3), or gated: `(act(x W_gate) * x W_up) W_down` (Shazeer 2020).

    Args:
        config: The stack's configuration.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        size, inner_size, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(size, inner_size, bias=bias) if config.is_gated_act else None
        self.up_proj = nn.Linear(size, inner_size, bias=bias)
        self.down_proj = nn.Linear(inner_size, size, bias=bias)
        self.act_fn = ACT2FN[config.hidden_act]
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, C)` to `(B, T, C)`."""
        up = self.up_proj(hidden_states)
        inner = self.act_fn(up) if self.gate_proj is None else self.act_fn(self.gate_proj(hidden_states)) * up
        return self.down_proj(self.dropout(inner) if self.dropout.training else inner)
