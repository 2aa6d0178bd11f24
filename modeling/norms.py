"""Normalisation."""

import torch
from torch import nn


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x²) + eps) * weight`: Zhang & Sennrich 2019, equation 4. Computed in float32."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        states = hidden_states.float()
        states = states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * states.to(hidden_states.dtype)


NORMS = {"rms_norm": RMSNorm, "layer_norm": nn.LayerNorm}


def make_norm(norm_type: str, hidden_size: int, eps: float) -> nn.Module:
    """A norm over the last dimension by its configuration name."""
    return NORMS[norm_type](hidden_size, eps=eps)
