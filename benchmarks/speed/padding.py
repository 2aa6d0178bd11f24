"""How much of what is computed on real texts is padding: batches of ours and of transformers' Trainer."""

from pathlib import Path

import numpy as np
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from .texts import prepared


def share(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    """Of all tokens of batches, sides apart, those that are padding."""
    padded = sum(int((lengths[batch].max(axis=0) * len(batch)).sum()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded


def measure(folders: dict[str, Path]) -> dict[str, list[float]]:
    """Of each data set: the shares of our batches, and of the Trainer's with 8 rows at random, 8 and 64 by length."""
    found = {}
    for name, folder in folders.items():
        ready, loop = prepared(name, folder)
        lengths = ready.preprocessor.lengths(ready.splits["train"].examples)
        generator = torch.Generator().manual_seed(0)
        random = torch.randperm(len(lengths), generator=generator).numpy()
        by_length = {
            rows: np.array(get_length_grouped_indices(lengths.sum(axis=1).tolist(), rows, generator=generator))
            for rows in (8, 64)
        }
        orders = [(random, 8), (by_length[8], 8), (by_length[64], 64)]
        theirs = [[order[at : at + rows] for at in range(0, len(order), rows)] for order, rows in orders]
        found[name] = [share(batches, lengths) for batches in (loop.data.plan(0), *theirs)]
    return found
