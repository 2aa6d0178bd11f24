"""Pairs of sentences: their files, and how accuracies are counted."""

import datasets
import numpy as np
import pytest

from trefoil.configuration.errors import UserError
from trefoil.tasks.minimal_pairs import accuracies, load_pairs, score_pairs

LINES = '{"good": "고양이가 잔다", "bad": "고양이가 잔"}\n{"good": "🙂 sleeps", "bad": "🙂 sleep", "UID": "x"}\n'


def rows(**columns):
    return datasets.Dataset.from_dict(columns)


def refused(file, **names):
    with pytest.raises(UserError) as error:
        load_pairs(file, names)
    return str(error.value)


def test_every_format_and_other_names(write):
    pairs = load_pairs(write("test.jsonl", LINES), {})
    assert pairs[:] == {"good": ["고양이가 잔다", "🙂 sleeps"], "bad": ["고양이가 잔", "🙂 sleep"]}
    table = write("pairs.csv", "sentence_good,bad,UID,phenomenon\ncats sleep,cats sleeps,agreement_1,agreement\n")
    pairs = load_pairs(table, {"good": "sentence_good", "paradigm": "UID"})
    assert pairs[:] == {
        "good": ["cats sleep"], "bad": ["cats sleeps"], "paradigm": ["agreement_1"], "phenomenon": ["agreement"],
    }  # fmt: skip


def test_what_is_no_pair(write, tmp_path):
    file = write("test.jsonl", LINES)
    assert "no column 'grammatical'; there are good, bad" in refused(file, good="grammatical")
    assert "no column 'kind'" in refused(file, phenomenon="kind")
    assert refused(file, god="good") == "data.columns.god: minimal pairs have no such column; did you mean good?"
    assert "needs at least one example" in refused(write("empty.jsonl", ""))
    assert "needs at least one example" in refused(write("empty.csv", ""))
    assert refused(tmp_path / "none.jsonl").startswith(f"{tmp_path / 'none.jsonl'}: no such file")
    blank = write("blank.jsonl", LINES + '{"good": " ", "bad": "b"}\n')
    assert refused(blank) == f"{blank} example 3: column 'good' is empty"
    number = write("number.jsonl", '{"good": "a", "bad": 5}\n')
    assert refused(number) == f"{number} example 1: column 'bad' holds 5, not a text"
    without = write("without.jsonl", LINES)
    assert refused(without, paradigm="UID").endswith("no column 'UID'; there are good, bad")


def test_a_sentence_that_cannot_be_scored_is_named():
    class Deaf:
        def encode(self, texts):
            return texts

        def problem(self, sentence):
            return "has 99 tokens, more than the model's 64" if sentence == "long" else None

    with pytest.raises(UserError) as error:
        score_pairs(Deaf(), rows(good=["a", "b"], bad=["c", "long"]), "here")
    assert str(error.value) == "here example 2: bad has 99 tokens, more than the model's 64"


def test_each_sentence_keeps_its_score():
    class Length:
        def encode(self, texts):
            return texts

        def problem(self, sentence):
            return None

        def score(self, sentences):
            return np.array([-len(sentence) for sentence in sentences], dtype=float), None

    found = score_pairs(Length(), rows(good=["a", "bb"], bad=["ccc", "dddd"]), "here")
    assert found.tolist() == [[-1, -3], [-2, -4]]


def test_paradigms_count_alike_and_ties_half():
    scores = np.array([[-1, -2], [-2, -1], [-2, -1], [-2, -1], [-3, -3], [-1, -2]], dtype=float)
    groups = {"phenomenon": ["a", "a", "a", "a", "a", "b"], "paradigm": ["1", "2", "2", "2", "3", "4"]}
    pairs = rows(good=["x"] * 6, bad=["y"] * 6, **groups)
    found = accuracies(scores, pairs)
    assert found == {"accuracy": 62.5, "pairs": 6, "phenomena": {"a": 50.0, "b": 100.0}}
    by_pair = accuracies(scores, pairs.remove_columns("paradigm"))
    assert by_pair["accuracy"] == pytest.approx(250 / 6)
    assert by_pair["phenomena"] == {"a": pytest.approx(30.0), "b": 100.0}
    assert accuracies(scores, pairs.remove_columns("phenomenon")) == {"accuracy": 62.5, "pairs": 6}
    assert accuracies(scores, pairs.select_columns(["good", "bad"])) == {
        "accuracy": pytest.approx(250 / 6),
        "pairs": 6,
    }
