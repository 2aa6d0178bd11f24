"""Rows of packed documents, as they would be if everything lay in one list."""

import pickle
from itertools import chain
from random import Random

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, concatenate_datasets, load_from_disk

from trefoil.data import packing
from trefoil.data.encoded import list_lengths
from trefoil.data.packing import BestFitRows, PackedRows

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
    assert list_lengths(shifted, "input_ids").sum() == 19


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


def one_list(documents, shifted, is_stream):
    """Inputs, labels and numbers of all documents."""
    documents = [document for document in documents if document]
    documents = [list(chain.from_iterable(documents))] if is_stream else documents
    inputs = [token for document in documents for token in document[: len(document) - shifted]]
    labels = [token for document in documents for token in document[1:]]
    numbers = [number for number, document in enumerate(documents) for _ in document[shifted:]]
    return inputs, labels if shifted else None, numbers


def cut(values, length, stride, overlap_is=None):
    """Rows that begin `stride` apart, until all values are in one."""
    rows, start, seen = [], 0, 0
    while seen < len(values):
        row = values[start : start + length]
        rows.append(row if overlap_is is None else [overlap_is] * (seen - start) + row[seen - start :])
        seen, start = start + len(row), start + stride
    return rows


@pytest.mark.parametrize("trial", range(60))
def test_rows_are_those_of_one_list(trial):
    random = Random(trial)
    documents = [
        None if random.random() < 0.2 else random.choices(range(1000), k=random.randint(2, 30))
        for _ in range(random.randint(1, 30))
    ] + [[1, 2]]
    length = random.randint(1, 12)
    stride, shifted, is_stream = random.randint(1, length), random.random() < 0.5, random.random() < 0.5
    rows = packed(documents, length=length, stride=stride, shifted=shifted, is_stream=is_stream)
    inputs, labels, numbers = one_list(documents, shifted, is_stream)
    found = {name: [row.tolist() for row in values] for name, values in rows[:].items()}
    assert found["input_ids"] == cut(inputs, length, stride)
    assert found["sequence_ids"] == cut(numbers, length, stride)
    assert found.get("labels") == (cut(labels, length, stride, overlap_is=-100) if shifted else None)
    assert list_lengths(rows, "input_ids").tolist() == [len(row) for row in found["input_ids"]]


@pytest.mark.slow
def test_more_tokens_than_32_bits_count():
    size = 4_000_000
    column = Dataset.from_dict(
        {"input_ids": [np.arange(size, dtype=np.int32)]}, Features({"input_ids": List(Value("int32"))})
    )
    rows = PackedRows(concatenate_datasets([column] * 600), ["input_ids"], length=512, shifted=True)
    assert rows.places == 600 * (size - 1) > 2**31
    last = rows[[len(rows) - 1]]
    assert last["labels"][0][-1] == size - 1
    assert last["sequence_ids"][0].tolist() == [599] * len(last["labels"][0])


@pytest.mark.slow
def test_another_process_gets_the_name_of_the_file_and_not_what_is_in_it(tmp_path):
    Dataset.from_dict({"input_ids": [list(range(1000))] * 1000}).save_to_disk(tmp_path)
    rows = PackedRows(load_from_disk(tmp_path), ["input_ids"], length=100, stride=70, shifted=True)
    sent = pickle.dumps(rows)
    assert len(sent) < 10_000
    assert joined(pickle.loads(sent), "labels") == joined(rows, "labels")


# --- best fit


def best_fit_rows(documents, **options):
    examples = Dataset.from_dict({"input_ids": documents}, Features({"input_ids": List(Value("int32"))}))
    return BestFitRows(examples, ["input_ids"], **options)


@pytest.mark.parametrize("trial", range(40))
def test_best_fit_cuts_no_document_that_fits_and_keeps_every_token_once(trial):
    random = Random(trial)
    length, shifted = random.randint(1, 12), random.random() < 0.5
    token, documents = 1, []
    for _ in range(random.randint(1, 40)):
        size = random.choice([0, random.randint(1, 8), random.randint(1, 30)])
        documents.append(None if random.random() < 0.1 else list(range(token, token + size)))
        token += size
    documents.append([token, token + 1])
    rows = best_fit_rows(documents, length=length, shifted=shifted)
    found = rows[:]
    expected = [token for document in documents if document for token in document[: len(document) - shifted]]
    assert sorted(np.concatenate(found["input_ids"]).tolist()) == expected
    assert all(0 < len(row) <= length for row in found["input_ids"])
    if shifted:
        for inputs, labels in zip(found["input_ids"], found["labels"], strict=True):
            assert (labels == inputs + 1).all()
    holders = {}
    for number, (pieces, ids) in enumerate(zip(found["pieces"], found["sequence_ids"], strict=True)):
        for piece in pieces.tolist():
            holders.setdefault(piece, set()).add(number)
        assert (pieces == ids).all()
    for piece, numbers in holders.items():
        assert len(numbers) == -(-(len(documents[piece]) - shifted) // length), "cut without need"
    assert list_lengths(rows, "input_ids").tolist() == [len(row) for row in found["input_ids"]]
    assert list_lengths(rows, "input_ids").sum() == rows.places == len(expected)


def test_best_fit_takes_the_fullest_row_with_room():
    rows = best_fit_rows([[1] * 3, [2] * 6, [3] * 4, [4] * 2, [5] * 5], length=8)
    assert [row.tolist() for row in rows[:]["input_ids"]] == [[2] * 6 + [4] * 2, [1] * 3 + [5] * 5, [3] * 4]
    assert rows.remark() == "best-fit packing: 3 rows, 16.67% padding, 0 of 5 documents cut"


def test_a_document_longer_than_a_row_is_cut_into_whole_rows_and_a_rest_that_is_packed():
    rows = best_fit_rows([[1, 2, 3, 4, 5, 6, 7, 8, 9], [11, 12, 13]], length=4)
    assert sorted(row.tolist() for row in rows[:]["input_ids"]) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 11, 12, 13]]
    assert rows.remark().endswith("1 of 2 documents cut")


def test_best_fit_is_the_same_every_time_and_in_another_process():
    random = Random(0)
    documents = [random.choices(range(1000), k=random.randint(1, 90)) for _ in range(2000)]
    rows = best_fit_rows(documents, length=64)
    assert 1 - rows.places / (64 * len(rows)) < 0.01
    for others in (best_fit_rows(documents, length=64), pickle.loads(pickle.dumps(rows))):
        assert [row.tolist() for row in others[:]["input_ids"]] == [row.tolist() for row in rows[:]["input_ids"]]


def test_best_fit_of_what_lies_on_the_disk_is_found_once(tmp_path, monkeypatch):
    documents = [Random(number).choices(range(1000), k=number % 90) for number in range(500)]
    Dataset.from_dict({"input_ids": documents}).save_to_disk(tmp_path)
    examples, found = load_from_disk(tmp_path), []

    def counted(sizes, length, best_fit=packing.best_fit):
        found.append(length)
        return best_fit(sizes, length)

    monkeypatch.setattr(packing, "best_fit", counted)
    for length in (64, 32, 64, 32):
        rows = BestFitRows(examples, ["input_ids"], length=length)
        others = best_fit_rows(documents, length=length)  # in memory
        assert [row.tolist() for row in rows[:]["input_ids"]] == [row.tolist() for row in others[:]["input_ids"]]
        assert rows.remark() == others.remark()
    assert found == [64, 64, 32, 32, 64, 32]
    pickle.loads(pickle.dumps(rows))
    assert len(found) == 6
    Dataset.from_dict({"input_ids": [[1]]}).save_to_disk(tmp_path / "empty")
    for _ in range(2):
        assert len(BestFitRows(load_from_disk(tmp_path / "empty"), ["input_ids"], length=4, shifted=True)) == 0


@pytest.mark.parametrize("documents", [[], [[]], [None], [[1]]])
def test_nothing_to_pack(documents):
    rows = best_fit_rows(documents, length=4, shifted=True)
    assert len(rows) == 0
    assert len(list_lengths(rows, "input_ids")) == 0
