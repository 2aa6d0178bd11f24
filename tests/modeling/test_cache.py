"""A cache that has room for the tokens to come holds what one that copies them all holds."""

import copy

import pytest
import torch
from conftest import tiny_model
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache

from trefoil.modeling import cache as cache_module
from trefoil.modeling.cache import GrowingLayer, let_grow


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    monkeypatch.setattr(cache_module, "SMALL", 1)


def states(length, rows=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, 2, length, 4, generator=generator) for _ in range(2))


def both():
    return GrowingLayer(), DynamicLayer()


def same(growing, plain):
    assert growing.get_seq_length() == plain.get_seq_length()
    assert torch.equal(growing.keys, plain.keys)
    assert torch.equal(growing.values, plain.values)


@torch.no_grad()
def test_it_holds_what_it_was_given():
    growing, plain = both()
    for number, length in enumerate([5, *[1] * 30, 4, 70, 1]):
        for layer in (growing, plain):
            keys, values = layer.update(*states(length, seed=number))
            assert (keys.shape, values.shape) == (layer.keys.shape, layer.values.shape)
        same(growing, plain)


@torch.no_grad()
def test_tokens_that_are_there_are_copied_seldom():
    layer, places = GrowingLayer(), set()
    layer.update(*states(16))
    for number in range(200):
        layer.update(*states(1, seed=number))
        places.add(layer.keys.data_ptr())
    assert len(places) < 10


CHANGES = {
    "beams": lambda layer: layer.reorder_cache(torch.tensor([2, 0, 0])),
    "rows": lambda layer: layer.batch_select_indices(torch.tensor([-1])),
    "copies": lambda layer: layer.batch_repeat_interleave(2),
    "an end that is cut off": lambda layer: layer.crop(-3),
    "all": lambda layer: layer.reset(),
}


@torch.no_grad()
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_it(change, before):
    growing, plain = both()
    for layer in (growing, plain):
        layer.update(*states(6))
        for number in range(before):
            layer.update(*states(1, seed=number))
    for number in range(4):
        for layer in (growing, plain):
            change(layer) if layer.is_initialized else None
            rows = layer.keys.shape[0] if layer.is_initialized else 3
            layer.update(*states(2, rows, seed=10 + number))
        same(growing, plain)


@torch.no_grad()
def test_a_copy_goes_its_own_way():
    layer = GrowingLayer()
    layer.update(*states(6))
    layer.update(*states(1))
    other = copy.deepcopy(layer)
    layer.update(*states(1, seed=1))
    other.update(*states(1, seed=2))
    assert not torch.equal(layer.keys, other.keys)
    assert torch.equal(layer.keys[..., :7, :], other.keys[..., :7, :])


def test_gradients_flow_through_what_was_there():
    layer = GrowingLayer()
    first, second = ([each.requires_grad_() for each in states(3, seed=seed)] for seed in range(2))
    layer.update(*first)
    keys, _ = layer.update(*second)
    keys.sum().backward()
    assert first[0].grad.eq(1).all()


def test_which_layers_grow():
    windows = tiny_model("decoder", "windows")
    cache = DynamicCache(config=windows.config)
    let_grow(cache)
    assert [type(layer).__name__ for layer in cache.layers] == ["DynamicSlidingWindowLayer", "GrowingLayer"]
    pair = EncoderDecoderCache(DynamicCache(config=windows.config), DynamicCache(config=windows.config))
    let_grow(pair)
    assert GrowingLayer not in map(type, pair.cross_attention_cache.layers)
    assert GrowingLayer in map(type, pair.self_attention_cache.layers)
    let_grow(None)


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"num_beams": 3}, marks=pytest.mark.slow),
        {"num_beams": 4, "num_return_sequences": 2, "do_sample": True},
        pytest.param({"do_sample": True, "num_return_sequences": 3}, marks=pytest.mark.slow),
        {"prompt_lookup_num_tokens": 2},
    ],
    ids=str,
)
def test_the_same_texts(family, options, token_ids, monkeypatch):
    model = tiny_model(family)
    ids = token_ids[:1] if "prompt_lookup_num_tokens" in options else token_ids
    made = []

    def written():
        torch.manual_seed(0)
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, min_new_tokens=20, return_dict_in_generate=True,
            **options,
        )  # fmt: skip
        own = output.past_key_values
        made.append(type((own.self_attention_cache if family == "encoder-decoder" else own).layers[0]))
        return output.sequences

    growing = written()
    monkeypatch.setattr("trefoil.modeling.vocabulary.let_grow", lambda cache: None)
    assert torch.equal(growing, written())
    assert made == [GrowingLayer, DynamicLayer]


def test_a_cache_that_is_given_stays_as_it_is(token_ids):
    model = tiny_model("decoder")
    cache = DynamicCache(config=model.config)
    model.generate(token_ids, max_new_tokens=3, past_key_values=cache)
    assert {type(layer) for layer in cache.layers} == {DynamicLayer}


def test_what_was_made_without_gradients_for_good_is_gone_on_from(token_ids):
    model = tiny_model("decoder")
    options = {"max_new_tokens": 20, "min_new_tokens": 20, "return_dict_in_generate": True, "do_sample": False}
    with torch.inference_mode():
        first = model.generate(token_ids, **options)
    second = model.generate(first.sequences.clone(), past_key_values=first.past_key_values, **options)
    assert torch.equal(second.sequences, model.generate(first.sequences.clone(), **options).sequences)


@torch.no_grad()
def test_who_holds_what_is_cut_off_goes_on_holding_it():
    layer = GrowingLayer()
    layer.update(*states(6))
    layer.update(*states(2, seed=1))
    held, before = layer.keys, layer.keys.clone()
    layer.crop(-2)
    layer.update(*states(2, seed=2))
    assert torch.equal(held, before)


@pytest.mark.slow
def test_a_grown_cache_can_be_compiled(token_ids):
    model = tiny_model("decoder")
    cache = model.generate(
        token_ids, max_new_tokens=20, min_new_tokens=20, return_dict_in_generate=True
    ).past_key_values
    other = copy.deepcopy(cache)
    with torch.no_grad():
        compiled = torch.compile(model.forward, fullgraph=True, backend="eager")
        step = {"input_ids": token_ids[:, :1]}
        torch.testing.assert_close(
            compiled(**step, past_key_values=cache).logits, model(**step, past_key_values=other).logits
        )
