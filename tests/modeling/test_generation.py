"""The same tokens with and without a cache, padded on either side, greedy, sampled and by beam search."""

import pytest
import torch
from conftest import OFTEN, VARIANTS, pairs, seldom, tiny_model
from transformers import set_seed

MODES = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 20},
    "beams": {"num_beams": 3},
}


def generate(model, ids, mask=None, **options):
    set_seed(5)
    return model.generate(
        ids, attention_mask=mask, max_new_tokens=12, min_new_tokens=4, repetition_penalty=2.0, **options
    )


@pytest.mark.parametrize("mode", seldom(MODES, "beams"))
@pytest.mark.parametrize(("family", "variant"), pairs("decoder", "encoder-decoder"))
def test_every_cache_gives_the_tokens_of_none(family, variant, mode, token_ids):
    model = tiny_model(family, variant, seed=1)
    mask = torch.ones_like(token_ids)
    mask[0, :4] = 0  # left padding
    without = generate(model, token_ids, mask, use_cache=False, **MODES[mode])
    assert without.unique().numel() > 4
    for options in ({}, {"cache_implementation": "static"}):
        assert torch.equal(generate(model, token_ids, mask, **MODES[mode], **options), without), options


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", seldom(VARIANTS, *OFTEN["encoder-decoder"]))
@pytest.mark.parametrize("num_beams", seldom([1, 3], 3))
def test_a_padded_source_is_translated_as_it_is_alone(variant, side, num_beams, token_ids):
    model = tiny_model("encoder-decoder", variant)
    mask = torch.ones_like(token_ids)
    mask[0, slice(0, 4) if side == "left" else slice(5, 9)] = 0
    short = token_ids[:1, 4:] if side == "left" else token_ids[:1, :5]
    alone = generate(model, short, num_beams=num_beams)
    batched = generate(model, token_ids, mask, num_beams=num_beams)[:1, : alone.shape[1]]
    assert torch.equal(batched, alone)


@pytest.mark.parametrize("variant", seldom(VARIANTS, *OFTEN["decoder"]))
def test_a_left_padded_prompt_goes_on_as_it_does_alone(variant, token_ids):
    model = tiny_model("decoder", variant)
    mask = torch.ones_like(token_ids)
    mask[0, :4] = 0
    alone = generate(model, token_ids[:1, 4:])[:, 5:]
    # padding tokens, since a repetition penalty may count what is masked
    padded = token_ids.masked_fill(mask == 0, model.config.pad_token_id)
    batched = generate(model, padded, mask)[:1, 9:]  # the other row may go on for longer
    assert torch.equal(batched[:, : alone.shape[1]], alone)


@pytest.mark.parametrize("variant", seldom(VARIANTS, *OFTEN["decoder"]))
def test_step_by_step_logits_equal_those_at_once(variant, token_ids):
    model = tiny_model("decoder", variant)
    at_once = model(token_ids).logits
    cache, steps = None, []
    for position in range(token_ids.shape[1]):
        outputs = model(token_ids[:, position : position + 1], past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        steps.append(outputs.logits)
    torch.testing.assert_close(torch.cat(steps, 1), at_once, atol=1e-5, rtol=1e-4)


def test_decoder_inside_transformers_encoder_decoder(token_ids):
    from transformers import EncoderDecoderModel

    import trefoil

    encoder = tiny_model("encoder").model
    decoder = tiny_model("decoder", add_cross_attention=True)
    both = EncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
    both.config.decoder_start_token_id = both.config.pad_token_id = 0
    with_cache = both.generate(token_ids, max_new_tokens=6, decoder_start_token_id=1, pad_token_id=0)
    without = both.generate(token_ids, max_new_tokens=6, decoder_start_token_id=1, pad_token_id=0, use_cache=False)
    assert torch.equal(with_cache, without)
    assert isinstance(both.decoder, trefoil.TrefoilDecoderForCausalLM)


def test_source_for_a_decoder_without_cross_attention(token_ids):
    with pytest.raises(ValueError, match="add_cross_attention=False"):
        tiny_model("decoder")(token_ids, encoder_hidden_states=torch.zeros(2, 3, 32))
