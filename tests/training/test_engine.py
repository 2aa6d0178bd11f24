"""Engines: whatever lays the model over the processes, the losses are those of one process, and so are checkpoints."""

import json
import subprocess

import pytest
from training_runs import TALKATIVE, losses, tiny_recipe

from benchmarks import on_cpu
from benchmarks.on_cpu import ENGINES
from trefoil.training.checkpoints import checkpoint_folders
from trefoil.training.run import train

RECIPE = TALKATIVE | {"training": {"max_steps": 12, "evaluate_every": 6, "save_every": 6}}


def launch(engine, folder, *overrides):
    words, environment = on_cpu.command(engine, on_cpu.__file__, "train", folder / "recipe.yaml", *overrides)
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train(tiny_recipe(folder / "run", **RECIPE))
    return folder / "run"


def require_equal(run, alone):
    assert losses(run) == pytest.approx(losses(alone), abs=1e-4)
    results = [json.loads((folder / "best" / "results.json").read_text()) for folder in (run, alone)]
    assert results[0]["test"] == results[1]["test"]
    predictions = [(folder / "predictions.jsonl").read_text() for folder in (run, alone)]
    assert predictions[0] == predictions[1]
    assert {path.name for path in (run / "best").glob("*.safetensors")} == {"model.safetensors"}


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fsdp2", "one"),
        pytest.param("one", "fsdp2", marks=slow),
        pytest.param("ddp", "fsdp2 on four", marks=slow),
        pytest.param("fsdp2 on four", "fsdp2", marks=slow),
        pytest.param("tensor parallel", "ddp", marks=slow),
        pytest.param("fsdp2", "tensor parallel", marks=slow),
        pytest.param("fsdp2 with tensor parallel", "fsdp2", marks=slow),
        pytest.param("one", "fsdp2 with tensor parallel", marks=slow),
    ],
)
def test_a_run_goes_on_by_another_engine_to_the_same_losses(alone, tmp_path, before, after):
    recipe = tiny_recipe(tmp_path / "run", **RECIPE)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    launch(before, tmp_path, "training.max_steps=6")
    (checkpoint,) = checkpoint_folders(tmp_path / "run" / "checkpoints")
    shards = len(list(checkpoint.glob("shard-*.safetensors")))
    assert shards == (0 if before in ("one", "ddp") else ENGINES[before][0])
    launch(after, tmp_path)
    require_equal(tmp_path / "run", alone)


@pytest.mark.slow
def test_accumulation_in_parts(alone, tmp_path):
    recipe = tiny_recipe(tmp_path / "run", **RECIPE | {"batches": {"tokens_per_device": 200}})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    launch("fsdp2", tmp_path)
    require_equal(tmp_path / "run", alone)


@pytest.mark.slow
def test_muon_is_refused_where_matrices_lie_in_parts(tmp_path):
    recipe = tiny_recipe(tmp_path / "run", **RECIPE | {"optimization": {"optimizer": "muon"}})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(
        AssertionError, match=r"muon.* works on whole matrices, of which FSDP2 leaves each process a part"
    ):
        launch("fsdp2", tmp_path)
