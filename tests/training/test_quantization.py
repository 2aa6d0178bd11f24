"""A base in eight or four bits: near to what it was, small, also in the backward pass, and with adapters that learn."""

import importlib.util

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_runs import after_step, losses, start, train_and_die
from transformers import AutoModelForCausalLM

from tests.training.test_adapters import adapted_recipe, bases, refused
from trefoil.configuration.errors import UserError
from trefoil.training.adapters import load_merged
from trefoil.training.quantization import PackedLinear, pack_layers
from trefoil.training.run import train

pytest.importorskip("torchao")
pytest.importorskip("peft")

__all__ = ["bases"]  # a fixture

KINDS = [("int8", 1, 0.01), ("nf4", 0.5, 0.1)]  # bytes of a weight, scales left out; relative error


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(128, 192).requires_grad_(False)


def bytes_of(weight):
    parts = (getattr(weight, name) for name in weight.__tensor_flatten__()[0])
    return sum(part.numel() * part.element_size() for part in parts if part is not None)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("load_in", "size", "error"), KINDS)
def test_outputs_and_gradients_are_near_to_those_of_the_whole_weight(layer, load_in, size, error):
    packed = PackedLinear(layer, load_in)
    states, seen = torch.randn(2, 5, 128), torch.randn(2, 5, 192)
    gradients = []
    for each in (layer, packed):
        wanted = states.clone().requires_grad_()
        output = each(wanted)
        output.backward(seen)
        gradients.append(wanted.grad)
    assert 0 < relative(packed(states), layer(states)) < error
    assert 0 < relative(gradients[1], gradients[0]) < error
    assert packed.bias is layer.bias
    assert bytes_of(packed.weight) < 1.2 * size * layer.weight.numel()


@pytest.mark.parametrize("load_in", ["int8", "nf4"])
def test_no_unpacked_weight_is_kept_for_the_backward_pass(layer, load_in):
    packed, kept = PackedLinear(layer, load_in), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        packed(torch.randn(3, 128, requires_grad=True))
    assert kept
    assert all(type(tensor) is not torch.Tensor for tensor in kept)


def test_half_precision_stays_what_it_is(layer):
    assert PackedLinear(layer.bfloat16(), "int8")(torch.randn(3, 128).bfloat16()).dtype == torch.bfloat16


def test_a_weight_of_no_whole_blocks_is_named():
    model = nn.Sequential(nn.Linear(3, 5))
    with pytest.raises(UserError, match=r"adapter.load_in='nf4': 0.weight has 15 numbers, .* multiple of 64; use int8"):
        pack_layers(model, ["0"], "nf4")


def quantized(folder, base, load_in, **changes):
    adapter = {"kind": "lora", "load_in": load_in, "dropout": 0.0}
    return adapted_recipe(
        folder, base, "causal-lm", adapter=adapter, model={"config": {"hidden_dropout": 0.0}}, **changes
    )


@pytest.mark.slow
@pytest.mark.parametrize("load_in", ["int8", "nf4"])
def test_an_adapter_learns_beside_it_and_is_merged_into_the_whole_base(bases, tmp_path, load_in):
    longer = {"max_steps": 12, "evaluate_every": 12}
    train(quantized(tmp_path / "packed", bases["decoder"], load_in, training=longer))
    train(quantized(tmp_path / "whole", bases["decoder"], None, training=longer))
    packed, whole = (losses(tmp_path / name / "run") for name in ("packed", "whole"))
    assert packed != whole
    assert list(packed.values()) == pytest.approx(list(whole.values()), rel=0.05)
    assert packed[12] < 0.9 * packed[1]
    best = tmp_path / "packed" / "run" / "best"
    assert all(".lora_" in name for name in load_file(best / "adapter_model.safetensors"))
    assert not any(isinstance(part, PackedLinear) for part in load_merged(best, AutoModelForCausalLM).modules())


@pytest.mark.slow
@pytest.mark.parametrize(("load_in", "checkpointing"), [("int8", False), ("nf4", True)])
def test_a_run_that_goes_on_takes_the_same_steps_to_the_bit(bases, tmp_path, monkeypatch, load_in, checkpointing):
    longer = {"max_steps": 6, "save_every": 2, "evaluate_every": 3, "gradient_checkpointing": checkpointing}
    straight, broken = (
        quantized(tmp_path / name, bases["decoder"], load_in, training=longer) for name in ("straight", "broken")
    )
    train(straight)
    train_and_die(monkeypatch, broken, after_step(5))
    train(broken)
    assert losses(tmp_path / "broken" / "run") == losses(tmp_path / "straight" / "run")


@pytest.mark.slow
@pytest.mark.parametrize("load_in", ["int8", "nf4"])
def test_two_processes_take_the_steps_of_one(bases, tmp_path, load_in):
    train(quantized(tmp_path / "alone", bases["decoder"], load_in))
    recipe = quantized(tmp_path / "together", bases["decoder"], load_in)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (tmp_path / "script.py").write_text("import sys; from trefoil.cli import main; sys.exit(main(sys.argv[1:]))")
    ended = start(tmp_path / "script.py", "train", tmp_path / "recipe.yaml", processes=2)
    assert ended.returncode == 0, ended.stderr
    one, two = (losses(tmp_path / name / "run") for name in ("alone", "together"))
    assert list(one.values()) == pytest.approx(list(two.values()), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "dora", "load_in": "nf4"}, "adapter.load_in='nf4' is for lora, and not for dora; set adapter.kind=lora"),
        ({"kind": "lora", "load_in": "int4"}, "adapter.load_in='int4' is not one of 'int8', 'nf4'"),
        ({"kind": "lora", "load_in_8bit": True}, "unknown key adapter.load_in_8bit; did you mean adapter.load_in?"),
        ({"load_in": "int8"}, "adapter.load_in='int8' does nothing without a kind"),
    ],
)  # fmt: skip
def test_a_recipe_says_what_goes_together(changes, message):
    assert message in refused({"adapter": changes, "model": {"init_from": "base"}})


def test_it_is_not_compiled():
    changes = {"adapter": {"kind": "lora", "load_in": "int8"}, "model": {"init_from": "base"}}
    assert "is not compiled; set training.compile=false" in refused(changes, training={"max_steps": 1, "compile": True})


def test_without_torchao_nothing_begins(bases, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchao" else find(name))
    with pytest.raises(UserError, match=r"adapter.load_in='int8' needs torchao: pip install torchao"):
        train(quantized(tmp_path, bases["decoder"], "int8"))
    assert not (tmp_path / "run").exists()
