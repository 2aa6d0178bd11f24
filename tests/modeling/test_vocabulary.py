"""The loss of a vocabulary in chunks is the loss of all its logits, which are still there for whoever reads them."""

import pickle

import pytest
import torch
from conftest import FAMILIES, SMALL, VARIANTS, seldom, tiny_model

from trefoil.modeling import losses, vocabulary
from trefoil.modeling.losses import linear_cross_entropy, next_token_cross_entropy, token_cross_entropy
from trefoil.modeling.scores import soft_cap
from trefoil.modeling.vocabulary import LateLogits, VocabularyProjection

NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    monkeypatch.setattr(losses, "rows_at_a_time", lambda vocab_size, device: 5)


def training_model(family, variant="modern", **overrides):
    return tiny_model(family, variant, **NO_DROPOUT, **overrides).train()


def batch_of(token_ids):
    labels = token_ids.masked_fill(token_ids % 3 == 0, -100)
    assert 5 < (labels != -100).sum() < labels.numel()
    return {"input_ids": token_ids, "labels": labels}


def gradients(model, loss):
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variant", seldom(VARIANTS, "modern", "bert", "gemma"))
@pytest.mark.parametrize("options", [{}, {"num_items_in_batch": 11, "label_smoothing": 0.1, "z_loss": 0.01}])
def test_loss_and_gradients_are_those_of_all_logits(family, variant, options, token_ids):
    model, batch = training_model(family, variant), batch_of(token_ids)
    output = model(**batch, **options)
    assert isinstance(output.logits, LateLogits)
    whole = (next_token_cross_entropy if family == "decoder" else token_cross_entropy)(
        output.logits.whole(), batch["labels"], SMALL["vocab_size"], **options
    )
    torch.testing.assert_close(output.loss, whole, atol=1e-6, rtol=1e-6)
    found = gradients(model, output.loss)
    torch.testing.assert_close(found, gradients(model, whole), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_it_is_the_loss_outside_of_training(family, token_ids):
    model, batch = training_model(family), batch_of(token_ids)
    late = model(**batch).loss
    model.eval()
    outside = model(**batch)
    assert type(outside.logits) is torch.Tensor
    torch.testing.assert_close(late, outside.loss)
    with torch.no_grad():
        unasked = model(**batch)
    assert isinstance(unasked.logits, LateLogits)
    torch.testing.assert_close(unasked.loss, outside.loss)
    torch.testing.assert_close(unasked.logits + 0, outside.logits)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("bias", [False, True])
def test_every_option_in_double_precision(softcap, smoothing, z_loss, bias):
    random = torch.Generator().manual_seed(0)

    def made(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()

    states, weight, bias = made(17, 8), made(SMALL["vocab_size"], 8), made(SMALL["vocab_size"]) if bias else None
    labels = torch.randint(SMALL["vocab_size"], (17,), generator=random)
    inputs = [each for each in (states, weight, bias) if each is not None]
    options = {"label_smoothing": smoothing, "z_loss": z_loss}
    logits = soft_cap(torch.nn.functional.linear(states, weight, bias), softcap)
    whole = token_cross_entropy(logits, labels, SMALL["vocab_size"], **options)
    found = linear_cross_entropy(states, weight, bias, labels, softcap=softcap, **options)
    torch.testing.assert_close(found, whole.to(found), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * whole, inputs), atol=1e-6, rtol=1e-5
    )


def test_z_loss_worked_from_its_definition():
    """Chowdhery et al. 2023, §5: `log² Z` is added."""
    logits, labels = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]), torch.tensor([1, -100])
    log_z = (torch.tensor(1.0).exp() + torch.tensor(2.0).exp() + torch.tensor(0.5).exp()).log()
    expected = (log_z - 2.0) + 0.01 * log_z**2
    torch.testing.assert_close(token_cross_entropy(logits, labels, 3, z_loss=0.01), expected)


def test_what_does_not_train_gets_no_gradient(token_ids):
    model = training_model("decoder", tie_word_embeddings=False)
    model.lm_head.requires_grad_(False)
    model(**batch_of(token_ids)).loss.backward()
    assert model.lm_head.weight.grad is None
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0


def test_no_label_gives_zeros(token_ids):
    for family in FAMILIES:
        model = training_model(family)
        loss = model(input_ids=token_ids, labels=torch.full_like(token_ids, -100), num_items_in_batch=5).loss
        loss.backward()
        assert loss == 0
        assert all((parameter.grad == 0).all() for parameter in model.parameters() if parameter.grad is not None)


def test_mixed_precision(token_ids):
    model, batch = training_model("decoder"), batch_of(token_ids)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch)
        whole = next_token_cross_entropy(output.logits.whole(), batch["labels"], SMALL["vocab_size"])
    assert output.loss.dtype == torch.float32
    assert output.logits.dtype == torch.bfloat16
    torch.testing.assert_close(output.loss, whole, atol=0.02, rtol=0.01)
    asked_for = output.logits.float()
    assert isinstance(asked_for, LateLogits)
    assert asked_for.dtype == (asked_for + 0).dtype == torch.float32
    for name, gradient in gradients(model, output.loss).items():
        assert gradient.dtype == torch.float32, name


@pytest.mark.parametrize("mixed", [True, False])
def test_chunks_of_half_precision_are_summed_in_float32(mixed):
    random = torch.Generator().manual_seed(0)
    states = torch.randn(4000, 8, generator=random)
    labels = torch.randint(5, (4000,), generator=random)
    weight = torch.randn(5, 8, generator=random)
    if not mixed:
        states, weight = states.bfloat16(), weight.bfloat16()
    expected, found = (weight.detach().clone().requires_grad_() for _ in range(2))
    token_cross_entropy(states.float() @ expected.float().T, labels, 5, num_items_in_batch=1).backward()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        linear_cross_entropy(states, found, None, labels, num_items_in_batch=1).backward()
    assert found.grad.dtype == weight.dtype
    # summed in bfloat16, 800 chunks are off by a tenth
    difference = (found.grad.float() - expected.grad.float()).abs().max() / expected.grad.float().abs().max()
    assert difference < 0.01


def test_logits_are_computed_when_they_are_read(token_ids, monkeypatch):
    model, batch = training_model("decoder"), batch_of(token_ids)
    projected = []
    monkeypatch.setattr(
        model, "project", lambda states: projected.append(states.shape) or type(model).project(model, states)
    )
    logits = model(**batch).logits
    assert logits.shape == (*token_ids.shape, SMALL["vocab_size"])
    assert (logits.dtype, logits.device, logits.ndim, logits.size(-1)) == (
        torch.float32, torch.device("cpu"), 3, SMALL["vocab_size"],
    )  # fmt: skip
    assert not projected
    expected = model(token_ids).logits
    projected.clear()
    torch.testing.assert_close(logits.argmax(-1), expected.argmax(-1))
    assert len(projected) == 1
    torch.testing.assert_close(logits[0, :2].detach(), expected[0, :2].detach())
    torch.testing.assert_close(torch.cat([logits, logits])[:2].detach(), expected[:2].detach())
    torch.testing.assert_close(pickle.loads(pickle.dumps(logits.detach())), expected.detach())
    assert torch.equal(torch.tensor(logits.tolist()), expected)
    assert "LateLogits" not in repr(logits)


def test_engines_that_cast_outputs_compute_nothing(token_ids, monkeypatch):
    model = training_model("decoder")
    monkeypatch.setattr(model, "project", lambda states: pytest.fail("computed"))
    logits = model(**batch_of(token_ids)).logits
    assert torch.is_floating_point(logits)
    assert logits.grad_fn is None
    assert (len(logits), logits.is_cuda, logits.is_leaf) == (len(token_ids), False, True)
    assert isinstance(logits.to(torch.bfloat16), LateLogits)
    assert logits.to(torch.bfloat16).dtype == torch.bfloat16


def test_what_is_made_without_gradients_has_none(token_ids):
    model = training_model("decoder")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            output = model(**batch_of(token_ids))
        assert not output.loss.requires_grad
        assert output.logits.softmax(-1).numpy().shape[-1] == SMALL["vocab_size"]


def test_they_are_computed_once_and_can_be_written(token_ids):
    model = training_model("decoder")
    logits = model(**batch_of(token_ids)).logits
    with torch.no_grad():
        logits[:, :, 0] = -1e9
        assert (logits[..., 0] == -1e9).all()
    assert (logits[..., 0] > -1e9).all()  # those with gradients are others


def test_a_loss_of_ones_own_trains_through_them(token_ids):
    model, batch = training_model("decoder"), batch_of(token_ids)
    found = gradients(model, model(**batch).logits.square().mean())
    expected = gradients(model, model(input_ids=token_ids).logits.square().mean())
    torch.testing.assert_close(found, expected)


def test_they_are_not_read_of_other_weights(token_ids):
    model = training_model("decoder")
    output = model(**batch_of(token_ids))
    output.loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    with pytest.raises(RuntimeError, match="weights have changed since; read them before the optimiser's step"):
        output.logits.sum()
    assert output.logits.shape[-1] == SMALL["vocab_size"]


def test_a_resized_head_still_works_in_chunks(token_ids):
    for family in FAMILIES:
        model = training_model(family, tie_word_embeddings=False)
        model.resize_token_embeddings(80)
        assert type(model.lm_head) is VocabularyProjection
        output = model(**batch_of(token_ids))
        assert isinstance(output.logits, LateLogits)
        assert output.logits.shape[-1] == 80


def test_another_loss_gets_all_logits(token_ids):
    model, seen = training_model("decoder"), []

    def loss_of_ones_own(logits, labels, vocab_size, **options):
        seen.append(logits.shape)
        return logits.mean()

    model.loss_function = loss_of_ones_own
    model(**batch_of(token_ids))
    assert seen == [(*token_ids.shape, SMALL["vocab_size"])]


# generation: the weight by columns


def test_generation_reads_the_weight_by_columns_and_leaves_no_copy(token_ids, monkeypatch):
    for family in ("decoder", "encoder-decoder"):
        for overrides in ({}, {"lm_head_bias": True, "tie_word_embeddings": False}):
            model = tiny_model(family, **overrides)
            if model.lm_head.bias is not None:
                torch.nn.init.normal_(model.lm_head.bias)
            used = []
            original = VocabularyProjection.forward

            def watched(self, input, labels=None, *, original=original, used=used, **options):
                used.append(self.columns is not None)
                return original(self, input, labels, **options)

            options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
            with monkeypatch.context() as patched:
                patched.setattr(VocabularyProjection, "forward", watched)
                found = model.generate(token_ids, **options)
                assert used
                assert all(used)
                patched.setattr(vocabulary, "MOST_COPIED", 0)
                used.clear()
                assert torch.equal(model.generate(token_ids, **options), found)
                assert not any(used)
            assert model.lm_head.columns is None


def test_only_what_generates_says_so():
    for family in FAMILIES:
        assert hasattr(tiny_model(family), "generate") == tiny_model(family).can_generate() == (family != "encoder")


def test_the_copy_is_gone_after_an_error(token_ids):
    model = tiny_model("decoder")
    with pytest.raises(ValueError, match="max_new_tokens"):
        model.generate(token_ids, max_new_tokens=-1)
    assert model.lm_head.columns is None
    with torch.autocast("cpu", torch.bfloat16), model.lm_head.for_few_rows():
        assert model.lm_head.columns is None  # it would be turned into half precision for each token


def test_beams_share_the_keys_of_their_source(token_ids):
    model = tiny_model("encoder-decoder")
    options = {
        "num_beams": 3,
        "num_return_sequences": 3,
        "max_new_tokens": 8,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    found = model.generate(token_ids, **options)
    cross = found.past_key_values.cross_attention_cache.layers[0].keys

    def all_reordered(cache, beam_idx):
        cache.reorder_cache(beam_idx)
        return cache

    model._reorder_cache = all_reordered
    expected = model.generate(token_ids, **options)
    assert torch.equal(found.sequences, expected.sequences)
    assert torch.equal(found.sequences_scores, expected.sequences_scores)
    assert torch.equal(cross, expected.past_key_values.cross_attention_cache.layers[0].keys)


def test_gradients_of_several_directions_at_once():
    model, ids = tiny_model("decoder"), torch.arange(3, 12)[None]
    loss = model(ids, labels=ids).loss
    weight = model.model.layers[0].mlp.up_proj.weight
    directions = torch.tensor([1.0, 2.0])
    (both,) = torch.autograd.grad(loss, weight, directions, is_grads_batched=True, retain_graph=True)
    (one,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (again,) = torch.autograd.grad(loss, weight)
    assert torch.equal(one, again)
    torch.testing.assert_close(both, torch.stack([one, 2 * one]))
