"""Dropout with 16 random bits a number is torch's in all but which numbers are dropped."""

import math

import pytest
import torch
from conftest import FAMILIES, tiny_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from trefoil.modeling.attention import scaled_dot_product_attention
from trefoil.modeling.dropout import Dropout, drop

COUNT = 2**18


def kept(p, count=COUNT, seed=0):
    torch.manual_seed(seed)
    return drop(torch.ones(count), p) != 0


def rounded(p):
    return round(p * 65536) / 65536


@pytest.fixture
def torchs(monkeypatch):
    """The calls of torch's own dropout."""
    calls, original = [], nn.functional.dropout

    def counted(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(nn.functional, "dropout", counted)
    return calls


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_the_share_that_is_dropped_and_the_scale_of_the_rest(p, torchs):
    torch.manual_seed(0)
    states = torch.randn(COUNT)
    dropped = drop(states, p)
    assert not torchs
    gone = dropped == 0
    spread = math.sqrt(p * (1 - p) / COUNT)
    assert abs(gone.float().mean().item() - p) < 4 * spread + 2**-17
    torch.testing.assert_close(dropped[~gone], states[~gone] / (1 - rounded(p)))
    assert drop(torch.ones(COUNT), p).mean().item() == pytest.approx(1, abs=4 * spread / (1 - p) + 1e-6)


def test_the_least_and_the_most_that_16_bits_hold(torchs):
    share = kept(1 / 65536, count=2**22).logical_not().sum().item()
    assert abs(share - 64) < 4 * 8  # one number in 65,536
    share = kept(65535 / 65536, count=2**22).sum().item()
    assert abs(share - 64) < 4 * 8
    assert not torchs


def correlation(one, other):
    one, other = (each.double() - each.double().mean() for each in (one, other))
    return ((one * other).mean() / (one.square().mean() * other.square().mean()).sqrt()).item()


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_what_is_dropped_does_not_tell_what_else_is(p):
    noise = 4.5 / math.sqrt(COUNT)
    first = kept(p)
    for distance in (*range(1, 10), 16, 64, 192, 256, 624, 1248, 2496):  # words are of four numbers
        assert abs(correlation(first[distance:], first[:-distance])) < noise, distance
    second = drop(torch.ones(COUNT), p) != 0  # the next call
    assert abs(correlation(first, second)) < noise
    assert abs(correlation(first, kept(p, seed=1))) < noise
    for place in range(4):
        assert abs(first[place::4].double().mean().item() - (1 - p)) < 4.5 * math.sqrt(4 * p * (1 - p) / COUNT)


def test_the_gradient_is_dropped_and_scaled_alike():
    states = torch.randn(37, 11, requires_grad=True)
    dropped = drop(states, 0.25)
    upstream = torch.randn(37, 11)
    (found,) = torch.autograd.grad(dropped, states, upstream)
    torch.testing.assert_close(found, torch.where(dropped == 0, 0.0, upstream / 0.75))
    exact = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def same_each_time(states):
        torch.manual_seed(0)
        return drop(states, 0.3).square()

    assert torch.autograd.gradcheck(same_each_time, exact)
    assert torch.autograd.gradgradcheck(same_each_time, exact)


def test_the_same_seed_drops_the_same_with_any_number_of_threads():
    threads = torch.get_num_threads()
    assert torch.equal(kept(0.3), kept(0.3))
    assert not torch.equal(kept(0.3), kept(0.3, seed=1))
    found = kept(0.3)
    torch.set_num_threads(threads + 1)
    try:
        assert torch.equal(kept(0.3), found)
    finally:
        torch.set_num_threads(threads)
    state = torch.get_rng_state()
    first = drop(torch.ones(99), 0.5)
    torch.set_rng_state(state)
    assert torch.equal(drop(torch.ones(99), 0.5), first)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_drops_the_same_again(use_reentrant):
    layer = nn.Sequential(nn.Linear(8, 8), Dropout(0.5), nn.Linear(8, 8))
    states = torch.randn(6, 8, requires_grad=True)
    torch.manual_seed(0)
    expected = torch.autograd.grad(layer(states).square().sum(), [states])
    torch.manual_seed(0)
    loss = checkpoint(layer, states, use_reentrant=use_reentrant).square().sum()
    loss.backward()
    torch.testing.assert_close(states.grad, *expected)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4, 5), (0,), (0, 4)])
def test_every_shape(shape, torchs):
    torch.manual_seed(0)
    found = drop(torch.ones(shape), 0.5)
    assert found.shape == shape
    assert set(found.flatten().tolist()) <= {0.0, 2.0}
    assert not torchs


def test_states_that_do_not_lie_in_a_row():
    states = torch.randn(8, 6, requires_grad=True)
    found = drop(states.T[::2], 0.5)
    torch.testing.assert_close(found, torch.where(found == 0, 0.0, 2 * states.T[::2]))
    found = drop(torch.ones(1, 3).expand(400, 3), 0.5)
    assert 0.4 < (found == 0).float().mean() < 0.6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype, torchs):
    states = torch.randn(4000, dtype=dtype)
    found = drop(states, 0.1)
    assert not torchs
    assert found.dtype == dtype
    assert 0.08 < (found == 0).float().mean() < 0.12
    expected = states.double() / (1 - rounded(0.1))
    torch.testing.assert_close(
        found[found != 0], expected[found != 0].to(dtype), rtol=torch.finfo(dtype).eps * 2, atol=0
    )


def test_mixed_precision():
    layer = nn.Sequential(nn.Linear(8, 8), Dropout(0.5))
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(torch.randn(50, 8))
    assert found.dtype == torch.bfloat16
    found.sum().backward()
    assert layer[0].weight.grad.dtype == torch.float32


def test_nothing_and_everything():
    states = torch.randn(50)
    assert drop(states, 0.0) is states
    assert (drop(states, 1.0) == 0).all()
    layer = Dropout(0.5).eval()
    assert layer(states) is states
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
            drop(states, wrong)
    inside = torch.ones(50)
    assert Dropout(0.5, inplace=True)(inside) is inside
    assert set(inside.tolist()) == {0.0, 2.0}


def test_a_probability_too_small_for_16_bits_is_torchs(torchs):
    drop(torch.ones(3), 1e-7)
    assert torchs


def test_what_is_not_a_plain_tensor_on_a_processor_is_torchs(torchs):
    class Other(torch.Tensor):
        pass

    assert drop(torch.ones(3, device="meta"), 0.5).device.type == "meta"
    assert drop(torch.ones(3).as_subclass(Other), 0.5).shape == (3,)
    assert [type(states) for states, *_ in torchs[:2]] == [torch.Tensor, Other]


def test_a_compiled_or_exported_graph_holds_torchs():
    layer, graphs = Dropout(0.5), []

    def backend(graph, inputs):
        graphs.append(graph.code)
        return graph.forward

    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    assert set(compiled(torch.ones(400)).tolist()) == {0.0, 2.0}
    assert "dropout" in graphs[0]
    exported = torch.export.export(layer, (torch.ones(3, 5),))
    assert "dropout" in exported.graph_module.code
    assert "random" not in exported.graph_module.code + graphs[0]


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("randomness", ["different", "same"])
def test_under_vmap(randomness):
    found = torch.vmap(lambda row: drop(row, 0.5), randomness=randomness)(torch.ones(4, 101))
    assert set(found.flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(found[0], found[1]) == (randomness == "same")


def test_attention_weights_are_dropped(torchs):
    states = torch.randn(2, 40, 8)
    _, weights = scaled_dot_product_attention(states, states, states, dropout=0.5)
    _, whole = scaled_dot_product_attention(states, states, states)
    assert 0.45 < (weights == 0).float().mean() < 0.55
    torch.testing.assert_close(weights, torch.where(weights == 0, 0.0, 2 * whole))
    assert [arguments[1] for arguments in torchs] == [0.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_drops_so(family, torchs, token_ids):
    model = tiny_model(family, hidden_dropout=0.5).train()
    modules = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert modules
    assert {type(module) for module in modules} == {Dropout}
    torch.manual_seed(0)
    first = model(input_ids=token_ids, labels=token_ids).loss
    assert all(arguments[1] == 0 for arguments in torchs)
    torch.manual_seed(0)
    assert model(input_ids=token_ids, labels=token_ids).loss == first != model(token_ids, labels=token_ids).loss
