"""What all stacks share."""

import pytest
import torch
from conftest import tiny_model

from trefoil.modeling.norms import RMSNorm, ZeroCenteredRMSNorm


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_logits_only_where_they_are_wanted(family, token_ids):
    model = tiny_model(family)
    logits = model(token_ids).logits
    assert torch.equal(model(token_ids, logits_to_keep=0).logits, logits)
    mask = token_ids % 2 == 0
    wanted = {
        1: logits[:, -1:],
        4: logits[:, -4:],
        torch.tensor([2, 5]): logits[:, [2, 5]],
        torch.tensor([[2, 5], [0, 8]]): torch.stack((logits[0, [2, 5]], logits[1, [0, 8]])),
        mask: logits[mask],
    }
    for positions, expected in wanted.items():
        torch.testing.assert_close(model(token_ids, logits_to_keep=positions).logits, expected)


@pytest.mark.parametrize("variant", ["modern", "bert"])
def test_embeddings_of_another_width(variant, token_ids):
    model = tiny_model("encoder", variant, embedding_size=16)
    assert model.get_input_embeddings().weight.shape[1] == model.lm_head.weight.shape[1] == 16
    assert model.lm_head.weight is model.get_input_embeddings().weight
    hidden_states = model.model(token_ids).last_hidden_state
    assert hidden_states.shape == (*token_ids.shape, model.config.hidden_size)
    embeds = model.model.embed_tokens(token_ids)
    torch.testing.assert_close(model.model(inputs_embeds=embeds).last_hidden_state, hidden_states)
    model.resize_token_embeddings(80)
    assert model(token_ids).logits.shape[-1] == 80


def test_where_norms_stand():
    """Each order of norm, sublayer and residual, spelt out for the feed-forward sublayer."""
    states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    for position, order in {
        "pre": lambda x, mlp, norm, _: x + mlp(norm(x)),
        "post": lambda x, mlp, norm, _: norm(x + mlp(x)),
        "output": lambda x, mlp, norm, _: x + norm(mlp(x)),
        "sandwich": lambda x, mlp, norm, output_norm: x + output_norm(mlp(norm(x))),
    }.items():
        model = tiny_model("encoder", norm_position=position).model
        layer = model.layers[0]
        for norm in (layer.mlp_norm, getattr(layer, "mlp_output_norm", layer.mlp_norm)):
            norm.weight.data.uniform_(0.5, 2)
        expected = order(states, layer.mlp, layer.mlp_norm, getattr(layer, "mlp_output_norm", None))
        torch.testing.assert_close(layer._residual(states, "mlp", layer.mlp), expected)
        assert isinstance(model.norm, torch.nn.Identity) == (position == "post")


def test_a_norm_centered_at_zero_scales_by_one_more():
    states = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    norm, centered = RMSNorm(32, 1e-6), ZeroCenteredRMSNorm(32, 1e-6)
    torch.testing.assert_close(norm(states), centered(states))
    centered.weight.data.fill_(0.5)
    torch.testing.assert_close(1.5 * norm(states), centered(states))


def test_weights_stand_in_the_order_that_optimizers_saved_them_in():
    """An optimizer's state is saved by position, so a run of a former release resumes only where this order stays."""
    model = tiny_model("encoder-decoder", norm_position="sandwich").model.decoder
    names = [name.split(".")[2] for name, _ in model.named_parameters() if name.startswith("layers.0.")]
    order = [f"{part}{norm}" for part in ("self_attn", "cross_attn", "mlp") for norm in ("", "_norm", "_output_norm")]
    assert list(dict.fromkeys(names)) == order


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_dropout_alone_can_be_turned_on(family, token_ids):
    """Gal & Ghahramani 2016: what a model is unsure of shows where its dropout stays on."""
    model = tiny_model(family, hidden_dropout=0.5, activation_dropout=0.5).eval()
    assert torch.equal(model(token_ids).logits, model(token_ids).logits)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    assert not torch.equal(model(token_ids).logits, model(token_ids).logits)
