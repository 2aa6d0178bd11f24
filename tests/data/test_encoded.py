"""Encoded examples on the disk: made once, found again, and what is told of their rows."""

import itertools
import re

import datasets
import pytest

from trefoil.data.encoded import NOTES, PROBLEM, count_in_lists, digest, encode_once, list_lengths


def test_list_lengths():
    dataset = datasets.Dataset.from_dict({"ids": [[1, 2], [], [3]]})
    assert list_lengths(dataset, "ids").tolist() == [2, 0, 1]
    assert list_lengths(dataset.select([2, 0]), "ids").tolist() == [1, 2]


def test_count_in_lists():
    dataset = datasets.Dataset.from_dict({"ids": [[1, 2], [], [3, 1, 1]]})
    assert [count_in_lists(dataset, "ids", value) for value in (1, 2, 4)] == [3, 1, 0]
    assert count_in_lists(dataset.select([1, 0]), "ids", 1) == 1
    assert count_in_lists(dataset.select([1]), "ids", 1) == 0


def test_in_a_log_encoding_says_how_far_it_is(monkeypatch, capsys):
    seconds = itertools.count(step=20)
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))

    def encode(batch, indices):
        empty = [None] * len(indices)
        return {"ids": [[index] for index in indices], "example": indices, PROBLEM: empty, NOTES: empty}

    rows = datasets.Dataset.from_dict({"text": [str(number) for number in range(2500)]})
    features = {"ids": datasets.List(datasets.Value("int64"))}
    encoded = encode_once(rows, encode, features, ["one of a kind"], "train")
    assert encoded["ids"][2499] == [2499]
    lines = re.findall(r"encoding train: [\d,]+ of [\d,]+", capsys.readouterr().err)
    assert lines[0] == "encoding train: 0 of 2,500"
    assert lines[-1] == "encoding train: 2,000 of 2,500"


ROWS = {"ids": [[1, 2], [], [3]], "label": [0.5, 1.0, 2.0], "note": ["x", None, "z"]}


def test_a_digest_is_of_the_numbers_and_their_order_and_not_of_how_they_are_stored():
    dataset = datasets.Dataset.from_dict(ROWS)
    in_pieces = datasets.concatenate_datasets([dataset.select(range(2)), dataset.select(range(2, 3))])
    other_notes = datasets.Dataset.from_dict(ROWS | {"note": ["a", "b", None]})
    assert digest(in_pieces) == digest(dataset) == digest(other_notes)


@pytest.mark.parametrize(
    "changes",
    [{"ids": [[1, 2], [3], []]}, {"ids": [[1], [2], [3]]}, {"ids": [[1, 2], [], [4]]}, {"label": [0.5, 2.0, 1.0]}],
)
def test_other_numbers_have_another_digest(changes):
    assert digest(datasets.Dataset.from_dict(ROWS | changes)) != digest(datasets.Dataset.from_dict(ROWS))
