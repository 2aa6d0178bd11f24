"""The time of a step, for every task."""

import re
import sys

import pytest
from conftest import seldom
from training_runs import content_of_task

from benchmarks import step_time
from trefoil.recipes.schema import Recipe, build
from trefoil.tasks import TASKS

SIZES = {"train": 30, "validation": 2, "test": 2}


@pytest.mark.parametrize("task", seldom(TASKS, "translation", "causal-lm"))
def test_every_task_is_timed(task, tmp_path, monkeypatch, capsys):
    content = content_of_task(task, tmp_path, SIZES, training={"max_steps": 4})
    (tmp_path / "recipe.yaml").write_text(build(Recipe, content, "tiny.yaml").to_yaml(), encoding="utf-8")
    words = [str(tmp_path / "recipe.yaml"), "--versus", "optimization.label_smoothing=0", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["step_time.py", *words])
    step_time.main()
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.endswith("(medians of 2 steps)")
    assert [row.split()[0] for row in rows] == ["as", "optimization.label_smoothing=0"]
    assert all(re.fullmatch(r".*? +\d+ +[\d,]+ +\d+\.\d\d", row) for row in rows)
