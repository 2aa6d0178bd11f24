"""Normalisation."""

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig


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


def make_norm(config: PreTrainedConfig, size: int | None = None) -> nn.Module:
    """The configured norm over the last dimension, by default `hidden_size`."""
    size = size or config.hidden_size
    if config.norm_type == "rms_norm":
        return RMSNorm(size, config.norm_eps)
    return nn.LayerNorm(size, config.norm_eps, bias=config.norm_bias)
