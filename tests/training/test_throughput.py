"""What a step costs, beside what torch counts of one."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import trefoil
from trefoil.training.quantization import pack_layers
from trefoil.training.throughput import training_flops_per_token

BATCH = {name: torch.arange(64).reshape(4, 16) for name in ("input_ids", "labels")}
PROJECTIONS = [f"TrefoilDecoderForCausalLM.model.layers.0.self_attn.{name}_proj" for name in "qkv"]


def counted(work):
    """What it returns, and the operations, by the names of the modules."""
    with FlopCounterMode(display=False) as counter:
        found = work()
    return found, {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}


@pytest.mark.parametrize("load_in", [None, "int8"])
def test_of_adapters_no_gradient_of_the_frozen_weights_is_counted(load_in):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    model = trefoil.TrefoilDecoderForCausalLM(trefoil.TrefoilDecoderConfig(**sizes))
    model.set_attn_implementation("eager")  # of others backward counts what forward did once more
    if load_in is not None:
        pytest.importorskip("torchao")
        linear = [name for name, module in model.model.named_modules() if isinstance(module, nn.Linear)]
        pack_layers(model, [f"model.{name}" for name in linear], load_in)
    model.add_adapter(peft.LoraConfig(r=4, target_modules="all-linear"))
    output, forward = counted(lambda: model(**BATCH))
    _, backward = counted(output.loss.backward)
    # before the first layer nothing is trained, so its inputs have no gradient; it is small
    first = sum(forward[f"{name}.base_layer"] + forward[f"{name}.lora_A.default"] for name in PROJECTIONS)
    expected = forward["Global"] + backward["Global"] + first
    assert training_flops_per_token(model, BATCH, 64) == expected / 64
