"""What a run writes of its steps; that a step is logged as it should be, tests/training/test_loop.py holds."""

import json

import pytest
from accelerate.tracking import TensorBoardTracker
from training_runs import losses, tiny_recipe

from trefoil.training.run import train

TRACKED = {"training": {"max_steps": 6, "trackers": ["tensorboard"]}}


def refuse(*arguments, **options):
    raise ConnectionError("no route to the host\nand more")


@pytest.mark.slow
def test_numbers_reach_the_tracker(tmp_path, monkeypatch):
    logged = {}
    monkeypatch.setattr(TensorBoardTracker, "log", lambda self, values, step: logged.setdefault(step, values))
    train(tiny_recipe(tmp_path / "run", **TRACKED))
    assert {step: values["train/loss"] for step, values in logged.items()} == losses(tmp_path / "run")


@pytest.mark.parametrize(
    ("what", "who"),
    [
        ("log", "tensorboard"),
        pytest.param("start", "training.trackers", marks=pytest.mark.slow),
        pytest.param("finish", "tensorboard", marks=pytest.mark.slow),
    ],
)
def test_without_a_tracker_that_fails_the_run_goes_on_and_says_so_once(tmp_path, monkeypatch, capsys, what, who):
    monkeypatch.setattr(TensorBoardTracker, what, refuse)
    assert train(tiny_recipe(tmp_path / "run", **TRACKED))["steps"] == 6
    assert [line for line in capsys.readouterr().err.splitlines() if "no route" in line] == [
        f"{who}: fails (no route to the host), and is left out from here on; the run goes on, and log.jsonl holds all"
    ]
    assert list(losses(tmp_path / "run")) == list(range(1, 7))
    assert all(json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines())
