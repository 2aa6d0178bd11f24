"""The time of a step, for every task."""

import json
import re
import sys

import pytest
from training_runs import TINY_MODEL, tiny_content

from benchmarks import step_time
from trefoil.recipes.schema import Recipe, build
from trefoil.tasks import TASKS

EMBEDDED = {
    "translation": {"source": "ko", "target": "en"},
    "summarization": {"source": "document", "target": "summary"},
    "text-classification": {},
    "token-classification": {"tags": "ner_tags"},
    "question-answering": {},
    "image-captioning": {},
}
PICTURES = {
    "num_hidden_layers": 1,
    "encoder": {"image_size": 48, "patch_size": 16},
    "decoder": {"max_position_embeddings": 96},
}
SIZES = {"train": 30, "validation": 2, "test": 2}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_timed(task, tmp_path, monkeypatch, capsys):
    data = {"embedded": True, "embedded_sizes": SIZES, "columns": EMBEDDED.get(task, {})}
    if task not in EMBEDDED:  # of language models
        for split, size in SIZES.items():
            (tmp_path / f"{split}.jsonl").write_text(f"{json.dumps({'text': 'one two three four'})}\n" * size)
        data = {"path": str(tmp_path)}
    family = TASKS[task].families[0].removeprefix("trefoil_").replace("_", "-")
    content = tiny_content(
        tmp_path / "run",
        tokenizer={"kind": "characters"},
        model={"preset": f"{family}-tiny"},
        training={"max_steps": 4},
    )
    content |= {"task": task, "data": data, "evaluation": {}}
    content["tokenizer"] = {"kind": "characters"}
    content["model"]["config"] = (
        PICTURES if task == "image-captioning" else TINY_MODEL | {"max_position_embeddings": 256}
    )
    (tmp_path / "recipe.yaml").write_text(build(Recipe, content, "tiny.yaml").to_yaml(), encoding="utf-8")
    words = [str(tmp_path / "recipe.yaml"), "--versus", "optimization.label_smoothing=0", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["step_time.py", *words])
    step_time.main()
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.endswith("(medians of 2 steps)")
    assert [row.split()[0] for row in rows] == ["as", "optimization.label_smoothing=0"]
    assert all(re.fullmatch(r".*? +\d+ +[\d,]+ +\d+\.\d\d", row) for row in rows)
