"""While training, padding is left out: losses and gradients are those of padded rows, and rows know nothing of each other."""

import pytest
import torch
from conftest import FAMILIES, SMALL, VARIANTS, seldom, tiny_model
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import trefoil
from trefoil.modeling.stack import TransformerStack
from trefoil.modeling.unpadding import Sequences

LENGTHS, TARGETS = [5, 9, 2, 9, 1], [4, 2, 7, 2, 3]
CLASSIFIERS = {
    "encoder sequences": trefoil.TrefoilEncoderForSequenceClassification,
    "encoder tokens": trefoil.TrefoilEncoderForTokenClassification,
    "encoder spans": trefoil.TrefoilEncoderForQuestionAnswering,
    "decoder sequences": trefoil.TrefoilDecoderForSequenceClassification,
    "decoder tokens": trefoil.TrefoilDecoderForTokenClassification,
}


def classifier(name, pooling="cls"):
    torch.manual_seed(0)
    model_class = CLASSIFIERS[name]
    fields = {"classifier_pooling": pooling} if name == "encoder sequences" else {}
    config = model_class.config_class(**SMALL, initializer_range=0.2, num_labels=3, pad_token_id=0, **fields)
    return model_class(config).train()


def mask_of(lengths, side="right"):
    rows = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return rows.long() if side == "right" else rows.flip(-1).long()


def batch_of(name, side="right"):
    """Rows of different lengths with labels of a head, or of a family's own."""
    mask = mask_of(LENGTHS, side)
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(3, SMALL["vocab_size"], mask.shape, generator=random) * mask
    batch = {"input_ids": ids, "attention_mask": mask}
    if name == "encoder-decoder":
        target = mask_of(TARGETS)
        return batch | {"labels": torch.randint(3, 67, target.shape, generator=random).where(target == 1, -100)}
    if name.endswith("sequences"):
        return batch | {"labels": torch.tensor([0, 2, 1, 1, 0])}
    if name.endswith("spans"):
        first = (mask.cumsum(-1) == 1).int().argmax(-1)
        return batch | {"start_positions": first, "end_positions": first + torch.tensor(LENGTHS) // 2}
    labels = (ids % 3) if name.endswith("tokens") else ids
    return batch | {"labels": labels.where(mask == 1, -100)}


@pytest.fixture
def seen(monkeypatch):
    """How many tokens the layers of the last stacks were given, and whether that may be padded ones only."""

    class Seen(list):
        def padded(self):
            monkeypatch.setattr(TransformerStack, "sequences", lambda *_, **__: None)

    tokens, run_layers = Seen(), TransformerStack.run_layers

    def counting(self, inputs_embeds, *arguments, **options):
        tokens.append(inputs_embeds.shape[:2].numel())
        return run_layers(self, inputs_embeds, *arguments, **options)

    monkeypatch.setattr(TransformerStack, "run_layers", counting)
    return tokens


def loss_and_gradients(model, batch, **options):
    model.zero_grad()
    loss = model(**batch, **options).loss
    loss.backward()
    return loss.detach(), {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def same_as_padded(model, batch, seen, kept, **options):
    loss, gradients = loss_and_gradients(model, batch, **options)
    assert [*seen] == kept
    seen.clear()
    seen.padded()
    padded_loss, padded = loss_and_gradients(model, batch, **options)
    assert [*seen] != kept
    torch.testing.assert_close(loss, padded_loss, atol=1e-5, rtol=0)
    assert gradients.keys() == padded.keys()
    for name, gradient in padded.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("variant", seldom([name for name in VARIANTS if name != "windows"], "modern", "bert", "t5"))
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients_are_those_of_padded_rows(family, variant, checkpointing, seen):
    model = tiny_model(family, variant).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    kept = [sum(LENGTHS)] + [sum(TARGETS)] * (family == "encoder-decoder")
    same_as_padded(model, batch_of(family), seen, kept, label_smoothing=0.1, num_items_in_batch=7)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_head(name, side, seen):
    same_as_padded(classifier(name), batch_of(name, side), seen, [sum(LENGTHS)])


def test_the_mean_of_a_row(seen):
    same_as_padded(classifier("encoder sequences", "mean"), batch_of("encoder sequences"), seen, [sum(LENGTHS)])


@pytest.mark.parametrize("name", [*CLASSIFIERS, *FAMILIES])
def test_a_row_does_not_notice_another(name):
    """To the last bit."""
    model = tiny_model(name).train() if name in FAMILIES else classifier(name)
    batch = batch_of(name)
    ids = batch["input_ids"].clone()
    ids[3] = (ids[3] + 11) % 60 + 3
    before, after = model(**batch), model(**batch | {"input_ids": ids})
    logits = "start_logits" if name.endswith("spans") else "logits"
    before, after = before[logits] + 0, after[logits] + 0
    others = [0, 1, 2, 4]
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[3], after[3])


def test_half_precision(seen):
    model = tiny_model("encoder-decoder").train()
    batch = batch_of("encoder-decoder")
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
        assert [*seen] == [sum(LENGTHS), sum(TARGETS)]
        seen.padded()
        torch.testing.assert_close(loss, model(**batch).loss, atol=0.05, rtol=0)


def test_embeddings_that_are_given(seen):
    model = tiny_model("encoder").train()
    batch = batch_of("encoder")
    embeds = model.model.embed_tokens(batch.pop("input_ids")).detach().requires_grad_()
    model(**batch, inputs_embeds=embeds).loss.backward()
    assert [*seen] == [sum(LENGTHS)]
    of_padding = embeds.grad[batch["attention_mask"] == 0]
    assert not of_padding.any()
    gradient, embeds.grad = embeds.grad, None
    seen.padded()
    model(**batch, inputs_embeds=embeds).loss.backward()
    torch.testing.assert_close(gradient, embeds.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": torch.ones(5, 9, dtype=torch.long)},  # padding is read
        {"output_hidden_states": True},
        {"output_attentions": True},
        {"attention_mask": torch.ones(5, 9, dtype=torch.long)},
        {"attention_mask": torch.ones(5, 1, 9, 9, dtype=torch.bool)},
    ],
    ids=["labels of padding", "hidden states", "attentions", "no padding", "a ready mask"],
)
def test_where_padding_stays(change, seen):
    model = tiny_model("encoder").train()
    model(**batch_of("encoder") | change)
    assert [*seen] == [5 * 9]


def test_padding_stays_outside_of_training_and_where_nothing_is_learned(seen):
    model, batch = tiny_model("decoder"), batch_of("decoder")
    model(**batch)
    model.train()
    labels = batch.pop("labels")
    model(**batch)
    model.set_attn_implementation("eager")  # which has no kernel for one length
    model(**batch, labels=labels)
    assert [*seen] == [5 * 9] * 3


def test_a_window_that_is_shorter_than_a_row_needs_its_mask(seen):
    model = tiny_model("encoder", "windows").train()
    model(**batch_of("encoder"))
    wide = tiny_model("encoder", "windows", sliding_window=9).train()
    wide(**batch_of("encoder"))
    assert [*seen] == [5 * 9, sum(LENGTHS)]


def test_documents_whose_tokens_do_not_follow_each_other_need_their_mask():
    ids, documents = torch.arange(3, 9)[None], torch.tensor([[0, 0, 1, 1, 0, 0]])
    losses = [
        tiny_model("decoder", attn_implementation=kernel).train()(ids, labels=ids, sequence_ids=documents).loss
        for kernel in ("sdpa", "eager")
    ]
    torch.testing.assert_close(*losses)
    assert not Sequences(torch.ones(1, 6, dtype=torch.bool), documents).are_whole
    assert Sequences(torch.ones(1, 6, dtype=torch.bool), torch.tensor([[4, 4, 1, 1, 9, 9]])).are_whole


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kernel_that_takes_lengths(family, seen, monkeypatch):
    """Flash attention's way, in plain torch."""
    asked = []

    def varlen(
        module, query, key, value, mask, scaling, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k, **rest
    ):
        assert mask is None
        assert (cu_seq_lens_q.dtype, cu_seq_lens_k.dtype) == (torch.int32, torch.int32)
        asked.append((max_length_q, max_length_k))
        is_causal = rest.get("is_causal", module.is_causal)
        outputs = []
        for (first, last), (start, end) in zip(
            cu_seq_lens_q.unfold(0, 2, 1).tolist(), cu_seq_lens_k.unfold(0, 2, 1).tolist(), strict=True
        ):
            outputs.append(
                torch.nn.functional.scaled_dot_product_attention(
                    query[:, :, first:last], key[:, :, start:end], value[:, :, start:end], scale=scaling,
                    is_causal=is_causal, enable_gqa=True,
                )
            )  # fmt: skip
        return torch.cat(outputs, dim=2).transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", varlen)
    model = tiny_model(family).train()
    batch = batch_of(family)
    for config in (model.config, *(getattr(model.config, name) for name in model.config.sub_configs)):
        config._attn_implementation = "flash_attention_2"
    loss, gradients = loss_and_gradients(model, batch)
    assert [*seen] == [sum(LENGTHS)] + [sum(TARGETS)] * (family == "encoder-decoder")
    assert set(asked) == ({(9, 9), (7, 7), (7, 9)} if family == "encoder-decoder" else {(9, 9)})
    other = tiny_model(family).train()
    other_loss, other_gradients = loss_and_gradients(other, batch)
    torch.testing.assert_close(loss, other_loss)
    torch.testing.assert_close(gradients, other_gradients, atol=1e-5, rtol=1e-4)


def test_rows_of_one_length_are_attended_to_at_once(monkeypatch):
    sizes, sdpa = [], ALL_ATTENTION_FUNCTIONS["sdpa"]

    def counting(module, query, key, *arguments, **options):
        sizes.append((query.shape[0], query.shape[2], key.shape[2]))
        return sdpa(module, query, key, *arguments, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", counting)
    model = tiny_model("encoder-decoder", num_hidden_layers=1).train()
    model(**batch_of("encoder-decoder"))
    encoder = [(1, 1, 1), (1, 2, 2), (1, 5, 5), (2, 9, 9)]
    itself = [(2, 2, 2), (1, 3, 3), (1, 4, 4), (1, 7, 7)]
    source = [(2, 2, 9), (1, 3, 1), (1, 4, 5), (1, 7, 2)]
    assert sizes == encoder + itself + source


def test_a_source_of_padding_only_keeps_all(seen):
    model, batch = tiny_model("encoder-decoder").train(), batch_of("encoder-decoder")
    batch["attention_mask"][2] = 0
    assert torch.isfinite(model(**batch).loss)
    assert seen[1] == 5 * 7


@pytest.mark.parametrize("variant", ["t5", "windows", "modern"])
@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_padding_amid_a_row_stays_where_it_is(family, variant):
    """Without it, tokens would be nearer to each other."""
    model = tiny_model(family, variant, **({"sliding_window": 7} if variant == "windows" else {}))
    batch = batch_of(family)
    batch["attention_mask"][:2, 2:4] = 0
    batch["labels"][batch["attention_mask"] == 0] = -100
    torch.testing.assert_close(model.train()(**batch).loss, model.eval()(**batch).loss, atol=1e-5, rtol=0)


def test_hooks_of_embeddings_see_rows():
    """NEFTune's noise is the smaller the more tokens a row has."""
    model, shapes = tiny_model("decoder").train(), []
    model.model.embed_tokens.register_forward_hook(lambda module, given, output: shapes.append(tuple(output.shape)))
    model(**batch_of("decoder"))
    assert shapes == [(5, 9, 32)]


def test_who_is_told_of_rows_sees_rows(seen):
    model = tiny_model("encoder").train()
    model.model.spares_padding = False
    model(**batch_of("encoder"))
    model.model.spares_padding = True
    hook = model.model.layers[1].mlp.up_proj.register_forward_pre_hook(lambda *given: None, with_kwargs=True)
    model(**batch_of("encoder"))
    hook.remove()
    model(**batch_of("encoder"))
    assert [*seen] == [5 * 9, 5 * 9, sum(LENGTHS)]


def test_what_was_refused_is_refused():
    model, batch = tiny_model("encoder-decoder").train(), batch_of("encoder-decoder")
    with pytest.raises(ValueError, match="sequence ids of both sides"):
        model(**batch, sequence_ids=torch.arange(9).expand(5, -1) // 5)
    masks = {"sliding_attention": torch.ones(5, 1, 9, 9, dtype=torch.bool)}
    with pytest.raises(KeyError, match="full_attention"):
        tiny_model("encoder").train()(**batch_of("encoder") | {"attention_mask": masks})


def test_fewer_labels_than_inputs():
    model, batch = tiny_model("encoder-decoder").train(), batch_of("encoder-decoder")
    inputs = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    few = batch | {"labels": batch["labels"][:, -3:], "decoder_input_ids": inputs, "logits_to_keep": 3}
    torch.testing.assert_close(model(**few).loss, model.eval()(**few).loss)


@pytest.mark.slow
def test_compiled_as_a_whole():
    model, batch = classifier("encoder tokens"), batch_of("encoder tokens")
    torch.testing.assert_close(
        torch.compile(model, fullgraph=True, backend="eager")(**batch).loss, model(**batch).loss, atol=1e-5, rtol=0
    )
