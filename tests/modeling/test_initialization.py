"""Initial weights have the distributions of `TrefoilPreTrainedModel._init_weights`, and saved ones come back."""

import pytest
import torch
from conftest import FAMILIES, tiny_config, tiny_model
from torch import nn
from transformers import set_seed

from trefoil.modeling.norms import RMSNorm, ZeroCenteredRMSNorm

STD = 0.05
LAYERS = 4
# large enough to measure standard deviations
WIDE = {"vocab_size": 500, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": LAYERS}


def new_model(family, variant, **fields):
    set_seed(0)
    return FAMILIES[family][1](tiny_config(family, variant, initializer_range=STD, **WIDE, **fields))


def test_the_table_of_initial_weights(family_and_variant):
    model = new_model(*family_and_variant, attention_bias=True, mlp_bias=True, type_vocab_size=3)
    kinds = set()
    for place, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            values = parameter.detach()
            if isinstance(module, RMSNorm | nn.LayerNorm) and name == "weight":
                kinds.add("norm")
                assert (values == (0 if isinstance(module, ZeroCenteredRMSNorm) else 1)).all(), place
            elif name == "bias":
                kinds.add("bias")
                assert (values == 0).all(), place
            else:
                assert isinstance(module, nn.Linear | nn.Embedding)
                kinds.add(type(module).__name__)
                if getattr(module, "padding_idx", None) is not None:
                    assert (values[module.padding_idx] == 0).all(), place
                    values = values[1:]
                error = 4 / (2 * values.numel()) ** 0.5  # four standard errors of a measured standard deviation
                assert values.std().item() == pytest.approx(STD, rel=error), place
                assert abs(values.mean().item()) < 4 * STD / values.numel() ** 0.5, place
    assert kinds >= {"norm", "bias", "Linear", "Embedding"}


@pytest.mark.parametrize(("family", "sublayers"), [("encoder", 2), ("decoder", 2), ("encoder-decoder", 3)])
def test_what_writes_to_the_residual_stream_begins_smaller_where_layers_are_many(family, sublayers):
    model = new_model(family, "modern", residual_init="scaled")
    for place, module in model.named_modules():
        if isinstance(module, nn.Linear) and "layers." in place:
            count = LAYERS * (sublayers if "decoder.layers" in place else 2)
            smaller = count**-0.5 if place.endswith(("o_proj", "down_proj")) else 1
            error = 4 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(STD * smaller, rel=error), place


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_layers_may_begin_as_the_identity(family, token_ids):
    model = new_model(family, "modern", residual_init="zero").eval()
    outputs = model(token_ids, output_hidden_states=True)
    states = outputs.decoder_hidden_states if family == "encoder-decoder" else outputs.hidden_states
    for layer in range(1, LAYERS):
        assert torch.equal(states[layer], states[0])
    assert outputs.logits.std() > 0


def test_saved_weights_load_on_the_meta_device_bit_for_bit(family_and_variant, token_ids, tmp_path):
    model = tiny_model(*family_and_variant)
    model.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    for ours, theirs in (
        (model.named_parameters(), loaded.named_parameters()),
        (model.named_buffers(), loaded.named_buffers()),
    ):
        theirs = dict(theirs)
        for name, tensor in ours:
            assert torch.equal(theirs.pop(name), tensor), name
        assert not theirs
    with torch.no_grad():
        assert torch.equal(loaded.eval()(token_ids).logits, model(token_ids).logits)


@pytest.mark.parametrize(
    "rope_parameters",
    [
        {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
        {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 32},
        {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_rotary_buffers_are_right_after_loading(rope_parameters, token_ids, tmp_path):
    model = tiny_model("decoder", rope_parameters=rope_parameters)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    for name in ("inv_freq", "original_inv_freq"):
        buffer = getattr(loaded.model.rotary_emb["full_attention"], name)
        assert torch.equal(buffer, getattr(model.model.rotary_emb["full_attention"], name))
        assert buffer.isfinite().all()
    with torch.no_grad():
        assert torch.equal(loaded(token_ids).logits, model(token_ids).logits)
        long_ids = token_ids.repeat(1, 9)  # longer than max_position_embeddings
        assert torch.equal(loaded(long_ids).logits, model(long_ids).logits)


def test_weights_missing_from_a_checkpoint_are_initialised(tmp_path):
    tiny_model("decoder").model.save_pretrained(tmp_path)
    set_seed(0)
    model, report = FAMILIES["decoder"][1].from_pretrained(
        tmp_path, tie_word_embeddings=False, output_loading_info=True
    )
    assert report["missing_keys"] == {"lm_head.weight"}
    assert model.lm_head.weight.std().item() == pytest.approx(model.config.initializer_range, rel=0.1)
