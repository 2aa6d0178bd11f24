import pytest
import torch
from conftest import FAMILIES, tiny_config, tiny_model
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trefoil.modeling.attention import MultiHeadAttention, scaled_dot_product_attention


def test_worked_example_of_a_score():
    query, keys = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.8, 0.2], [0.1, 0.9]])
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    output, weights = scaled_dot_product_attention(query, keys, values, scaling=1.0)
    scores = torch.tensor([0.7 * 0.8 + 0.3 * 0.2, 0.7 * 0.1 + 0.3 * 0.9])
    assert scores[0].item() == pytest.approx(0.62)
    expected = scores.exp() / scores.exp().sum()
    torch.testing.assert_close(weights[0], expected)
    torch.testing.assert_close(output[0], expected)


def test_scaling_defaults_to_one_over_root_of_width():
    query, key, value = torch.randn(3, 2, 5, 16).unbind()
    unscaled = torch.softmax(query @ key.mT / 4, dim=-1) @ value
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value)[0], unscaled)


@pytest.mark.parametrize("boolean", [True, False])
def test_masked_keys_get_no_weight_and_rows_sum_to_one(boolean):
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind()
    allowed = torch.ones(6, 6, dtype=torch.bool).tril()
    mask = allowed if boolean else torch.zeros(6, 6).masked_fill(~allowed, torch.finfo(torch.float32).min)
    _, weights = scaled_dot_product_attention(query, key, value, mask)
    assert (weights[..., ~allowed] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 6))


def test_grouped_heads_share_keys_and_values():
    torch.manual_seed(0)
    grouped, full = (MultiHeadAttention(tiny_config("decoder", num_key_value_heads=heads), 0) for heads in (2, 4))
    weights = grouped.state_dict()
    for name in ("k_proj.weight", "v_proj.weight"):
        weights[name] = weights[name].view(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32)
    full.load_state_dict(weights)
    states = torch.randn(2, 5, 32)
    torch.testing.assert_close(grouped(states)[0], full(states)[0])


def test_eager_equals_sdpa(family_and_variant, token_ids):
    mask = torch.ones_like(token_ids)
    mask[0, 6:] = 0
    outputs = []
    for implementation in ("eager", "sdpa"):
        model = tiny_model(*family_and_variant, attn_implementation=implementation)
        outputs.append(model(input_ids=token_ids, attention_mask=mask, labels=token_ids))
    assert (outputs[0].logits - outputs[1].logits)[mask.bool()].abs().max() < 1e-5
    assert (outputs[0].loss - outputs[1].loss).abs() < 1e-5


def test_attention_weights_of_every_family_sum_to_one(family_and_variant, token_ids):
    model = tiny_model(*family_and_variant, attn_implementation="eager")
    outputs = model(input_ids=token_ids, output_attentions=True)
    kinds = [name for name in outputs if "attentions" in name]
    assert len(kinds) == (3 if family_and_variant[0] == "encoder-decoder" else 1)
    for kind in kinds:
        assert len(outputs[kind]) == 2
        for weights in outputs[kind]:
            assert weights.shape == (2, 4, 9, 9)
            torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9))


def test_cross_attention_projects_the_source_once(token_ids, monkeypatch):
    model = tiny_model("encoder-decoder")
    calls = []
    cross = model.model.decoder.layers[0].cross_attn
    cross.k_proj.register_forward_hook(lambda *_: calls.append(1))
    encoder_calls = []
    model.model.encoder.register_forward_hook(lambda *_: encoder_calls.append(1))
    model.generate(token_ids, max_new_tokens=6, min_new_tokens=6, num_beams=3)
    assert len(calls) == 1
    assert len(encoder_calls) == 1


def test_a_registered_attention_function_is_used(token_ids):
    used = []

    def spy(module, query, key, value, attention_mask, **kwargs):
        used.append(type(module).__name__)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register("spy", spy)
    model = tiny_model("decoder", attn_implementation="spy")
    model(token_ids)
    assert used == ["MultiHeadAttention"] * 2


def test_capped_scores():
    query, key, value = torch.randn(3, 2, 5, 16, generator=torch.Generator().manual_seed(0)).unbind()
    scores = query @ key.mT / 4
    capped = torch.softmax(2 * torch.tanh(scores / 2), dim=-1) @ value
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value, softcap=2.0)[0], capped)


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_scores_are_capped_where_the_implementation_can(family, token_ids):
    outputs = {}
    for cap in (None, 0.1):
        config = tiny_config(family, "gemma", initializer_range=0.2, attn_logit_softcapping=cap)
        torch.manual_seed(0)
        model = FAMILIES[family][1](config).eval()
        assert model.config._attn_implementation == ("sdpa" if cap is None else "eager")
        outputs[cap] = model(input_ids=token_ids, labels=token_ids).logits
    assert (outputs[None] - outputs[0.1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="attn_implementation='sdpa' cannot cap scores"):
        model.set_attn_implementation("sdpa")
    config._attn_implementation = "sdpa"
    with pytest.raises(ValueError, match="attn_implementation='sdpa' cannot cap scores"):
        model(input_ids=token_ids, labels=token_ids)


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_logits_are_capped(family, token_ids):
    plain, capped = (
        tiny_model(family, final_logit_softcapping=cap)(input_ids=token_ids, labels=token_ids).logits
        for cap in (None, 1.5)
    )
    assert plain.abs().max() > 1.5
    torch.testing.assert_close(capped, 1.5 * torch.tanh(plain / 1.5))


def test_a_norm_of_queries_and_keys_is_over_a_head_or_over_all():
    states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    for kind in ("head", "projection"):
        attention = MultiHeadAttention(tiny_config("decoder", qk_norm=kind), 0)
        query = attention._normed_heads(states, attention.q_norm)
        wide = states if kind == "projection" else states.view(2, 5, 4, 8)
        expected = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(query, expected.view(2, 5, 4, 8).transpose(1, 2))
