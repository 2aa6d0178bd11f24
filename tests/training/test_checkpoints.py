import json
import math
from pathlib import Path

import pytest
import torch
from conftest import SMALL, tiny_model
from safetensors.torch import load_file, save_file
from training_runs import start

from trefoil.configuration.errors import UserError
from trefoil.data.whole_files import tidy
from trefoil.recipes.schema import OptimizationRecipe
from trefoil.training.checkpoints import (
    average_weights,
    checkpoint_folders,
    latest_checkpoint,
    load_optimizers,
    load_state,
    save_checkpoint,
)
from trefoil.training.optimization import make_optimizers

# --- checkpoints


def take_step(model, optimizers, seed):
    ids = torch.randint(3, SMALL["vocab_size"], (2, 9), generator=torch.Generator().manual_seed(seed))
    model(input_ids=ids, labels=ids).loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def made(kind, seed=0, **fields):
    """A model whose embeddings are tied, and its optimisers."""
    model = tiny_model("encoder-decoder", seed=seed, **fields)
    return model, optimizers_of(model, kind)


def optimizers_of(model, kind):
    return make_optimizers(model, OptimizationRecipe(optimizer=kind, learning_rate=0.01, weight_decay=0.1))


def save(folder, step, model, optimizers, keep=2, **state):
    save_checkpoint(folder, step, model.save_pretrained, model, optimizers, state, keep=keep, is_main_process=True)
    return folder / f"step-{step:08}"


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_next_steps_are_equal_to_the_bit(tmp_path, kind):
    model, optimizers = made(kind)
    for seed in range(3):
        take_step(model, optimizers, seed)
    optimizers[0].param_groups[0]["lr"] = 0.003
    checkpoint = save(tmp_path, 3, model, optimizers)

    resumed = type(model).from_pretrained(checkpoint)
    resumed_optimizers = optimizers_of(resumed, kind)
    load_optimizers(checkpoint, resumed, resumed_optimizers)
    assert [group["lr"] for each in resumed_optimizers for group in each.param_groups] == [
        group["lr"] for each in optimizers for group in each.param_groups
    ]
    for seed in range(3, 6):
        take_step(model, optimizers, seed)
        take_step(resumed, resumed_optimizers, seed)
    for (name, parameter), other in zip(model.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(parameter, other), name


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_loading_changes_no_weights(tmp_path, kind):
    model, optimizers = made(kind)
    take_step(model, optimizers, 0)
    checkpoint = save(tmp_path, 1, model, optimizers)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    load_optimizers(checkpoint, model, make_optimizers(model, OptimizationRecipe(optimizer=kind)))
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_only_safetensors_and_json(tmp_path):
    model, optimizers = made("adamw")
    take_step(model, optimizers, 0)
    checkpoint = save(tmp_path, 7, model, optimizers, position={"step": 7}, scaler=None)
    assert {path.name for path in checkpoint.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "optimizer.safetensors", "state.json",
    }  # fmt: skip
    state = load_state(checkpoint)
    assert (state["step"], state["position"], state["scaler"]) == (7, {"step": 7}, None)
    tensors = load_file(checkpoint / "optimizer.safetensors")
    assert {key.rpartition(".")[2] for key in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    assert len(tensors) == 3 * len(list(model.parameters()))


def test_other_processes_write_nothing(tmp_path):
    model, optimizers = made("adamw")
    save_checkpoint(tmp_path, 1, model.save_pretrained, model, optimizers, {}, keep=2, is_main_process=False)
    assert list(tmp_path.iterdir()) == []


def test_old_checkpoints_are_deleted_and_half_written_ones_ignored(tmp_path):
    model, optimizers = made("adamw")
    half = tmp_path / ".step-00000009.trefoil-new"
    half.mkdir()
    (half / "state.json").write_text("{")
    for step in (2, 4, 10, 100, 1000):
        save(tmp_path, step, model, optimizers, keep=3)
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == [
        "step-00000010", "step-00000100", "step-00001000",
    ]  # fmt: skip
    assert latest_checkpoint(tmp_path).name == "step-00001000"
    tidy(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_no_checkpoint_at_all(tmp_path):
    assert latest_checkpoint(tmp_path / "none") is None
    (tmp_path / "step-1").write_text("a file")
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("name", ["optimizer.safetensors", "state.json", "config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    checkpoint = save(tmp_path, 5, *made("adamw"))
    (checkpoint / name).unlink()
    with pytest.raises(UserError) as error:
        latest_checkpoint(tmp_path)
    assert str(error.value) == f"{checkpoint}: {name} is missing, so the run cannot go on from it; delete this folder"


def test_a_missing_part_of_the_weights_is_named(tmp_path):
    model, optimizers = made("adamw")
    shards = lambda folder: model.save_pretrained(folder, max_shard_size="20KB")  # noqa: E731
    save_checkpoint(tmp_path, 5, shards, model, optimizers, {}, keep=2, is_main_process=True)
    checkpoint = latest_checkpoint(tmp_path)
    shard = max(checkpoint.glob("model-*.safetensors"))
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} is missing, so the run cannot go on from it"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("cut", [0, 100])
@pytest.mark.parametrize("name", ["optimizer.safetensors", "model.safetensors", "state.json", "config.json"])
def test_a_damaged_file_is_named(tmp_path, name, cut):
    checkpoint = save(tmp_path, 5, *made("adamw"))
    (checkpoint / name).write_bytes((checkpoint / name).read_bytes()[:cut])
    with pytest.raises(UserError) as error:
        latest_checkpoint(tmp_path)
    assert str(error.value).startswith(f"{checkpoint}: {name} is damaged (")
    assert str(error.value).endswith("), so the run cannot go on from it; delete this folder")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("muon", {}), ("adamw", {"num_hidden_layers": 3}), ("adamw", {"hidden_size": 64}), ("adamw", {"vocab_size": 70})],
)
def test_another_model_or_optimiser_is_refused(tmp_path, kind, fields):
    checkpoint = save(tmp_path, 5, *made("adamw"))
    with pytest.raises(UserError, match=r"optimizer.safetensors: does not fit this model and optimiser \(first key: "):
        load_optimizers(checkpoint, *made(kind, **fields))


HERE = Path(__file__).parent

# saves the state of sharded parameters, loads it back, and takes the next step, which must be the same
SHARDED = """
import sys
from pathlib import Path
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
sys.path[:0] = sys.argv[1].split(":")
from test_checkpoints import made, optimizers_of, take_step
from trefoil.training.checkpoints import load_optimizers, save_checkpoint
torch.distributed.init_process_group("gloo")
rank, mesh = torch.distributed.get_rank(), init_device_mesh("cpu", (2,))
def sharded(kind):
    model, _ = made(kind)
    return fully_shard(model, mesh=mesh), optimizers_of(model, kind)
for kind in ("adamw", "muon"):
    folder = Path(sys.argv[2]) / kind
    model, optimizers = sharded(kind)
    take_step(model, optimizers, 0)
    save_checkpoint(folder, 1, Path.is_dir, model, optimizers, {}, keep=2, is_main_process=rank == 0)
    torch.distributed.barrier()
    other, other_optimizers = sharded(kind)
    other.load_state_dict(model.state_dict())
    load_optimizers(folder / "step-00000001", other, other_optimizers)
    take_step(model, optimizers, 1)
    take_step(other, other_optimizers, 1)
    pairs = zip(model.parameters(), other.parameters())
    assert all(torch.equal(one.to_local(), two.to_local()) for one, two in pairs)
torch.distributed.destroy_process_group()
"""


def test_the_state_of_sharded_parameters_is_whole_in_the_checkpoint(tmp_path):
    (tmp_path / "script.py").write_text(SHARDED)
    process = start(tmp_path / "script.py", f"{HERE}:{HERE.parent}", tmp_path, processes=2)
    assert process.returncode == 0, process.stderr
    for kind in ("adamw", "muon"):
        model, optimizers = made(kind)
        load_optimizers(tmp_path / kind / "step-00000001", model, optimizers)


# --- averaging


def test_the_mean_is_exact(tmp_path):
    values = torch.tensor([[0.1, 1e-8, 3.0], [0.2, 1.0, -3.0], [0.7, -1.0, 2e-3]])
    folders = []
    for number, row in enumerate(values):
        folders.append(tmp_path / f"step-{number}")
        folders[-1].mkdir()
        save_file({"a": row}, folders[-1] / "model-00001-of-00002.safetensors")
        save_file({"b": row.bfloat16()[:2]}, folders[-1] / "model-00002-of-00002.safetensors")
        save_file({"a.exp_avg": row}, folders[-1] / "optimizer.safetensors")
    mean = average_weights(folders)
    assert mean.keys() == {"a", "b"}
    expected = torch.tensor([math.fsum(column.tolist()) / 3 for column in values.T], dtype=torch.float64).float()
    assert torch.equal(mean["a"], expected)
    assert mean["b"].dtype == torch.bfloat16
    assert torch.equal(average_weights(folders[:1])["a"], values[0])


def test_a_state_that_is_no_json_number_is_kept(tmp_path):
    checkpoint = save(tmp_path, 1, *made("adamw"), position={"best_metric": None, "seconds": 0.1 + 0.2})
    assert load_state(checkpoint)["position"] == {"best_metric": None, "seconds": 0.1 + 0.2}
    assert json.loads((checkpoint / "state.json").read_text())["step"] == 1
