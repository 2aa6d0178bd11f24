"""Muon beside torch's, and in both precisions."""

import pytest
import torch
from torch import nn

from trefoil.training import muon
from trefoil.training.muon import Muon, orthogonal

SHAPES = [(24, 24), (24, 24), (64, 24), (24, 64), (24, 64), (40, 24)]


def taken(make, steps=3):
    """Weights after some steps; the last has no gradient in the first."""
    random = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]
    optimizer = make(weights)
    for step in range(steps):
        for number, weight in enumerate(weights):
            gradient = torch.randn(weight.shape, generator=random)
            weight.grad = None if step == 0 and number == len(weights) - 1 else gradient
        optimizer.step()
    return [weight.detach() for weight in weights]


def test_with_the_one_polynomial_of_torchs_in_bfloat16_it_is_torchs_to_the_last_bit(monkeypatch):
    monkeypatch.setattr(muon, "fastest", lambda: "bf16")
    monkeypatch.setattr(muon, "POLYNOMIALS", ((3.4445, -4.7750, 2.0315),) * 5)
    theirs = taken(lambda weights: torch.optim.Muon(weights, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
    ours = taken(lambda weights: Muon(weights, lr=0.02, weight_decay=0.1))
    assert all(map(torch.equal, ours, theirs))


def test_in_float32_it_is_near(monkeypatch):
    found = {}
    for precision in ("bf16", "no"):
        monkeypatch.setattr(muon, "fastest", lambda precision=precision: precision)
        found[precision] = taken(lambda weights: Muon(weights, lr=0.02, weight_decay=0.1))
    differences = [(one - other).abs().max() for one, other in zip(*found.values(), strict=True)]
    assert 0 < max(differences) < 1e-2


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_singular_values_come_near_one(monkeypatch, precision):
    monkeypatch.setattr(muon, "fastest", lambda: precision)
    matrices = (
        torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(1))
        * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    )
    found = orthogonal(matrices)
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.75
    assert values.max() < 1.3


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_small_singular_values_come_near_one_too(monkeypatch, precision):
    monkeypatch.setattr(muon, "fastest", lambda: precision)
    random = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(16, 16, generator=random))[0] for _ in range(2))
    wanted = torch.logspace(-2.3, 0, 16)  # the least is 0.0036 of the norm
    found = orthogonal((left * wanted @ right)[None])[0]
    assert (torch.diagonal(left.mT @ found @ right.mT) - 1).abs().max() < 0.25
    assert ((left.mT @ found @ right.mT) - torch.eye(16)).abs().max() < 0.25


@pytest.mark.parametrize("precision", ["bf16", "no"])
@pytest.mark.parametrize("rank", [1, 2, 8])
def test_of_few_ranks_none_grows_beyond_one(monkeypatch, precision, rank):
    """All of a matrix's norm is in its first singular value, which rounding may lift above one."""
    monkeypatch.setattr(muon, "fastest", lambda: precision)
    random = torch.Generator().manual_seed(1)
    for rows, columns in ((16, 16), (128, 128), (128, 384)):
        left, right = (torch.randn(20, size, rank, generator=random) for size in (rows, columns))
        assert torch.linalg.matrix_norm(orthogonal(left @ right.mT), ord=2).max() < 1.3


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_the_only_singular_value_comes_near_one_and_not_beyond_all_bounds(monkeypatch, precision):
    monkeypatch.setattr(muon, "fastest", lambda: precision)
    random = torch.Generator().manual_seed(1)
    left, right = torch.randn(30, 128, 1, generator=random), torch.randn(30, 1, 256, generator=random)
    values = torch.linalg.svdvals(orthogonal(left @ right))
    assert (values[:, 0] - 1).abs().max() < 0.25
    assert values[:, 1:].max() < 0.25


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_zeros_stay_zeros(monkeypatch, precision):
    monkeypatch.setattr(muon, "fastest", lambda: precision)
    assert torch.equal(orthogonal(torch.zeros(1, 4, 8)), torch.zeros(1, 4, 8))


def test_a_closure_gives_the_loss_and_nothing_to_do_is_no_error():
    weight = nn.Parameter(torch.ones(4, 8))

    def loss():
        value = (weight**2).sum()
        value.backward()
        return value

    optimizer = Muon([weight], lr=0.1)
    optimizer.step()
    assert torch.equal(weight, torch.ones(4, 8))
    assert optimizer.step(loss) == 32
    assert not torch.equal(weight, torch.ones(4, 8))
