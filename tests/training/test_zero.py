"""DeepSpeed: what is refused where it is not installed, too, and steps that are left out where it is. Its losses, scores and
checkpoints are compared with the other engines' in test_engine.py."""

import importlib.util
import math
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
from training_runs import TALKATIVE, losses, skipped, spoiled, tiny_content, tiny_recipe

from benchmarks import engines
from trefoil.configuration.errors import UserError
from trefoil.training.loop import TrainingLoop
from trefoil.training.run import train
from trefoil.training.zero import ZeRO, deepspeed_plugin

ASKED = {"ACCELERATE_USE_DEEPSPEED": "true"}
needs_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed")


@pytest.fixture
def asked(monkeypatch):
    """Sets what accelerate's launcher says to a process."""

    def ask(**environment):
        for variable, value in (ASKED | environment).items():
            monkeypatch.setenv(variable, value)

    return ask


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def test_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    assert deepspeed_plugin(tiny_recipe(tmp_path)) is None


def test_where_it_is_not_installed_that_is_said_before_anything_is_written(tmp_path, asked, monkeypatch):
    asked()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"DeepSpeed, which is not installed; pip install deepspeed, or FSDP2 leaves"):
        train(tiny_recipe(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variable", "value", "refusal"),
    [
        ("ACCELERATE_DEEPSPEED_CONFIG_FILE", "ds.json", "deepspeed_config_file: ds.json, which is not read"),
        ("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu", "offload_optimizer_device: cpu, which is not supp"),
        ("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "nvme", "offload_param_device: nvme, which is not supported"),
        ("ACCELERATE_GRADIENT_CLIPPING", "0.5", "gradient_clipping: 0.5, which is the recipe's: optimization.max_gr"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "steps: 4, which is the recipe's: batches.tokens_per_device"),
        ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1", "zero_stage: 1; set 2 or 3"),
    ],
)
def test_what_the_loop_does_not_know_is_refused(tmp_path, asked, installed, variable, value, refusal):
    asked(**{variable: value})
    with pytest.raises(UserError, match=f"the launcher's file says .*{refusal}"):
        deepspeed_plugin(tiny_recipe(tmp_path))


def test_what_it_is_told(tmp_path, asked, installed):
    asked(ACCELERATE_DEEPSPEED_ZERO_STAGE="3")
    recipe = tiny_recipe(tmp_path, optimization={"max_grad_norm": 0.7}, training={"mixed_precision": "bf16"})
    config = deepspeed_plugin(recipe).deepspeed_config
    assert (config["zero_optimization"]["stage"], config["gradient_clipping"]) == (3, 0.7)
    assert (config["bf16"]["enabled"], config["torch_autocast"]["enabled"]) == (False, True)
    recipe.training.mixed_precision = "fp16"
    with pytest.raises(UserError, match=r"training.mixed_precision='fp16' does not go with DeepSpeed; set bf16"):
        deepspeed_plugin(recipe)


@pytest.mark.parametrize("stage", [2, 3])
def test_layers_whose_weights_come_and_go_are_not_compiled(tmp_path, stage):
    engine = object.__new__(ZeRO)
    engine.accelerator = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage))
    engine.context_parallel = engine.tensor_parallel = 1
    refused = pytest.raises(
        UserError, match=r"compile=true does not go with ZeRO-3, .*; set it to false, or FSDP2 leaves"
    )
    with refused if stage == 3 else nullcontext():
        engine.require(tiny_recipe(tmp_path, training={"compile": True}))


class OfGradientAlone:
    """A factor of a loss, which stays as it is, while its gradient becomes nan."""

    def __rmul__(self, loss):
        loss.register_hook(lambda gradient: gradient * math.nan)
        return loss


def spoil_and_launch(jobs):
    """The first step is among those that are left out: AdamW has no moments yet."""
    TrainingLoop.step = spoiled(TrainingLoop.step, math.nan, {1, 7})
    TrainingLoop.step = spoiled(TrainingLoop.step, OfGradientAlone(), {9})
    return engines.launch(jobs)


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_is_left_out(tmp_path):
    places = [engines.FIRST, "ZeRO-2 on 2", "ZeRO-3 on 2"]
    jobs = [
        (place, tiny_content(tmp_path / "runs" / place, **TALKATIVE | {"training": {"max_steps": 12, "log_every": 1}}))
        for place in places
    ]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as launcher:
        assert launcher.submit(spoil_and_launch, jobs).result() == [None] * len(jobs)
    runs = [tmp_path / "runs" / place for place in places]
    assert [set(skipped(run)) for run in runs] == [{1, 7, 9}] * len(runs)
    assert len(losses(runs[0])) == 9
    assert all(engines.difference(run, runs[0]) <= 1e-4 for run in runs[1:])
