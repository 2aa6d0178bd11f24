"""Rollout by hand, and that nothing is lost on the way."""

import pytest
import torch

from trefoil.visualization.rollout import cross_rollout, self_rollout

# one head, two tokens, two layers
FIRST = [[1.0, 0.0], [0.5, 0.5]]
SECOND = [[0.2, 0.8], [0.6, 0.4]]


def layers(*matrices):
    return torch.tensor([[matrix] for matrix in matrices])


def random_weights(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)


def test_self_rollout_by_hand():
    # half of each matrix plus half of the identity: [[1, 0], [0.25, 0.75]] below [[0.6, 0.4], [0.3, 0.7]]
    expected = [[0.6 * 1 + 0.4 * 0.25, 0.4 * 0.75], [0.3 * 1 + 0.7 * 0.25, 0.7 * 0.75]]
    torch.testing.assert_close(self_rollout(layers(FIRST, SECOND)), torch.tensor(expected))


def test_heads_are_averaged_first():
    both = torch.tensor([[FIRST, SECOND]])
    torch.testing.assert_close(self_rollout(both), self_rollout(both.mean(dim=1, keepdim=True)))


def test_cross_rollout_by_hand():
    # one token is written, then another; the source has two tokens and one layer of self-attention
    cross = layers([[0.5, 0.5], [0.0, 1.0]], [[1.0, 0.0], [0.1, 0.9]])
    decoder = layers(FIRST, SECOND)
    encoder = layers(FIRST)
    source = torch.tensor([[1.0, 0.0], [0.25, 0.75]])  # half of FIRST plus half of the identity
    after_first = 0.5 * torch.tensor([[0.5, 0.5], [0.0, 1.0]]) @ source  # nothing came from the source before
    mixed = torch.tensor([[0.6, 0.4], [0.3, 0.7]]) @ after_first
    after_second = 0.5 * mixed + 0.5 * torch.tensor([[1.0, 0.0], [0.1, 0.9]]) @ source
    expected = after_second / after_second.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(cross_rollout(cross, encoder, decoder), expected)


def test_one_cross_attention_alone_is_its_own_rollout():
    cross = random_weights(1, 1, 5, 7)
    torch.testing.assert_close(cross_rollout(cross), cross[0, 0])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_rows_sum_to_one(depth):
    encoder, decoder = random_weights(3, 2, 7, 7), random_weights(depth, 2, 5, 5)
    rolled = [self_rollout(encoder), cross_rollout(random_weights(depth, 2, 5, 7), encoder, decoder)]
    for one in rolled:
        torch.testing.assert_close(one.sum(dim=-1), torch.ones(len(one)))


def test_what_no_layer_sees_gets_nothing():
    weights = random_weights(3, 2, 6, 6).tril()
    rolled = self_rollout(weights / weights.sum(dim=-1, keepdim=True))
    assert not rolled.triu(1).any()
