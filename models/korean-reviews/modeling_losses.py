"""Losses of all heads, in float32; cross-entropies with label smoothing (Szegedy et al. 2016, §7).

Where `num_items_in_batch` is given, the number of labels of a whole global batch, a loss is the sum divided by it; else
the mean over the labels here.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .modeling_scores import soft_cap


def labelled(labels: torch.Tensor, ignore_index: int = -100) -> torch.Tensor:
    """Which labels count, as a mask of their shape: all but `ignore_index`, or, of floating-point labels, all but NaN."""
    return ~labels.isnan() if labels.is_floating_point() else labels != ignore_index


def token_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
    **kwargs: Any,
) -> torch.Tensor:
    """Cross-entropy of `logits (..., vocab_size)` against as many `labels (...)` at the same positions.

    Args:
        num_items_in_batch: Divide the sum by this; else the mean is taken.
        label_smoothing: Probability spread evenly over the vocabulary.
        z_loss: Factor of `log² Z`, with Z what the softmax divides by, which is added to each label's loss and keeps
            logits from drifting: Chowdhery et al. 2023, §5.
        ignore_index: Labels with this value do not count.
    """
    labels = labels.to(logits.device, torch.long).reshape(-1)
    logits = logits.reshape(-1, vocab_size).float()
    loss = nn.functional.cross_entropy(
        logits, labels, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="sum"
    )
    if z_loss:
        loss = loss + z_loss * logits.logsumexp(dim=-1)[labelled(labels, ignore_index)].square().sum()
    return loss / (labelled(labels, ignore_index).sum() if num_items_in_batch is None else num_items_in_batch)


def next_labels(labels: Any, shift_labels: torch.Tensor | None = None, ignore_index: int = -100) -> torch.Tensor:
    """Each position's next label `(B, T)`, the last one's `ignore_index`; or `shift_labels`, which are shifted already."""
    if shift_labels is not None:
        return shift_labels
    return nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:].contiguous()


def next_token_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    shift_labels: torch.Tensor | None = None,
    ignore_index: int = -100,
    **kwargs: Any,
) -> torch.Tensor:
    """`token_cross_entropy` of each position against the next label, as `next_labels` has it."""
    labels = next_labels(labels, shift_labels, ignore_index)
    return token_cross_entropy(logits, labels, vocab_size, ignore_index=ignore_index, **kwargs)


class _LinearCrossEntropy(torch.autograd.Function):
    """`linear_cross_entropy`, and its gradients, which are computed along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        label_smoothing: float,
        z_loss: float,
        softcap: float | None,
        chunk: int,
        dtype: torch.dtype,
        items: torch.Tensor | float,
    ) -> torch.Tensor:
        wanted = ctx.needs_input_grad[:3]
        # chunks are summed in no less than float32
        of_states, of_weight, of_bias = (
            torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
            if tensor is not None and asked
            else None
            for tensor, asked in zip((states, weight, bias), wanted, strict=True)
        )
        inputs = (states, weight, bias)
        states, weight, bias = (None if each is None else each.to(dtype) for each in inputs)  # type: ignore[assignment]
        total = torch.zeros((), device=states.device)
        for start in range(0, len(states), chunk):
            rows = slice(start, start + chunk)
            logits = soft_cap(nn.functional.linear(states[rows], weight, bias).float(), softcap)
            at_label = labels[rows, None]
            own = logits.gather(-1, at_label)
            mean = logits.mean(dim=-1, keepdim=True) if label_smoothing else 0.0
            # of cap · tanh(x / cap): 1 - tanh²
            slope = None if softcap is None or not any(wanted) else 1 - (logits / softcap).square_()
            largest = logits.amax(dim=-1, keepdim=True)
            powers = logits.sub_(largest).exp_()
            z = powers.sum(dim=-1, keepdim=True)  # but for the factor exp(largest), which would overflow
            log_z = largest + z.log()
            losses = log_z - (1 - label_smoothing) * own - label_smoothing * mean
            if z_loss:
                losses += z_loss * log_z.square()
            total += losses.sum()
            if not any(wanted):
                continue
            # z times the gradient of the loss by the logits: powers / z is the softmax
            gradient = powers
            if z_loss:
                gradient *= 1 + 2 * z_loss * log_z
            if label_smoothing:
                gradient -= z * (label_smoothing / gradient.shape[-1])
            gradient.scatter_add_(-1, at_label, z * (label_smoothing - 1))
            if slope is not None:
                gradient *= slope
            z *= items
            if dtype != torch.float32:  # in float32 it is divided where there is less of it
                gradient, z = (gradient / z).to(dtype), torch.ones_like(z)
            if of_states is not None:
                of_states[rows] = (gradient @ weight) / z
            if of_weight is not None and of_weight.dtype == dtype:
                of_weight.addmm_(gradient.T, states[rows] / z.to(dtype))
            elif of_weight is not None:
                of_weight += gradient.T @ states[rows]
            if of_bias is not None:
                of_bias += (gradient / z).sum(dim=0)
        gradients = zip((of_states, of_weight, of_bias), inputs, strict=True)
        ctx.save_for_backward(*(None if each is None else each.to(of.dtype) for each, of in gradients))  # type: ignore[union-attr]
        return total / items

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:  # type: ignore[override]
        gradients = ctx.saved_tensors
        # where the graph is gone after this, they are given away as they are; a GPU would have to wait to be asked
        is_last = not torch._C._autograd._get_current_graph_task_keep_graph()  # type: ignore[attr-defined]
        is_one = gradient.device.type == "cpu" and not torch._C._functorch.is_batchedtensor(gradient) and gradient == 1
        if not (is_last and is_one):
            gradients = tuple(None if each is None else each * gradient.to(each.dtype) for each in gradients)
        return (*gradients, *[None] * 7)


def rows_at_a_time(vocab_size: int, device: torch.device) -> int:
    """How many positions' logits are computed at a time: a few megabytes of them on a processor, enough to keep a GPU busy,
    and so many that the gradient of the weight, to which each chunk adds, is not all that is read."""
    return max(128, (2**22 if device.type == "cpu" else 2**28) // vocab_size)


def linear_cross_entropy(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """`token_cross_entropy` of `soft_cap(hidden_states weightᵀ + bias)`, in chunks: the logits of all positions, which take
    more memory than all else where the vocabulary is large, are never there at once.

    Gradients are computed beside the loss, so that each chunk's logits are needed once; no second derivatives.

    Args:
        hidden_states: `(N, C)`.
        weight, bias: `(vocab_size, C)`, `(vocab_size,)`.
        labels: `(N,)`; all count.
        softcap: `soft_cap` of the logits.
            The rest: `token_cross_entropy`.
    """
    if not torch.is_grad_enabled():  # a function is not told
        hidden_states, weight, bias = hidden_states.detach(), weight.detach(), None if bias is None else bias.detach()
    device = hidden_states.device
    is_mixed = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if is_mixed else hidden_states.dtype
    items = len(labels) if num_items_in_batch is None else num_items_in_batch
    # gradients in half precision would vanish if they were divided before a scaler multiplies them
    items, later = (items, 1) if dtype == torch.float32 else (1, items)
    with torch.autocast(device.type, enabled=False):
        loss = _LinearCrossEntropy.apply(
            hidden_states,
            weight,
            bias,
            labels,
            label_smoothing,
            z_loss,
            softcap,
            rows_at_a_time(len(weight), device),
            dtype,
            items,
        )
    return loss / later


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
