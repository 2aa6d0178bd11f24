"""Steps that are left out: which, that all processes leave out the same, and that what goes on is sound."""

import inspect
import json
import math
import random
import statistics

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from training_runs import TALKATIVE, after_step, losses, skipped, spoiled, start, tiny_recipe, train_and_die

from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import TrainingRecipe
from trefoil.training import watch
from trefoil.training.checkpoints import checkpoint_folders, load_state
from trefoil.training.engine import Engine
from trefoil.training.loop import TrainingLoop
from trefoil.training.run import train
from trefoil.training.watch import LossWatch

# --- by itself


def filled(**recipe):
    """After 128 steps, with what was taken."""
    draw, own = random.Random(1), LossWatch(TrainingRecipe(**recipe))
    taken = [draw.gauss(3, 0.3) for _ in range(128)]
    assert [own.fault(step, loss, 1.0) for step, loss in enumerate(taken, 1)] == [None] * 128
    return own, taken


def test_a_loss_is_too_high_beyond_six_sigma_of_the_last_128_steps():
    own, taken = filled()
    bound = statistics.fmean(taken) + 6 * statistics.pstdev(taken)
    assert own.fault(129, bound + 1e-6, 1.0) == (
        f"the loss {bound:.4g} is beyond {bound:.4g} (mean + training.max_loss_sigmas=6 sigma of the last 128 steps)"
    )
    assert own.fault(130, bound - 1e-6, 1.0) is None
    taken = [*taken[1:], bound - 1e-6]  # what was left out says nothing of what follows
    bound = statistics.fmean(taken) + 6 * statistics.pstdev(taken)
    assert own.fault(131, bound + 1e-6, 1.0) is not None
    assert own.skipped == 2


def test_of_fewer_steps_nobody_says_what_is_high():
    own = LossWatch(TrainingRecipe())
    assert [own.fault(step, loss, 1.0) for step, loss in enumerate([1.0] * 127 + [1e6], 1)] == [None] * 128


def test_a_loss_that_is_nearly_zero_may_rise():
    own = LossWatch(TrainingRecipe())
    rare = [0.5 if step % 20 == 0 else 1e-5 for step in range(1, 1000)]
    assert [own.fault(step, loss, 1.0) for step, loss in enumerate(rare, 1)] == [None] * 999
    equal = LossWatch(TrainingRecipe())
    assert [equal.fault(step, 0.0, 1.0) for step in range(1, 129)] == [None] * 128
    assert equal.fault(129, 0.99, 1.0) is None
    assert equal.fault(130, 1.1, 1.0) is not None


def test_a_recipe_may_take_losses_however_high_but_finite_ones_only():
    own, _ = filled(max_loss_sigmas=None)
    assert own.fault(129, 1e6, 1.0) is None
    assert own.fault(130, math.nan, 1.0) == "the loss is nan"
    assert own.fault(131, math.inf, 1.0) == "the loss is inf"
    assert own.fault(132, 3.0, math.nan) == "the norm of the gradient is nan"


def test_so_many_of_the_last_steps_are_too_much():
    own = LossWatch(TrainingRecipe(max_skipped_steps=2))
    bad = {1, 2, 129, 130, 131}
    too_much = []
    for step in range(1, 132):
        own.fault(step, math.nan if step in bad else 1.0, 1.0)
        too_much += [step] if own.is_too_much else []
    assert too_much == [131]  # the first two are long ago by then
    assert own.measured(None) == {"skipped_steps": 5}


def test_it_decides_the_same_after_a_checkpoint():
    own, _ = filled(max_skipped_steps=3)
    own.fault(129, 100.0, 1.0)
    other = LossWatch(TrainingRecipe(max_skipped_steps=3))
    other.load_state(json.loads(json.dumps(own.state())))
    draw = random.Random(2)
    for step in range(130, 300):
        loss = draw.gauss(3, 0.9)
        assert own.fault(step, loss, 1.0) == other.fault(step, loss, 1.0)
        assert own.is_too_much == other.is_too_much
    assert own.skipped == other.skipped > 1
    assert own.state() == other.state()


def test_a_checkpoint_of_before_there_was_one_begins_anew():
    own = LossWatch(TrainingRecipe())
    own.load_state(None)
    assert own.measured(None) == {}


# --- in a run


# `spoiled` in processes of their own: arguments are the recipe, a factor, the bad steps, a rank and a folder
# where each process leaves a sum of its weights
SPOILED = """
import sys
from pathlib import Path
import torch
from trefoil.cli import main
from trefoil.training import watch
from trefoil.training.loop import TrainingLoop
{spoiled}
recipe, factor, bad, rank, folder = sys.argv[1:]
watch.WINDOW = 8
TrainingLoop.step = spoiled(TrainingLoop.step, float(factor), set(map(int, bad.split(","))), int(rank))
run = TrainingLoop.run
def run_and_tell(self):
    position = run(self)
    weights = torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])
    Path(folder, "weights-" + str(self.share.rank)).write_bytes(weights.numpy().tobytes())
    return position
TrainingLoop.run = run_and_tell
sys.exit(main(["train", recipe]))
"""


def spoil_in_processes(folder, recipe, factor, bad, rank=0, processes=1):
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "script.py").write_text(SPOILED.format(spoiled=inspect.getsource(spoiled)))
    process = start(folder / "script.py", folder / "recipe.yaml", factor, bad, rank, folder, processes=processes)
    assert process.returncode == 0, process.stderr
    return process


@pytest.mark.slow
def test_a_spike_is_left_out_and_so_it_is_by_a_process_that_goes_on_from_before_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch, "WINDOW", 8)
    monkeypatch.setattr(TrainingLoop, "step", spoiled(TrainingLoop.step, 50.0, {16}))
    train(tiny_recipe(tmp_path / "whole"))
    assert list(skipped(tmp_path / "whole")) == [16]
    assert list(losses(tmp_path / "whole")) == [*range(1, 16), *range(17, 21)]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert line.startswith("step 16: the loss ")
    assert line.endswith("sigma of the last 8 steps); left out (1 so far)")
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run"), after_step(13))
    monkeypatch.undo()
    spoil_in_processes(tmp_path, tiny_recipe(tmp_path / "run"), 50.0, 16)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert skipped(tmp_path / "run") == skipped(tmp_path / "whole")
    weights = [run / "checkpoints" / "step-00000020" / "model.safetensors" for run in tmp_path.glob("*/")]
    assert len({file.read_bytes() for file in weights}) == 1


@pytest.mark.slow
def test_a_batch_that_is_bad_for_one_process_is_left_out_by_both(tmp_path):
    recipe = tiny_recipe(tmp_path / "run", **TALKATIVE)
    process = spoil_in_processes(tmp_path, recipe, math.nan, "14,15", rank=1, processes=2)
    assert "step 14: the loss is nan; left out (1 so far)" in process.stderr.splitlines()
    assert "step 15: the loss is nan; left out (2 so far)" in process.stderr.splitlines()
    assert list(losses(tmp_path / "run")) == [*range(1, 14), *range(16, 21)]
    assert all(map(math.isfinite, losses(tmp_path / "run").values()))
    first, second = ((tmp_path / f"weights-{rank}").read_bytes() for rank in range(2))
    assert first == second


def test_too_many_end_the_run_with_the_batch_kept(tmp_path, monkeypatch):
    run, batches = tmp_path / "run", {}

    step = spoiled(TrainingLoop.step, math.nan, {13, 14, 15, 16, 17})

    def step_and_remember(self, micro_batches):
        batches[self.position.step + 1] = micro_batches
        return step(self, micro_batches)

    monkeypatch.setattr(TrainingLoop, "step", step_and_remember)
    recipe = tiny_recipe(run, training={"max_skipped_steps": 2, "save_every": 7}, batches={"tokens_per_device": 600})
    with pytest.raises(UserError) as error:
        train(recipe)
    assert str(error.value) == (
        "step 15: the loss is nan, so training stops here; steps left out among the last 128: 3, the batch of this one is in "
        f"{run}/skipped/step-00000015, checkpoints up to now are kept. Lower optimization.learning_rate=0.003 or lengthen "
        "the warm-up; the same command then goes on from the last checkpoint"
    )
    assert list(skipped(run)) == [13, 14, 15]
    # none is written while steps are left out: the weights may be to blame
    assert [folder.name for folder in checkpoint_folders(run / "checkpoints")] == ["step-00000007"]
    files = [file for file in (run / "skipped").rglob("*") if file.is_file()]
    assert files == [run / "skipped" / "step-00000015" / "rank-0.safetensors"]
    kept = load_file(files[0])
    assert len(batches[15]) == 2
    expected = {f"{number}.{name}": tensor for number, one in enumerate(batches[15]) for name, tensor in one.items()}
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], expected[name]) for name in kept)


@pytest.mark.slow
def test_a_checkpoint_due_at_a_step_that_is_left_out_is_written_after_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingLoop, "step", spoiled(TrainingLoop.step, math.nan, {14}))
    train(tiny_recipe(tmp_path / "run", training={"save_every": 7}))
    assert [load_state(folder)["step"] for folder in checkpoint_folders(tmp_path / "run" / "checkpoints")] == [15, 20]


@pytest.mark.slow
def test_with_fp16_gradients_that_are_not_finite_are_left_to_the_scaler(tmp_path, monkeypatch):
    scales = {}

    def prepare_and_scale(self, *arguments, prepare=Engine.prepare):
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
        return prepare(self, *arguments)

    def unscale(self, optimizer=None):  # accelerate does it on GPUs only
        for each in self._optimizers:
            self.scaler.unscale_(each.optimizer)

    step = spoiled(TrainingLoop.step, 50.0, {16})

    def step_and_break(self, micro_batches):
        hook = None
        if self.position.step + 1 == 14:
            hook = next(self.model.parameters()).register_hook(lambda gradient: gradient * math.nan)
        values = step(self, micro_batches)
        scales[self.position.step] = self.accelerator.scaler.get_scale()
        if hook is not None:
            hook.remove()
        return values

    monkeypatch.setattr(watch, "WINDOW", 8)
    monkeypatch.setattr(Engine, "prepare", prepare_and_scale)
    monkeypatch.setattr(Accelerator, "unscale_gradients", unscale)
    monkeypatch.setattr(TrainingLoop, "step", step_and_break)
    train(tiny_recipe(tmp_path / "run"))
    assert (scales[13], scales[14], scales[20]) == (1024.0, 512.0, 512.0)
    assert list(skipped(tmp_path / "run")) == [16]
    assert list(losses(tmp_path / "run")) == [*range(1, 16), *range(17, 21)]


@pytest.mark.slow
def test_it_is_told_at_the_step_where_it_is_and_not_at_the_next_that_is_logged(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TrainingLoop, "step", spoiled(TrainingLoop.step, math.nan, {14}))
    train(tiny_recipe(tmp_path / "run", training={"log_every": 10}))
    shown = capsys.readouterr().err
    assert shown.index("step 14: the loss is nan; left out (1 so far)") < shown.index("step 18/20")
    assert list(skipped(tmp_path / "run")) == [14]


# --- what is written


@pytest.mark.parametrize("which", ["weight", pytest.param("moment", marks=pytest.mark.slow)])
def test_what_is_not_finite_is_not_written(tmp_path, monkeypatch, which):
    def step_and_break(self, micro_batches, step=TrainingLoop.step):
        values = step(self, micro_batches)
        if self.position.step == 12:
            parameter, state = next(iter(self.engine.optimizers[0].state.items()))
            (parameter.data if which == "weight" else state["exp_avg_sq"]).view(-1)[0] = math.inf
        return values

    monkeypatch.setattr(TrainingLoop, "step", step_and_break)
    with pytest.raises(
        UserError, match="step 12: weights or moments are not finite, so training stops here; checkpoints"
    ):
        train(tiny_recipe(tmp_path / "run"))
    assert [load_state(folder)["step"] for folder in checkpoint_folders(tmp_path / "run" / "checkpoints")] == [6]
