"""A look at a run before it is one."""

import json
import os

import pytest
from training_runs import tiny_content, tiny_recipe

from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import Recipe, build
from trefoil.training.debug import describe, dry_run


def test_a_recipe_is_described_and_nothing_is_trained(tmp_path, write):
    rows = [{"text": f"{number} 🙂 좋다 " * (1 + number % 5), "label": "ab"[number % 3 == 0]} for number in range(60)]
    train = write(
        "train.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, rows[0], {"text": "", "label": "a"}])
    )
    write("validation.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows[:4], {"text": "new", "label": "b"}]))
    data = {"path": str(train.parent), "test_split": None, "embedded": False, "embedded_sizes": None}
    content = tiny_content(
        tmp_path / "run",
        task="text-classification",
        data=data,
        model={"preset": "encoder-tiny"},
        evaluation={"metric": None},
    )
    content["data"]["columns"] = {}
    shown = "\n".join(describe(build(Recipe, content, "tiny.yaml")))
    for line in (
        f"train: 62 rows ({train})",
        "  labels: a 41 (66.1%), b 21 (33.9%)",
        "  1 invalid rows, at which the run stops, unless data.invalid_examples=skip",
        f"    {train} example 62: column 'text' is empty",
        "  1 rows whose text stands in a row before",
        "  4 rows of validation (80.0%) have a text that is trained on: scores will be too good",
        "example 1, as the model sees it\n  input_ids: <s>|0| ",
        "  labels: b",
        "TrefoilEncoderForSequenceClassification: ",
        "the run takes 20 steps, about 0:0",
        "memory with these steps: ",
    ):
        assert line in shown
    assert not (tmp_path / "run").exists()


def test_examples_of_translation_are_tokens_on_both_sides(tmp_path):
    lines = [*describe(tiny_recipe(tmp_path / "run"))]
    assert all(line.endswith("|</s>") for line in lines if line.startswith(("  input_ids: ", "  labels: ")))
    assert "train, labels: " in "\n".join(lines)


def test_of_a_masked_language_model_labels_are_what_is_hidden(tmp_path):
    content = tiny_content(tmp_path / "run", task="masked-lm", model={"preset": "encoder-tiny"})
    content["data"], content["evaluation"] = {"path": str(texts(tmp_path))}, {}
    lines = "\n".join(describe(build(Recipe, content, "tiny.yaml")))
    assert "<mask>" in lines


def texts(folder):
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text("".join(f"{number} 세 시에 만나요\n" for number in range(60)))
    return folder


def test_a_dry_run_leaves_nothing(tmp_path, capsys):
    dry_run(tiny_recipe(tmp_path / "run", optimization={"warmup_steps": 10}))
    shown = capsys.readouterr().err
    assert "step 3/3" in shown
    assert "validation at step 3" in shown
    assert [*tmp_path.iterdir()] == []


def test_a_dry_run_deletes_nothing_that_is_not_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    foreign = tmp_path / f"trefoil-dry-run-{os.getpid()}"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no run of Trefoil"):
        dry_run(tiny_recipe(tmp_path / "run"))
    assert (foreign / "mine.txt").read_text() == "mine"
