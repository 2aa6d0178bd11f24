"""What another package adds from outside: a task, a kind of positions and a data format, and a run with all three."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
from training_runs import TINY_MODEL

from trefoil import extensions
from trefoil.configuration.errors import UserError
from trefoil.configuration.positions import POSITION_KINDS
from trefoil.data.formats import FORMATS, register_format
from trefoil.modeling.positions import POSITION_CLASSES, EmbeddingPositions, register_positions
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.tasks import TASKS, register_task
from trefoil.tasks.text_classification import TEXT_CLASSIFICATION
from trefoil.training.run import evaluate, train


class Ramp(EmbeddingPositions):
    """Each position adds as much as its number, in hundredths."""

    def forward(self, position_ids):
        return position_ids[..., None].float() / 100


def load_pipes(file, columns):
    rows = [line.split("|") for line in file.read_text(encoding="utf-8").splitlines()]
    return datasets.Dataset.from_list([dict(zip(columns, row, strict=True)) for row in rows])


TOY = replace(TEXT_CLASSIFICATION, name="toy", metrics=("macro_f1", "accuracy"))


def register():
    register_task(TOY)
    register_positions("ramp", Ramp)
    register_format(".pipes", load_pipes)


@pytest.fixture
def registered(monkeypatch):
    tables = (TASKS, POSITION_KINDS, POSITION_CLASSES, FORMATS)
    before = [dict(table) for table in tables]
    entry = SimpleNamespace(value="toy.trefoil", load=register)
    monkeypatch.setattr(extensions, "entry_points", lambda group: [entry])
    extensions.load_extensions()
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


def test_a_run_with_a_task_a_position_and_a_format_from_outside(registered, write, tmp_path):
    for split in ("train", "validation", "test"):
        write(f"{split}.pipes", "좋은 영화|good\nbad film|bad\n" * 10)
    content = {
        "task": "toy",
        "output_dir": str(tmp_path / "run"),
        "data": {"path": str(tmp_path / "data")},
        "tokenizer": {"kind": "characters"},
        "model": {"preset": "encoder-tiny", "config": TINY_MODEL | {"position_embedding_type": "ramp"}},
        "optimization": {"learning_rate": 3e-3, "warmup_steps": 2},
        "training": {"max_steps": 40, "evaluate_every": 40, "trackers": []},
    }
    recipe = build(Recipe, content, "toy.yaml")
    validate(recipe, "toy.yaml")
    results = train(recipe)
    assert results["test"]["accuracy"] == 100
    assert results["metrics"][0]["name"] in TOY.metrics
    assert evaluate(tmp_path / "run" / "best") == pytest.approx(results["test"])


def test_what_is_registered_twice_is_refused(registered):
    with pytest.raises(ValueError, match="the task 'toy' is registered already"):
        register_task(replace(TOY))


def test_an_extension_that_does_not_load_is_named(monkeypatch):
    def fail():
        raise ImportError("no module named toy")

    entry = SimpleNamespace(value="toy.trefoil", load=fail)
    monkeypatch.setattr(extensions, "entry_points", lambda group: [entry])
    with pytest.raises(UserError, match=r"the extension toy\.trefoil does not load: ImportError: no module named toy"):
        extensions.load_extensions()


def test_positions_from_outside_are_added(registered):
    positions = Ramp()
    torch.testing.assert_close(positions(torch.tensor([[0, 50]])), torch.tensor([[[0.0], [0.5]]]))


def test_what_contributing_names_is_there():
    """The table of what is touched to add something."""
    root = Path(__file__).parents[1]
    rows = re.findall(r"^\| (?:a|an) .*\|$", (root / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(rows) == 7
    for row in rows:
        _, touched, call = (cell.strip() for cell in row.strip("|").split("|"))
        for place in re.findall(r"`([\w/]+(?:/|\.py))`", touched):
            assert (root / place).exists(), place
        for name in re.findall(r"`([\w.]+)`", call):
            module, _, function = name.removesuffix(".register").rpartition(".")
            assert hasattr(import_module(module), function), name
