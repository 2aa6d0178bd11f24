import math

import pytest
import torch
from conftest import tiny_config, tiny_model

import trefoil
from trefoil.configuration.positions import POSITION_KINDS, PositionKind
from trefoil.modeling.positions import (
    POSITION_CLASSES,
    AlibiPositions,
    EmbeddingPositions,
    LearnedPositions,
    QueryKeyPositions,
    RelativePositions,
    RotaryPositions,
    ScorePositions,
    SinusoidalPositions,
    apply_rotary_positions,
    register_positions,
)


def test_sinusoidal_positions_follow_the_paper():
    encoding = SinusoidalPositions(8)(torch.tensor([[0, 3]]))
    for dim in range(4):
        angle = 3 / 10000 ** (2 * dim / 8)
        assert encoding[0, 1, 2 * dim].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert encoding[0, 1, 2 * dim + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert encoding[0, 0].tolist() == [0, 1] * 4


def rotary_positions(config):
    positions = RotaryPositions.from_config(config, is_causal=True)
    return lambda *arguments: positions(*arguments)["full_attention"]


def test_rotary_turns_pairs_of_coordinates():
    config = tiny_config("decoder")
    states = torch.randn(1, 1, 1, 8)
    found = apply_rotary_positions(states, *rotary_positions(config)(states, torch.tensor([[7]])))[0, 0, 0]
    for pair in range(4):
        angle = 7 / config.rope_parameters["rope_theta"] ** (2 * pair / 8)
        first, second = states[0, 0, 0, pair].item(), states[0, 0, 0, pair + 4].item()
        assert found[pair].item() == pytest.approx(first * math.cos(angle) - second * math.sin(angle), abs=1e-5)
        assert found[pair + 4].item() == pytest.approx(second * math.cos(angle) + first * math.sin(angle), abs=1e-5)


def test_rotary_scores_depend_on_distance_alone():
    torch.manual_seed(0)
    rotary = rotary_positions(tiny_config("decoder"))
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
    turned = apply_rotary_positions(states, *rotary_positions(config)(states, torch.tensor([[7]])))
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


def test_sines_before_cosines():
    apart = SinusoidalPositions(8, interleave=False)(torch.tensor([[3]]))[0, 0]
    alternating = SinusoidalPositions(8)(torch.tensor([[3]]))[0, 0]
    assert torch.equal(apart, torch.cat((alternating[::2], alternating[1::2])))


def test_slowest_sinusoids_that_reach_the_end():
    angles = [4 * 10000 ** (-dim / 3) for dim in range(4)]
    encoding = SinusoidalPositions(8, interleave=False, inclusive=True, offset=1)(torch.tensor([[3]]))[0, 0]
    expected = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    assert encoding.tolist() == pytest.approx(expected, abs=1e-6)


def test_far_positions_are_exact():
    encoding = SinusoidalPositions(4)(torch.tensor([[100_003]]))[0, 0]
    assert encoding[:2].tolist() == pytest.approx([math.sin(100_003), math.cos(100_003)], abs=1e-6)


def test_learned_positions_start_behind_the_offset():
    positions = LearnedPositions(5, 4, offset=2)
    assert positions.weight.shape == (7, 4)
    assert torch.equal(positions(torch.tensor([[0, 4]]))[0], positions.weight[[2, 6]])


def test_relative_buckets_in_both_directions():
    # of 8 buckets, 4 look left and 4 right; of these, two hold one distance each, the others up to 3 and beyond
    positions = RelativePositions(2, num_buckets=8, max_distance=8, bidirectional=True)
    distances = torch.tensor([-100, -8, -4, -3, -2, -1, 0, 1, 2, 3, 4, 8, 100])
    assert positions.buckets(distances).tolist() == [3, 3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7, 7]


def test_relative_buckets_to_the_left():
    # 4 buckets of one distance, and 4 that reach to 16, ever wider; what lies to the right is never seen
    positions = RelativePositions(2, num_buckets=8, max_distance=16, bidirectional=False)
    distances = -torch.tensor([0, 1, 2, 3, 4, 5, 6, 8, 11, 12, 16, 100])
    assert positions.buckets(distances).tolist() == [0, 1, 2, 3, 4, 4, 5, 6, 6, 7, 7, 7]
    assert positions.buckets(torch.tensor([1, 50])).tolist() == [0, 0]


def test_relative_positions_give_each_head_its_own_number():
    positions = RelativePositions(3, num_buckets=8, max_distance=8, bidirectional=True)
    bias = positions(torch.arange(4) - torch.arange(2)[:, None])
    assert bias.shape == (1, 3, 2, 4)
    assert torch.equal(bias[0, :, 1, 0], positions.weight[1])


def test_alibi_slopes_follow_the_paper():
    bias = AlibiPositions(8)(torch.tensor([[-3, 0, 3]]))
    assert bias.shape == (1, 8, 1, 3)
    assert bias[0, :, 0, 0].tolist() == [-3 * 2.0**-head for head in range(1, 9)]
    assert torch.equal(bias[..., 0], bias[..., 2])
    assert (bias[..., 1] == 0).all()


@pytest.mark.parametrize("kind", ["relative", "alibi"])
@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_positions_in_the_scores_tell_orders_apart(family, kind, token_ids):
    model = tiny_model(family, "t5", position_embedding_type=kind)
    inputs = {"input_ids": token_ids}
    turned = token_ids.clone()
    turned[:, :4] = token_ids[:, :4].flip(1)
    if family == "encoder-decoder":
        inputs["decoder_input_ids"] = token_ids
    logits = model(**inputs).logits[:, -1]
    assert (model(**inputs | {"input_ids": turned}).logits[:, -1] - logits).abs().max() > 1e-3


def test_checkpointed_gradients_reach_positions_in_the_scores(token_ids):
    gradients = []
    for checkpointed in (False, True):
        model = tiny_model("decoder", "t5").train()
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
        model(input_ids=token_ids, labels=token_ids).loss.backward()
        gradients.append(model.model.score_positions.weight.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_flash_attention_cannot_add_positions_to_the_scores(token_ids):
    model = tiny_model("decoder", "t5")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="'flash_attention_2' cannot add positions to the scores"):
        model.model.position_bias(torch.zeros(1, 3, 32), None, 3)


def test_flex_attention_reads_positions_in_the_scores_by_row():
    model = tiny_model("decoder", "t5")
    shared = model.model.position_bias(torch.zeros(2, 3, 32), None, 3)
    model.config._attn_implementation = "flex_attention"
    by_row = model.model.position_bias(torch.zeros(2, 3, 32), None, 3)
    assert by_row.shape == (2, 4, 3, 3)
    assert torch.equal(by_row, shared.expand(2, -1, -1, -1))


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_without_positions_outputs_move_along_with_inputs(attn_implementation, token_ids):
    """`f(P x) = P f(x)` of an encoder; a decoder's mask still tells positions apart (Kazemnejad et al. 2023)."""
    order = torch.tensor([4, 2, 8, 0, 1, 7, 3, 6, 5])
    models = {
        family: tiny_model(family, position_embedding_type="none", attn_implementation=attn_implementation)
        for family in ("encoder", "decoder")
    }
    moved = {family: model(token_ids[:, order]).logits for family, model in models.items()}
    torch.testing.assert_close(moved["encoder"], models["encoder"](token_ids).logits[:, order], atol=1e-4, rtol=1e-4)
    assert (moved["decoder"] - models["decoder"](token_ids).logits[:, order]).abs().max() > 1e-2


def test_every_kind_has_a_class():
    assert POSITION_CLASSES.keys() == POSITION_KINDS.keys() - {"none"}


class Parity(EmbeddingPositions):
    """Odd positions are told from even ones."""

    def __init__(self, hidden_size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2, hidden_size))

    @classmethod
    def from_config(cls, config, is_causal):
        return cls(config.hidden_size)

    def forward(self, position_ids):
        return self.weight[position_ids % 2]


class Shrinking(QueryKeyPositions):
    """Queries and keys get smaller with their position."""

    def forward(self, hidden_states, position_ids):
        return {"full_attention": (1 / (1 + position_ids[:, None, :, None]),)}

    @staticmethod
    def turn(states, factor):
        return states * factor


class Near(ScorePositions):
    """A trained number for how much the own position counts."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, distances):
        return self.weight * (distances == 0)[None, None].float()


def even(config):
    if config.hidden_size % 2:
        raise ValueError(f"hidden_size={config.hidden_size} must be even")


@pytest.mark.parametrize("position_class", [Parity, Shrinking, Near])
@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_a_kind_from_outside_is_trained_saved_and_loaded(family, position_class, token_ids, tmp_path, monkeypatch):
    monkeypatch.setitem(POSITION_KINDS, "toy", None)
    monkeypatch.setitem(POSITION_CLASSES, "toy", None)
    register_positions("toy", position_class, PositionKind(check=even))
    model = tiny_model(family, position_embedding_type="toy").train()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        losses.append(model(input_ids=token_ids, labels=token_ids).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    trained = [
        name for name, weight in model.named_parameters() if "positions" in name and weight.ne(before[name]).any()
    ]
    assert bool(trained) == (position_class is not Shrinking)
    model.eval().save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(token_ids).logits, model(token_ids).logits)
    with pytest.raises(Exception, match="hidden_size=33 must be even"):
        trefoil.TrefoilEncoderConfig(position_embedding_type="toy", hidden_size=33, num_attention_heads=3)


def test_an_unknown_kind_is_told_what_there_is():
    known = "rotary, learned, sinusoidal, relative, alibi, none"
    with pytest.raises(Exception, match=f"position_embedding_type='rotery' is no kind of positions; there are {known}"):
        trefoil.TrefoilDecoderConfig(position_embedding_type="rotery")


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_layers_without_rotary_positions(family, token_ids):
    """Where no layer turns queries and keys, it is as if there were no positions."""
    logits = {
        name: tiny_model(family, **fields)(token_ids).logits
        for name, fields in {
            "all": {"no_rope_layers": [1, 1]}, "default": {}, "some": {"no_rope_layers": [1, 0]},
            "no": {"no_rope_layers": [0, 0]}, "none": {"position_embedding_type": "none"},
        }.items()
    }  # fmt: skip
    assert torch.equal(logits["all"], logits["default"])
    assert torch.equal(logits["no"], logits["none"])
    assert (logits["some"] - logits["all"]).abs().max() > 1e-3
    assert (logits["some"] - logits["no"]).abs().max() > 1e-3


def test_as_many_layers_with_or_without_rotary_positions_as_there_are():
    config = tiny_config("decoder", no_rope_layers=[1, 0])
    config.num_hidden_layers = 1
    assert config.no_rope_layers == [1]
    config.num_hidden_layers = 2
    with pytest.raises(ValueError, match="no_rope_layers names 1 layers, but num_hidden_layers=2"):
        config.validate_architecture()
