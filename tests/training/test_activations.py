"""Gradient checkpointing by a budget: what is counted is what lives, and what is chosen changes no loss."""

from contextlib import nullcontext

import pytest
import torch
from conftest import seldom, tiny_model
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import after_step, losses, tiny_recipe, train_and_die

from trefoil.configuration.errors import UserError
from trefoil.training import run
from trefoil.training.activations import GB, Activations, recompute_within, spread
from trefoil.training.loop import TrainingLoop
from trefoil.training.models import checkpointed_layers
from trefoil.training.run import train

BUDGET = 0.0045  # of a tiny run, whose batches keep 0.0011 to 0.007


class Living(TorchDispatchMode):
    """Every storage that comes into being, and what lives of them; weights were there before."""

    def __init__(self, model):
        super().__init__()
        self.weights = {StorageWeakRef(weight.untyped_storage()) for weight in model.parameters()}
        self.storages = {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        output = function(*arguments, **(options or {}))
        for tensor in pytree.tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.storages[StorageWeakRef(storage)] = storage.nbytes()
        return output

    @property
    def bytes(self):
        return sum(
            size for storage, size in self.storages.items() if storage not in self.weights and not storage.expired()
        )


def batch_for(family):
    generator = torch.Generator().manual_seed(0)
    ids, labels = (torch.randint(3, 50, (8, length), generator=generator) for length in (40, 30))
    mask = torch.ones_like(ids)
    mask[-1, -5:] = 0
    if family == "encoder-decoder":
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernel", seldom(["sdpa", "eager"], "sdpa"))
@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_what_is_counted_is_what_lives_after_a_forward_pass(family, kernel, precision):
    model, batch = tiny_model(family).train(), batch_for(family)
    model.set_attn_implementation(kernel)
    layers = checkpointed_layers(model)
    autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with autocast:
        counted = Activations.of(model, layers, batch)
    model.activation_checkpointing_enable()
    sizes = []
    for count in range(len(layers) + 1):
        for number, layer in enumerate(layers):
            layer.gradient_checkpointing = number in spread(count, len(layers))
        with Living(model) as living, autocast:
            loss = model(**batch).loss
        assert loss.requires_grad
        sizes.append(living.bytes)
        assert counted.bytes(spread(count, len(layers))) == pytest.approx(living.bytes, rel=0.02)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.7 * sizes[0]


@pytest.mark.parametrize(
    ("count", "layers", "chosen"),
    [
        (0, 4, set()),
        (1, 4, {0}),
        (2, 4, {0, 2}),
        (3, 4, {0, 1, 2}),
        (4, 4, {0, 1, 2, 3}),
        (2, 5, {0, 2}),
        (3, 7, {0, 2, 4}),
    ],
)
def test_layers_that_compute_again_are_spread_over_the_depth_but_for_the_last(count, layers, chosen):
    assert spread(count, layers) == chosen


@pytest.fixture
def seen(monkeypatch):
    """Of each loop: which layers compute again, and what lives after each forward pass of its steps, in GB."""
    loops, step, recompute = [], TrainingLoop.step, recompute_within

    def recompute_and_note(budget, engine, *rest):
        before = torch.get_rng_state()
        recompute(budget, engine, *rest)
        assert torch.equal(torch.get_rng_state(), before)
        loops.append(([layer.gradient_checkpointing for layer in checkpointed_layers(engine.bare)], []))

    def step_and_weigh(self, micro_batches):
        for batch in micro_batches:
            with Living(self.model) as living:
                loss = self.model.train()(**batch).loss
            assert loss.requires_grad
            loops[-1][1].append(living.bytes / GB)
        return step(self, micro_batches)

    monkeypatch.setattr(run, "recompute_within", recompute_and_note)
    monkeypatch.setattr(TrainingLoop, "step", step_and_weigh)
    return loops


def deep(folder, **training):
    return tiny_recipe(
        folder, model={"config": {"num_hidden_layers": 2}}, training={"max_steps": 7, "save_every": 3, **training}
    )


def budgeted(folder, budget=BUDGET, **changes):
    return deep(folder, gradient_checkpointing=budget, **changes)


@pytest.mark.slow
def test_killed_it_chooses_the_same_again_and_all_losses_are_those_without(tmp_path, monkeypatch, seen, capsys):
    with monkeypatch.context() as patch:
        train_and_die(patch, budgeted(tmp_path / "run"), after_step(4))
    train(budgeted(tmp_path / "run"))
    (first, _), (second, _) = seen
    assert first == second == [True, False, True, False]  # of both halves
    living = [size for _, sizes in seen for size in sizes]
    assert 0.8 * BUDGET < max(living) <= BUDGET
    told = capsys.readouterr().err
    assert told.count("layers that compute again: 2 of 4; the largest batch keeps 0.00404 GB of ") == 2, told[:900]
    monkeypatch.undo()
    train(deep(tmp_path / "whole"))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.parametrize(
    ("budget", "chosen", "told"),
    [
        pytest.param(
            1, [False] * 4, "layers that compute again: 0 of 4; the largest batch keeps 0.00", marks=pytest.mark.slow
        ),
        (
            1e-4,
            [True] * 4,
            "=0.0001 GB is too little: with all 4 layers computing again, the largest batch keeps 0.00112 GB",
        ),
    ],
)
def test_a_budget_for_all_and_one_for_none(tmp_path, seen, capsys, budget, chosen, told):
    train(budgeted(tmp_path / "run", budget, max_steps=1))
    assert [layers for layers, _ in seen] == [chosen]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if told in line]
    assert "gradient_checkpointing" in line


@pytest.mark.parametrize("wanted", [True, 0.1])
def test_a_model_without_layers_is_refused_in_one_line(tmp_path, wanted):
    recipe = tiny_recipe(tmp_path / "run", training={"gradient_checkpointing": wanted})
    recipe.model.preset, recipe.model.config = "recurrent-tiny", {"hidden_size": 32}
    message = (
        "training.gradient_checkpointing is for the layers of transformers, which a trefoil_recurrent has not; set it"
    )
    with pytest.raises(UserError, match=message):
        train(recipe)
