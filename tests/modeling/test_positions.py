import math

import pytest
import torch
from conftest import tiny_config, tiny_model

from trefoil.modeling.positions import RotaryEmbedding, SinusoidalPositions, apply_rotary_positions


def test_sinusoidal_positions_follow_the_paper():
    encoding = SinusoidalPositions(8)(torch.tensor([[0, 3]]))
    for dim in range(4):
        angle = 3 / 10000 ** (2 * dim / 8)
        assert encoding[0, 1, 2 * dim].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert encoding[0, 1, 2 * dim + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert encoding[0, 0].tolist() == [0, 1] * 4


def test_rotary_scores_depend_on_distance_alone():
    torch.manual_seed(0)
    rotary = RotaryEmbedding(tiny_config("decoder"))
    query, key = torch.randn(2, 1, 1, 1, 8).unbind()

    def score(query_position, key_position):
        turned = [
            apply_rotary_positions(states, *rotary(states, torch.tensor([[position]])))
            for states, position in ((query, query_position), (key, key_position))
        ]
        return (turned[0] * turned[1]).sum().item()

    assert score(5, 2) == pytest.approx(score(40, 37), abs=1e-5)
    assert abs(score(5, 2) - score(5, 3)) > 1e-3


def test_rotary_turns_a_part_of_a_head_where_asked():
    config = tiny_config(
        "decoder", rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    )
    states = torch.randn(1, 1, 1, 8)
    turned = apply_rotary_positions(states, *RotaryEmbedding(config)(states, torch.tensor([[7]])))
    assert torch.equal(turned[..., 4:], states[..., 4:])
    assert not torch.allclose(turned[..., :4], states[..., :4])


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_more_tokens_than_learned_positions(family):
    model = tiny_model(family, "bert")
    with pytest.raises(ValueError, match="65 tokens is longer than this model's max_position_embeddings=64"):
        model(torch.full((1, 65), 5))


def test_order_matters():
    for variant in ("modern", "vaswani", "bert"):
        model = tiny_model("encoder", variant)
        ids = torch.tensor([[4, 5, 6, 7]])
        assert not torch.allclose(model(ids).logits.flip(1), model(ids.flip(1)).logits, atol=1e-3)
