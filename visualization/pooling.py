"""Attention of many tokens in few cells."""

import math

import torch
from torch.nn.functional import pad

Block = tuple[int, int]  # tokens that a cell holds: queries, keys


def block_of(queries: int, keys: int, most: int) -> Block:
    """The smallest blocks with which a map has at most so many cells a side."""
    return math.ceil(queries / most), math.ceil(keys / most)


def pooled(weights: torch.Tensor, block: Block) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the largest of the weights in each cell.

    Args:
        weights: `(queries, keys)`, none negative.
        block: The last cells hold what is left.

    Returns:
        Twice `(ceil(queries / block[0]), ceil(keys / block[1]))`.
    """

    def in_blocks(matrix: torch.Tensor) -> torch.Tensor:
        down, across = block
        whole = pad(matrix, (0, -matrix.shape[1] % across, 0, -matrix.shape[0] % down))
        return whole.unflatten(1, (-1, across)).unflatten(0, (-1, down))

    cells = in_blocks(weights)
    return cells.sum(dim=(1, 3)) / in_blocks(torch.ones_like(weights)).sum(dim=(1, 3)), cells.amax(dim=(1, 3))
