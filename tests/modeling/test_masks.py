"""Who may look at whom, tested by changing what must not be seen."""

import pytest
import torch
from conftest import FAMILIES, OFTEN, VARIANTS, pairs, seldom, tiny_config, tiny_model
from huggingface_hub.errors import StrictDataclassError

import trefoil

IMPLEMENTATIONS = ("eager", "sdpa")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("family", "variant"), pairs("decoder", "encoder-decoder"))
def test_a_later_token_never_changes_an_earlier_output(family, variant, implementation, token_ids):
    model = tiny_model(family, variant, attn_implementation=implementation)
    name = "input_ids" if family == "decoder" else "decoder_input_ids"
    fixed = {} if family == "decoder" else {"input_ids": token_ids}
    changed = token_ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 60 + 3
    before, after = (model(**{name: ids}, **fixed).logits for ids in (token_ids, changed))
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=(0, 2)).min() > 1e-4


@pytest.mark.parametrize("variant", seldom(VARIANTS, *OFTEN["encoder"]))
def test_an_encoder_sees_both_ways(variant, token_ids):
    model = tiny_model("encoder", variant)
    changed = token_ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 60 + 3
    difference = (model(token_ids).logits - model(changed).logits).abs().amax(dim=(0, 2))
    assert difference.min() > 1e-5


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(family_and_variant, implementation, side, token_ids):
    family, variant = family_and_variant
    model = tiny_model(family, variant, attn_implementation=implementation)
    pad = torch.full((2, 3), 7)  # any token: the mask alone says that it is padding
    ones, zeros = torch.ones_like(token_ids), torch.zeros_like(pad)
    order = (lambda a, b: torch.cat([b, a], 1)) if side == "left" else (lambda a, b: torch.cat([a, b], 1))
    padded, mask = order(token_ids, pad), order(ones, zeros)
    extra = {"decoder_input_ids": token_ids} if family == "encoder-decoder" else {}
    plain = model(input_ids=token_ids, **extra).logits
    with_padding = model(input_ids=padded, attention_mask=mask, **extra).logits
    if family != "encoder-decoder":
        with_padding = with_padding[:, 3:] if side == "left" else with_padding[:, :9]
    torch.testing.assert_close(with_padding, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_packed_documents_do_not_see_each_other(family_and_variant, implementation, token_ids):
    family, variant = family_and_variant
    model = tiny_model(family, variant, attn_implementation=implementation)
    first, second = token_ids[:1, :4], token_ids[1:, :5]
    ids = torch.tensor([[0] * 4 + [1] * 5])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])

    def packed(second):
        row = torch.cat([first, second], dim=1)
        inputs = {"input_ids": row, "position_ids": positions, "sequence_ids": ids}
        if family == "encoder-decoder":
            inputs |= {
                "decoder_input_ids": row, "decoder_position_ids": positions, "decoder_sequence_ids": ids,
            }  # fmt: skip
        return model(**inputs).logits

    def alone(row):
        extra = {"decoder_input_ids": row} if family == "encoder-decoder" else {}
        return model(input_ids=row, **extra).logits

    logits = packed(second)
    torch.testing.assert_close(logits[:, :4], alone(first), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits[:, 4:], alone(second), atol=1e-5, rtol=1e-4)
    assert torch.equal(logits[:, :4], packed(second.flip(1))[:, :4])


def test_packing_needs_both_sides(token_ids):
    model = tiny_model("encoder-decoder")
    with pytest.raises(ValueError, match="decoder_sequence_ids"):
        model(input_ids=token_ids, decoder_input_ids=token_ids, sequence_ids=torch.zeros_like(token_ids))


def test_a_ready_four_dimensional_mask_is_used_as_it_is(token_ids):
    model = tiny_model("encoder", attn_implementation="eager")
    diagonal = torch.eye(9, dtype=torch.bool).expand(2, 1, 9, 9)
    weights = model(token_ids, attention_mask=diagonal, output_attentions=True).attentions[0]
    torch.testing.assert_close(weights, torch.eye(9).expand(2, 4, 9, 9))


def test_every_family_is_here():
    assert set(FAMILIES) == {"encoder", "decoder", "encoder-decoder"}


@pytest.mark.parametrize(("family", "reach"), [("encoder", range(-3, 4)), ("decoder", range(-2, 1))])
def test_a_window_reaches_so_far(family, reach, token_ids):
    model = tiny_model(family, num_hidden_layers=1, sliding_window=3, attn_implementation="eager")
    weights = model(input_ids=token_ids, output_attentions=True).attentions[0][0, 0]
    seen = (weights > 0).nonzero().tolist()
    length = token_ids.shape[1]
    assert seen == [[row, row + step] for row in range(length) for step in reach if 0 <= row + step < length]


def test_layers_of_two_types_have_their_own_masks(token_ids):
    model = tiny_model("decoder", "windows", attn_implementation="eager")
    sliding, full = model(input_ids=token_ids, output_attentions=True).attentions
    assert (sliding[..., -1, 0] == 0).all()
    assert (full[..., -1, 0] > 0).all()


def test_windows_do_not_go_with_cross_attention():
    with pytest.raises(StrictDataclassError, match="add_cross_attention=True cannot have 'sliding_attention' layers"):
        tiny_config("decoder", sliding_window=4, add_cross_attention=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer_types": ["full_attention"]}, "names 1 layers, but num_hidden_layers=2"),
        ({"layer_types": ["full_attention", "local"]}, "'local' is neither"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_window=None must be positive"),
        ({"sliding_window": 0}, "sliding_window=0 must be positive"),
        ({"sliding_window": 4, "position_embedding_type": "alibi"}, "'alibi' works in 'full_attention' layers only"),
    ],
)
def test_layer_types_that_do_not_fit(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        trefoil.TrefoilDecoderConfig(num_hidden_layers=2, **fields)
