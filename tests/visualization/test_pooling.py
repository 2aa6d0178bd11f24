"""Cells of several tokens, against their definition."""

import pytest
import torch

from trefoil.visualization.pooling import block_of, pooled


@pytest.mark.parametrize("block", [(1, 1), (2, 3), (3, 2), (4, 5), (7, 11), (9, 9)])
def test_a_cell_has_the_mean_and_the_largest_of_what_it_holds(block):
    weights = torch.rand(7, 11)
    mean, largest = pooled(weights, block)
    rows, columns = weights.split(block[0]), [part.split(block[1], dim=1) for part in weights.split(block[0])]
    assert mean.shape == largest.shape == (len(rows), len(columns[0]))
    torch.testing.assert_close(mean, torch.stack([torch.stack([cell.mean() for cell in row]) for row in columns]))
    assert torch.equal(largest, torch.stack([torch.stack([cell.max() for cell in row]) for row in columns]))


@pytest.mark.parametrize(
    ("queries", "keys", "most", "block"),
    [(64, 3, 64, (1, 1)), (65, 3, 64, (2, 1)), (512, 100, 64, (8, 2)), (5, 5, 1, (5, 5))],
)
def test_blocks_are_as_small_as_can_be(queries, keys, most, block):
    assert block_of(queries, keys, most) == block
