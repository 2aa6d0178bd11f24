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

    def normalize(self, hidden_states: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """In float32, by default without a weight."""
        return nn.functional.rms_norm(hidden_states.float(), self.weight.shape, weight, self.eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if hidden_states.dtype == self.weight.dtype == torch.float32:
            return self.normalize(hidden_states, self.weight)
        return self.weight * self.normalize(hidden_states).to(hidden_states.dtype)


class ZeroCenteredRMSNorm(RMSNorm):
    """`x / sqrt(mean(x²) + eps) * (1 + weight)`, whose weight starts at zero: Gemma. Computed in float32, weight included."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__(hidden_size, eps)
        nn.init.zeros_(self.weight)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.normalize(hidden_states, 1 + self.weight.float()).to(hidden_states.dtype)


def make_rms_norm(config: PreTrainedConfig, size: int) -> RMSNorm:
    """An RMSNorm over the last dimension, of the configured kind where that is one."""
    norm_class = ZeroCenteredRMSNorm if config.norm_type == "zero_centered_rms_norm" else RMSNorm
    return norm_class(size, config.norm_eps)


def make_norm(config: PreTrainedConfig, size: int | None = None) -> nn.Module:
    """The configured norm over the last dimension, by default `hidden_size`."""
    size = size or config.hidden_size
    if config.norm_type == "layer_norm":
        return nn.LayerNorm(size, config.norm_eps, bias=config.norm_bias)
    return make_rms_norm(config, size)
