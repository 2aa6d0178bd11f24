"""The feed-forward sublayer, plain or gated."""

import torch
from torch import nn
from transformers.activations import ACT2FN


class FeedForward(nn.Module):
    """`act(x W_up) W_down` (Vaswani et al. 2017, §3.3), or gated: `(act(x W_gate) * x W_up) W_down` (Shazeer 2020).

    Args:
        hidden_size: Width of input and output `(B, T, hidden_size)`.
        intermediate_size: Width between the projections.
        hidden_act: Name of the activation.
        gated: Whether to gate.
        bias: Biases on the projections.
        dropout: Dropout after the activation.
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, hidden_act: str, gated: bool, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=bias) if gated else None
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)
        self.act_fn = ACT2FN[hidden_act]
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        up = self.up_proj(hidden_states)
        inner = self.act_fn(up) if self.gate_proj is None else self.act_fn(self.gate_proj(hidden_states)) * up
        return self.down_proj(self.dropout(inner))
