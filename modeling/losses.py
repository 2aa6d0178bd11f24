"""Losses of the language-modelling heads: cross-entropy with label smoothing (Szegedy et al. 2016, §7)."""

import torch
from torch import nn


def token_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    **kwargs,
) -> torch.Tensor:
    """Cross-entropy of `logits (B, T, vocab_size)` against `labels (B, T)` at the same positions, in float32.

    Args:
        num_items_in_batch: Divide the sum by this, the number of labels of a whole global batch; else the mean is
            taken over the labels here.
        label_smoothing: Probability spread evenly over the vocabulary.
        ignore_index: Labels with this value do not count.
    """
    labels = labels.to(logits.device).reshape(-1)
    loss = nn.functional.cross_entropy(
        logits.reshape(-1, vocab_size).float(),
        labels,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="mean" if num_items_in_batch is None else "sum",
    )
    return loss if num_items_in_batch is None else loss / num_items_in_batch


def next_token_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    shift_labels: torch.Tensor | None = None,
    ignore_index: int = -100,
    **kwargs,
) -> torch.Tensor:
    """`token_cross_entropy` of each position against the next label; `shift_labels` are labels shifted already."""
    if shift_labels is None:
        shift_labels = nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:].contiguous()
    return token_cross_entropy(logits, shift_labels, vocab_size, ignore_index=ignore_index, **kwargs)
