"""Encoded examples on the disk: made once, found again, and what is told of their rows."""

import datasets

from trefoil.data.encoded import count_in_lists, list_lengths


def test_list_lengths():
    dataset = datasets.Dataset.from_dict({"ids": [[1, 2], [], [3]]})
    assert list_lengths(dataset, "ids").tolist() == [2, 0, 1]
    assert list_lengths(dataset.select([2, 0]), "ids").tolist() == [1, 2]


def test_count_in_lists():
    dataset = datasets.Dataset.from_dict({"ids": [[1, 2], [], [3, 1, 1]]})
    assert [count_in_lists(dataset, "ids", value) for value in (1, 2, 4)] == [3, 1, 0]
    assert count_in_lists(dataset.select([1, 0]), "ids", 1) == 1
    assert count_in_lists(dataset.select([1]), "ids", 1) == 0
