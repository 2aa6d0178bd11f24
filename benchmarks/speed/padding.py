"""How much of what is computed on real texts is padding: batches of ours and of transformers' Trainer."""

from pathlib import Path

import numpy as np
import torch

from .texts import PEERS, batches_of_trainer, prepared


def share(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    """Of all tokens of batches, sides apart, those that are padding."""
    padded = sum(int((lengths[batch].max(axis=0) * len(batch)).sum()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded


def measure(folders: dict[str, Path]) -> dict[str, list[float]]:
    """Of each data set: the shares of our batches, and of the Trainer's as each of `PEERS` makes them."""
    found = {}
    for name, folder in folders.items():
        ready, loop = prepared(name, folder)
        lengths = ready.preprocessor.lengths(ready.splits["train"].examples)
        generator = torch.Generator().manual_seed(0)
        theirs = [
            batches_of_trainer(lengths.sum(axis=1), sampling, rows, generator) for sampling, rows, _ in PEERS.values()
        ]
        found[name] = [share(batches, lengths) for batches in (loop.data.plan(0), *theirs)]
    return found
