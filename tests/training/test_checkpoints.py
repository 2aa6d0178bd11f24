import json
import re
import threading
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import SMALL, tiny_model
from safetensors.torch import load_file
from training_runs import start

from trefoil.configuration.errors import UserError
from trefoil.data.whole_files import tidy
from trefoil.recipes.schema import OptimizationRecipe
from trefoil.training.checkpoint_writer import CheckpointWriter
from trefoil.training.checkpoints import (
    average_weights,
    checkpoint_folders,
    latest_checkpoint,
    load_checkpoint,
    load_state,
    load_weights,
    step_of,
    to_average,
)
from trefoil.training.engine import Engine
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


def optimizers_of(model, kind, is_fused=True):
    recipe = OptimizationRecipe(optimizer=kind, learning_rate=0.01, weight_decay=0.1)
    return make_optimizers(model, recipe, is_fused)


def engine_of(model, optimizers, in_parts=False):
    engine = type("InParts", (Engine,), {"in_parts": True})(Accelerator()) if in_parts else Engine(Accelerator())
    engine.model, engine.optimizers = model, optimizers
    return engine


def save(folder, step, model, optimizers, keep=2, keep_every=None, shard_size="5GB", **state):
    def save_model(where, weights):
        model.save_pretrained(where, state_dict=weights, max_shard_size=shard_size)

    writer = CheckpointWriter(folder, engine_of(model, optimizers), keep=keep, keep_every=keep_every)
    assert writer.begin(step, state, save_model) > 0
    writer.finish()
    return folder / f"step-{step:08}"


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_next_steps_are_equal_to_the_bit(tmp_path, kind):
    model, optimizers = made(kind)
    for seed in range(3):
        take_step(model, optimizers, seed)
    optimizers[0].param_groups[0]["lr"] = 0.003
    checkpoint = save(tmp_path, 3, model, optimizers)

    resumed, resumed_optimizers = made(kind, seed=1)
    load_checkpoint(checkpoint, resumed, resumed_optimizers)
    assert [group["lr"] for each in resumed_optimizers for group in each.param_groups] == [
        group["lr"] for each in optimizers for group in each.param_groups
    ]
    for seed in range(3, 6):
        take_step(model, optimizers, seed)
        take_step(resumed, resumed_optimizers, seed)
    for (name, parameter), other in zip(model.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(parameter, other), name


@pytest.mark.parametrize(("before", "after"), [(None, True), (True, False)])
def test_how_adamw_computes_is_of_the_process_that_goes_on(tmp_path, before, after):
    """Of a checkpoint from before AdamW was one kernel, too, and by an engine that has no such kernel."""
    model, _ = made("adamw")
    optimizers = optimizers_of(model, "adamw", before)
    for seed in range(3):
        take_step(model, optimizers, seed)
    checkpoint = save(tmp_path, 3, model, optimizers)
    assert {group["fused"] for group in load_state(checkpoint)["optimizer"]} == {before}

    resumed, _ = made("adamw", seed=1)
    (resumed_optimizer,) = optimizers_of(resumed, "adamw", after)
    load_checkpoint(checkpoint, resumed, [resumed_optimizer])
    assert {group["fused"] for group in resumed_optimizer.param_groups} == {after}
    assert {state["step"].item() for state in resumed_optimizer.state.values()} == {3.0}
    take_step(model, optimizers, 3)
    take_step(resumed, [resumed_optimizer], 3)
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_what_is_written_is_what_was_there_when_it_began(tmp_path):
    """Training goes on meanwhile."""
    model, optimizers = made("adamw")
    take_step(model, optimizers, 0)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    go_on = threading.Event()

    def save_model(where, weights):
        assert go_on.wait(60)
        model.save_pretrained(where, state_dict=weights)

    writer = CheckpointWriter(tmp_path, engine_of(model, optimizers), keep=2)
    writer.begin(1, {}, save_model)
    take_step(model, optimizers, 1)
    assert writer.is_writing
    assert latest_checkpoint(tmp_path) is None
    go_on.set()
    writer.finish()
    other, other_optimizers = made("adamw", seed=1)
    load_checkpoint(latest_checkpoint(tmp_path), other, other_optimizers)
    assert all(torch.equal(parameter, before[name]) for name, parameter in other.named_parameters())
    take_step(other, other_optimizers, 1)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_what_could_not_be_written_is_told_and_leaves_nothing(tmp_path):
    model, optimizers = made("adamw")
    checkpoint = save(tmp_path, 1, model, optimizers)

    def fail(where, weights):
        raise OSError(28, "No space left on device")

    writer = CheckpointWriter(tmp_path, engine_of(model, optimizers), keep=2)
    writer.begin(2, {}, fail)
    with pytest.raises(
        UserError,
        match=r"step-00000002: cannot be written \(No space left on device; \S+ GB are free there\); checkpoints bef",
    ):
        writer.finish()
    assert list(tmp_path.iterdir()) == [checkpoint]
    writer.finish()


def test_only_safetensors_and_json(tmp_path):
    model, optimizers = made("adamw")
    take_step(model, optimizers, 0)
    checkpoint = save(tmp_path, 7, model, optimizers, position={"step": 7}, scaler=None)
    assert {path.name for path in checkpoint.iterdir()} == {
        "config.json", "generation_config.json", "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json",
    }  # fmt: skip
    state = load_state(checkpoint)
    assert (state["step"], state["position"], state["scaler"]) == (7, {"step": 7}, None)
    tensors = load_file(checkpoint / "optimizer.safetensors")
    assert {key.rpartition(".")[2] for key in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    assert len(tensors) == 3 * len(list(model.parameters()))


def test_old_checkpoints_are_deleted_and_half_written_ones_ignored(tmp_path):
    model, optimizers = made("adamw")
    half = tmp_path / ".step-00000009.trefoil-new"
    half.mkdir()
    (half / "state.json").write_text("{")
    for step in (2, 4, 10, 100, 1000):
        save(tmp_path, step, model, optimizers, keep=2, keep_every=5)
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
    assert str(error.value) == (
        f"{checkpoint}: {name} is missing, and no other is whole; delete {tmp_path} to begin anew"
    )


def test_a_missing_part_of_the_weights_is_named(tmp_path):
    checkpoint = save(tmp_path, 5, *made("adamw"), shard_size="20KB")
    assert latest_checkpoint(tmp_path) == checkpoint
    shard = max(checkpoint.glob("model-*.safetensors"))
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} is missing"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("cut", [0, 100])
@pytest.mark.parametrize("name", ["optimizer.safetensors", "model.safetensors", "state.json", "config.json"])
def test_a_damaged_one_is_named_and_the_one_before_it_taken(tmp_path, name, cut):
    older, newer = (save(tmp_path, step, *made("adamw")) for step in (5, 6))
    (newer / name).write_bytes((newer / name).read_bytes()[:cut])
    told = []
    assert latest_checkpoint(tmp_path, told.append) == older
    assert len(told) == 1
    assert "\n" not in told[0]
    assert told[0].startswith(f"{newer}: {name} is damaged (")
    assert told[0].endswith("); going on from the one before it")


@pytest.mark.parametrize("name", ["optimizer.safetensors", "model.safetensors", "state.json", "manifest.json"])
def test_a_single_bit_is_noticed(tmp_path, name):
    older, newer = (save(tmp_path, step, *made("adamw")) for step in (5, 6))
    content = bytearray((newer / name).read_bytes())
    at = len(content) * 2 // 3  # in a tensor, a number or a checksum
    content[at] ^= 1
    (newer / name).write_bytes(content)
    told = []
    assert latest_checkpoint(tmp_path, told.append) == older
    (line,) = told
    # of a manifest that is damaged itself, the file that it seems to speak of
    assert re.match(rf"{newer}: {r'.*' if name == 'manifest.json' else name} is (damaged|missing)", line)


def test_one_of_before_there_was_a_manifest_is_looked_at_as_far_as_can_be(tmp_path):
    older, newer = (save(tmp_path, step, *made("adamw")) for step in (5, 6))
    for checkpoint in (older, newer):
        (checkpoint / "manifest.json").unlink()
    assert latest_checkpoint(tmp_path) == newer
    (newer / "model.safetensors").write_bytes((newer / "model.safetensors").read_bytes()[:-4])
    assert latest_checkpoint(tmp_path) == older


def test_damaged_ones_go_once_the_run_has_gone_on_from_before_them(tmp_path):
    for step in (2, 4, 6):
        save(tmp_path, step, *made("adamw"))
    save(tmp_path, 5, *made("adamw"))
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == ["step-00000004", "step-00000005"]


def test_where_somebody_stopped_the_run_changes_nothing_in_what_is_averaged(tmp_path):
    model, optimizers = made("adamw")
    steps = {2: True, 3: False, 4: True, 6: True, 7: False}  # whether they were planned
    for step, planned in steps.items():
        writer = CheckpointWriter(tmp_path, engine_of(model, optimizers), keep=3)
        writer.begin(step, {}, lambda where, weights: model.save_pretrained(where, state_dict=weights), planned)
        writer.finish()
    folders = checkpoint_folders(tmp_path)
    assert [step_of(folder) for folder in folders] == [4, 6, 7]
    for count, expected in {1: [7], 2: [6, 7], 3: [4, 6, 7], 9: [4, 6, 7]}.items():
        assert [step_of(folder) for folder in to_average(folders, count)] == expected


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("muon", {}), ("adamw", {"num_hidden_layers": 3}), ("adamw", {"hidden_size": 64}), ("adamw", {"vocab_size": 70})],
)
def test_another_model_or_optimiser_is_refused(tmp_path, kind, fields):
    checkpoint = save(tmp_path, 5, *made("adamw"))
    with pytest.raises(UserError, match=r"does not fit this model and optimiser \(first key: "):
        load_checkpoint(checkpoint, *made(kind, **fields))


HERE = Path(__file__).parent

# writes what lies in parts, reads it back into parts along the other side, and takes the next step, which must be the same
IN_PARTS = """
import sys
from pathlib import Path
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
sys.path[:0] = sys.argv[1].split(":")
from test_checkpoints import engine_of, made, optimizers_of, take_step
from trefoil.training.checkpoint_writer import CheckpointWriter
from trefoil.training.checkpoints import load_checkpoint
mesh = init_device_mesh("cpu", (2,))
def in_parts(seed, side):
    model, _ = made("adamw", seed=seed)
    fully_shard(model, mesh=mesh, shard_placement_fn=lambda each: Shard(side if each.ndim > 1 else 0))
    return model, optimizers_of(model, "adamw")
model, optimizers = in_parts(0, 0)
take_step(model, optimizers, 0)
writer = CheckpointWriter(Path(sys.argv[2]), engine_of(model, optimizers, in_parts=True), keep=2)
writer.begin(1, {}, lambda folder, weights: model.config.save_pretrained(folder))
take_step(model, optimizers, 1)
writer.finish()
other, other_optimizers = in_parts(1, 1)
load_checkpoint(Path(sys.argv[2]) / "step-00000001", other, other_optimizers)
take_step(other, other_optimizers, 1)
for one, two in zip(model.parameters(), other.parameters()):
    torch.testing.assert_close(one.full_tensor(), two.full_tensor(), atol=1e-6, rtol=0)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_what_lies_in_parts_is_written_in_parts_and_read_by_whom_so_ever(tmp_path):
    (tmp_path / "script.py").write_text(IN_PARTS)
    process = start(tmp_path / "script.py", f"{HERE}:{HERE.parent}", tmp_path, processes=2)
    assert process.returncode == 0, process.stderr
    checkpoint = latest_checkpoint(tmp_path)
    assert len(list(checkpoint.glob("shard-*.safetensors"))) == 2
    weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    model, optimizers = made("adamw", seed=1)
    assert weights < 3.5 * 4 * model.num_parameters()  # each once, with two moments
    load_checkpoint(checkpoint, model, optimizers)
    take_step(model, optimizers, 1)
    straight, straight_optimizers = made("adamw")
    for seed in range(2):
        take_step(straight, straight_optimizers, seed)
    for one, two in zip(model.parameters(), straight.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


# --- averaging


def test_the_mean_is_exact(tmp_path):
    folders, weights = [], []
    for step in range(3):
        model, optimizers = made("adamw", seed=step)
        folders.append(save(tmp_path, step, model, optimizers, keep=3))
        weights.append(dict(model.named_parameters()))
    mean, _ = made("adamw", seed=9)
    average_weights(folders, mean)
    for name, parameter in mean.named_parameters():
        expected = sum(each[name].double() for each in weights) / 3
        assert torch.equal(parameter, expected.float()), name
    average_weights(folders[:1], mean)
    assert torch.equal(mean.lm_head.weight, weights[0]["model.encoder.embed_tokens.weight"])


def test_weights_alone(tmp_path):
    model, optimizers = made("adamw")
    other, _ = made("adamw", seed=1)
    load_weights(save(tmp_path, 1, model, optimizers), other)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_a_state_that_is_no_json_number_is_kept(tmp_path):
    checkpoint = save(tmp_path, 1, *made("adamw"), position={"best_metric": None, "seconds": 0.1 + 0.2})
    assert load_state(checkpoint)["position"] == {"best_metric": None, "seconds": 0.1 + 0.2}
    assert json.loads((checkpoint / "state.json").read_text())["step"] == 1
