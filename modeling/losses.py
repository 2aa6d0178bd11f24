"""Losses of all heads, in float32; cross-entropies with label smoothing (Szegedy et al. 2016, §7).

Where `num_items_in_batch` is given, the number of labels of a whole global batch, a loss is the sum divided by it; else
the mean over the labels here.
"""

from typing import Any

import torch
from torch import nn


def labelled(labels: torch.Tensor, ignore_index: int = -100) -> torch.Tensor:
    """Which labels count, as a mask of their shape: all but `ignore_index`, or, of floating-point labels, all but NaN."""
    return ~labels.isnan() if labels.is_floating_point() else labels != ignore_index


def token_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    **kwargs: Any,
) -> torch.Tensor:
    """Cross-entropy of `logits (..., vocab_size)` against as many `labels (...)` at the same positions.

    Args:
        num_items_in_batch: Divide the sum by this; else the mean is taken.
        label_smoothing: Probability spread evenly over the vocabulary.
        ignore_index: Labels with this value do not count.
    """
    labels = labels.to(logits.device, torch.long).reshape(-1)
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
    **kwargs: Any,
) -> torch.Tensor:
    """`token_cross_entropy` of each position against the next label; `shift_labels` are labels shifted already."""
    if shift_labels is None:
        shift_labels = nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:].contiguous()
    return token_cross_entropy(logits, shift_labels, vocab_size, ignore_index=ignore_index, **kwargs)


def span_cross_entropy(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    mask: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    **kwargs: Any,
) -> torch.Tensor:
    """Cross-entropy of where an answer starts and of where it ends: Devlin et al. 2019, §4.2.

    Args:
        start_logits, end_logits: `(B, T)`.
        start_positions, end_positions: `(B,)`; a position outside of `[0, T)`, or in padding, does not count.
        mask: `(B, T)`, False for padding, where no answer can be. Default: no padding.
        num_items_in_batch: Divide the sum by this, with starts and ends counted apart; else the mean of both means is
            taken.
        label_smoothing: Probability spread evenly over the tokens of a row.
    """
    if mask is None:
        mask = torch.ones_like(start_logits, dtype=torch.bool)
    total = torch.zeros((), device=start_logits.device)
    for logits, positions in ((start_logits, start_positions), (end_logits, end_positions)):
        positions = positions.to(logits.device).reshape(-1, 1)
        inside = positions.clamp(0, logits.shape[1] - 1)
        counted = (inside == positions) & mask.gather(1, inside)
        scores = logits.float().masked_fill(~mask, torch.finfo(torch.float32).min).log_softmax(dim=-1)
        even = scores.masked_fill(~mask, 0).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        losses = -(1 - label_smoothing) * scores.gather(1, inside) - label_smoothing * even
        losses = losses.masked_fill(~counted, 0).sum()
        total = total + losses / (2 * counted.sum() if num_items_in_batch is None else num_items_in_batch)
    return total


def infer_problem_type(labels: torch.Tensor, num_labels: int) -> str:
    """What kind of classification labels are for, as transformers infers it."""
    if num_labels == 1:
        return "regression"
    return "single_label_classification" if labels.dtype in (torch.long, torch.int) else "multi_label_classification"


def sequence_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    problem_type: str,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    **kwargs: Any,
) -> torch.Tensor:
    """The loss of sequence classification, `logits (B, num_labels)`.

    Args:
        labels: `(B,)` with `single_label_classification` (cross-entropy); `(B, num_labels)` of 0 and 1 with
            `multi_label_classification` (binary cross-entropy of each label); `(B, num_labels)` or `(B,)` with
            `regression` (squared error). `labelled` says which of them count.
        num_items_in_batch: Divide the sum by this; else the mean is taken. Every element of `labels` is an item.
        label_smoothing: Probability spread evenly over the classes, or over yes and no; without effect on regression.
    """
    if problem_type == "single_label_classification":
        return token_cross_entropy(
            logits, labels, logits.shape[-1], num_items_in_batch, label_smoothing, ignore_index=ignore_index
        )
    labels = labels.to(logits.device).reshape(logits.shape)
    counted = labelled(labels, ignore_index)
    targets = labels.float().masked_fill(~counted, 0)
    if problem_type == "multi_label_classification":
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
        losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    else:
        losses = nn.functional.mse_loss(logits.float(), targets, reduction="none")
    total = losses.masked_fill(~counted, 0).sum()
    return total / (counted.sum() if num_items_in_batch is None else num_items_in_batch)
