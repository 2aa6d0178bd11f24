"""torchao's eight-bit weights: near the float model, smaller, saved and loaded."""

import pytest
import torch
from conftest import tiny_model
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, TorchAoConfig

pytest.importorskip("torchao")
from torchao.quantization import Int8WeightOnlyConfig, quantize_

AUTO = {"encoder": AutoModelForMaskedLM, "decoder": AutoModelForCausalLM, "encoder-decoder": AutoModelForSeq2SeqLM}
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def projections(model):
    return {name: part.weight for name, part in model.named_modules() if name.endswith(PROJECTIONS)}


def bytes_of(model):
    """Of all parameters, of a quantised one those of its parts."""
    total = 0
    for weight in model.parameters():
        parts = [weight]
        if hasattr(weight, "__tensor_flatten__"):
            parts = [getattr(weight, name) for name in weight.__tensor_flatten__()[0]]
        total += sum(part.numel() * part.element_size() for part in parts if part is not None)
    return total


def logits_of(model, token_ids):
    with torch.no_grad():
        return model(input_ids=token_ids).logits


@pytest.mark.parametrize("family", AUTO)
def test_eight_bits_from_pretrained_and_back(family, token_ids, tmp_path):
    plain = tiny_model(family)
    plain.save_pretrained(tmp_path / "plain")
    quantization = TorchAoConfig(Int8WeightOnlyConfig())
    model = AUTO[family].from_pretrained(tmp_path / "plain", quantization_config=quantization)
    assert type(model) is type(plain)
    assert {type(weight).__name__ for weight in projections(model).values()} == {"Int8Tensor"}
    assert bytes_of(model) < 0.55 * bytes_of(plain)

    expected, found = logits_of(plain, token_ids), logits_of(model, token_ids)
    assert not torch.equal(found, expected)
    assert (found - expected).pow(2).mean().sqrt() < 0.1 * expected.std()
    assert (found.argmax(dim=-1) == expected.argmax(dim=-1)).float().mean() >= 0.8

    model.save_pretrained(tmp_path / "small")
    sizes = [(tmp_path / place / "model.safetensors").stat().st_size for place in ("small", "plain")]
    assert sizes[0] < 0.55 * sizes[1]
    loaded, report = AUTO[family].from_pretrained(tmp_path / "small", output_loading_info=True)
    assert not any(report.values()), report
    assert torch.equal(logits_of(loaded, token_ids), found)


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_eight_bits_generate(family, token_ids):
    """What a model generates is what its own logits say, position by position."""
    model = tiny_model(family)
    quantize_(model, Int8WeightOnlyConfig())
    assert {type(weight).__name__ for weight in projections(model).values()} == {"Int8Tensor"}
    found = model.generate(token_ids, max_new_tokens=6, min_new_tokens=6, do_sample=False, eos_token_id=-1)
    with torch.no_grad():
        if family == "decoder":
            logits = model(input_ids=found).logits[:, token_ids.shape[1] - 1 : -1]
        else:
            logits = model(input_ids=token_ids, decoder_input_ids=found).logits[:, :-1]
    assert torch.equal(found[:, -6:], logits.argmax(dim=-1))
