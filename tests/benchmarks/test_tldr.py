"""Abstracts and their summaries as texts, and scores of what a model says."""

import json
import sys
from types import SimpleNamespace

import pytest

from benchmarks import tldr

ROW = {"source": "Cats sleep. They do so all day.", "target": "Cats sleep all day.", "references": ["Cats sleep all day.", "Cats sleep."]}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    return folder


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tldr.py", *map(str, words)])
    tldr.main()


def test_texts_are_written(data, tmp_path, monkeypatch):
    run(monkeypatch, data, tmp_path / "texts")
    rows = tldr.rows_of(tmp_path / "texts" / "train.jsonl")
    assert rows == [{"text": "Cats sleep. They do so all day.\nTL;DR: Cats sleep all day."}]


def test_long_abstracts_are_cut():
    assert tldr.prompt_of("word " * 500) == " ".join(["word"] * tldr.WORDS) + "\nTL;DR:"


def test_the_first_sentence_is_scored_by_the_best_reference(data, monkeypatch, capsys):
    run(monkeypatch, data, "--score", "first-sentence")
    found = json.loads(capsys.readouterr().out)
    assert found == {"examples": 1, "rouge1": 100.0, "rouge2": 100.0, "rougeL": 100.0, "first": "Cats sleep."}


@pytest.mark.parametrize(
    ("task", "answer"),
    [("text-generation", {"generated_text": " Cats sleep.\nDogs run."}), ("summarization", {"summary": "Cats sleep."})],
)
def test_a_model_is_asked(monkeypatch, task, answer):
    asked = []

    class Predictor(SimpleNamespace):
        def __call__(self, texts, **options):
            asked.extend(texts)
            return [answer for _ in texts]

    monkeypatch.setattr(tldr.trefoil, "load", lambda place: Predictor(task=task))
    assert tldr.summaries_by("run", ["Cats sleep."]) == ["Cats sleep."]
    assert asked == ["Cats sleep.\nTL;DR:" if task == "text-generation" else "Cats sleep."]
