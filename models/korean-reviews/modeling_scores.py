"""Scores, of keys or of words: a cap that they stay below, and their softmax."""

import torch
from torch import nn


def soft_cap(values: torch.Tensor, cap: float | None) -> torch.Tensor:
    """`cap · tanh(values / cap)`, which lies in `(-cap, cap)`: Bello et al. 2017, §5.1; Gemma 2. None: no cap."""
    return values if cap is None else cap * torch.tanh(values / cap)


def attention_weights(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The softmax of scores `(..., T, S)` over the keys, in float32.

    Args:
        mask: Broadcastable to the scores. Boolean: True where a query may look; floating: added to them.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    return nn.functional.softmax(scores, dim=-1, dtype=torch.float32)
