"""Batches by token budget: which examples make a step is a pure function of (seed, epoch, position)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from .encoded import Examples

POOL_BATCHES = 64  # so many batches' worth of shuffled examples are sorted by length together


def plan_epoch(lengths: np.ndarray, tokens_per_batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Global batches of one epoch: every example once, examples of like length together, in a random order.

    Args:
        lengths: `(examples, sides)`, tokens of each side (source and target, or one).
        tokens_per_batch: At most so many tokens, padding included, over all sides.
        seed, epoch: The order depends on these alone, not on the number of processes.

    Returns:
        One array of example indices for each optimiser step.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    mean_tokens = max(1.0, float(lengths.sum(axis=1).mean()))
    pool = max(1, int(POOL_BATCHES * tokens_per_batch / mean_tokens))
    batches = []
    for start in range(0, len(order), pool):
        indices = order[start : start + pool]
        keys = tuple(lengths[indices, side] for side in range(lengths.shape[1]))
        batches += _cut(indices[np.lexsort(keys)], lengths, tokens_per_batch)
    return [batches[position] for position in random.permutation(len(batches))]


def plan_in_order(lengths: np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Batches for evaluation: every example once, longest first, so that memory runs out at once or never."""
    order = np.lexsort(tuple(lengths[:, side] for side in range(lengths.shape[1])))[::-1]
    return _cut(order, lengths, tokens_per_batch)


def _cut(order: np.ndarray, lengths: np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    batches, start = [], 0
    while start < len(order):
        fits_at_most = tokens_per_batch // max(1, int(lengths[order[start]].sum())) + 1
        longest = np.maximum.accumulate(lengths[order[start : start + fits_at_most]], axis=0)
        tokens = longest.sum(axis=1, dtype=np.int64) * np.arange(1, len(longest) + 1)
        size = max(1, int(np.searchsorted(tokens, tokens_per_batch, side="right")))
        batches.append(order[start : start + size])
        start += size
    return batches


@dataclass(frozen=True)
class Share:
    """What one process takes of each global batch.

    Args:
        rank, world_size: This process among all.
        accumulation: Forward passes for each optimiser step, the same on every process.
    """

    rank: int = 0
    world_size: int = 1
    accumulation: int = 1

    def of(self, batch: np.ndarray) -> list[np.ndarray]:
        """`accumulation` disjoint parts, possibly empty; over all processes they are the batch."""
        parts = self.world_size * self.accumulation
        return [batch[self.rank + step * self.world_size :: parts] for step in range(self.accumulation)]


class Batches(Protocol):
    """What makes tensors of encoded examples."""

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def randomize(self, rows: dict[str, list], indices: np.ndarray, epoch: int) -> dict[str, list]: ...

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]: ...


class StepDataset(Dataset):
    """Item i: the collated micro-batches of step i of an epoch, for one process."""

    def __init__(self, batches: Batches, examples: Examples, plan: list[np.ndarray], share: Share, epoch: int) -> None:
        self.batches, self.examples, self.plan, self.share, self.epoch = batches, examples, plan, share, epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, position: int) -> list[dict]:
        batch = self.plan[position]
        micro_batches = []
        for part in self.share.of(batch):
            # a process without examples still takes part in the step, with one that does not count
            indices = part if len(part) else batch[:1]
            rows = self.batches.randomize(self.examples[indices], indices, self.epoch)
            collated = self.batches.collate(rows)
            if not len(part):
                for name in self.batches.label_names:
                    labels = collated[name]
                    labels.fill_(float("nan") if labels.is_floating_point() else -100)
            micro_batches.append(collated)
        return micro_batches

    def __iter__(self) -> Iterator[list[dict]]:
        return (self[position] for position in range(len(self)))
