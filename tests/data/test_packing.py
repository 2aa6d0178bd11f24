"""Rows of packed documents, as they would be if everything lay in one list."""

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, concatenate_datasets

from trefoil.data.packing import PackedRows

DOCUMENTS = [[1, 2, 3, 4, 5, 6, 7], None, [8, 9], [], [10, 11, 12, 13, 14, 15, 16, 17, 18], [19, 20, 21, 22, 23]]


def packed(documents=DOCUMENTS, **options):
    examples = Dataset.from_dict({"input_ids": documents}, Features({"input_ids": List(Value("int32"))}))
    return PackedRows(examples, ["input_ids"], **options)


def joined(rows, name):
    return np.concatenate(rows[:][name]).tolist()


@pytest.mark.parametrize("stride", [3, 5])
def test_every_token_is_a_label_once_whatever_the_overlap(stride):
    rows = packed([list(range(1, 25))], length=5, stride=stride, shifted=True)
    labels = joined(rows, "labels")
    assert sorted(label for label in labels if label != -100) == list(range(2, 25))
    assert all(len(row) == 5 for row in rows[:]["input_ids"][:-1])
    for inputs, of_row in zip(rows[:]["input_ids"], rows[:]["labels"], strict=True):
        assert ((of_row == -100) | (of_row == inputs + 1)).all()
    for of_row in rows[:]["labels"][1:]:
        assert (of_row[: 5 - stride] == -100).all()


def test_documents_stay_apart_and_invalid_ones_are_nothing():
    rows = packed(length=4)
    assert joined(rows, "input_ids") == list(range(1, 24))
    assert joined(rows, "sequence_ids") == [0] * 7 + [1] * 2 + [2] * 9 + [3] * 5
    assert joined(rows, "pieces") == [0] * 7 + [2] * 2 + [4] * 9 + [5] * 5
    shifted = packed(length=4, shifted=True)
    assert joined(shifted, "input_ids") == [1, 2, 3, 4, 5, 6, 8, *range(10, 18), 19, 20, 21, 22]
    assert joined(shifted, "labels") == [2, 3, 4, 5, 6, 7, 9, *range(11, 19), 20, 21, 22, 23]
    assert shifted.token_count() == shifted.lengths().sum() == 19


def test_a_stream_is_one_document():
    rows = packed(length=6, shifted=True, is_stream=True)
    assert joined(rows, "input_ids") == list(range(1, 23))
    assert joined(rows, "labels") == list(range(2, 24))
    assert set(joined(rows, "sequence_ids")) == {0}


def test_rows_are_found_in_pieces_of_the_column():
    examples = Dataset.from_dict({"input_ids": [[at, at + 1, at + 2] for at in range(0, 3000, 3)]})
    shards = [examples.shard(7, index, contiguous=True) for index in range(7)]
    rows = PackedRows(concatenate_datasets(shards), ["input_ids"], length=64)
    assert joined(rows, "input_ids") == list(range(3000))
    assert [row.tolist() for row in rows[np.array([5, 1])]["input_ids"]] == [[*range(320, 384)], [*range(64, 128)]]


@pytest.mark.parametrize(("documents", "expected"), [([[]], 0), ([[1]], 1), ([[1, 2, 3]], 1), ([[1] * 9], 3)])
def test_how_many_rows_there_are(documents, expected):
    assert len(packed(documents, length=3)) == expected
