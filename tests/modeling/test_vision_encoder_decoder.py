"""Captions' loss: that of all logits, which a decoder of ours need not have."""

import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trefoil.configuration.presets import preset_config
from trefoil.modeling import losses
from trefoil.modeling.losses import next_token_cross_entropy, token_cross_entropy
from trefoil.modeling.vision_encoder_decoder import TrefoilVisionEncoderDecoderModel
from trefoil.modeling.vocabulary import LateLogits

VOCAB_SIZE, ROWS = 67, 5
OPTIONS = [{}, {"num_items_in_batch": 11, "label_smoothing": 0.1, "z_loss": 0.01}]


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    monkeypatch.setattr(losses, "rows_at_a_time", lambda vocab_size, device: ROWS)


def sized(**changes):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "initializer_range": 0.2, **changes}


def captioning_model(vocab_size=VOCAB_SIZE, **changes):
    torch.manual_seed(0)
    encoder = {"image_size": 16, "patch_size": 8, **changes.pop("encoder", {})}
    fields = sized(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, **changes)
    config = preset_config("vision-encoder-decoder-tiny", vocab_size=vocab_size, encoder=encoder, **fields)
    config.pad_token_id, config.decoder_start_token_id = 0, 1
    return TrefoilVisionEncoderDecoderModel(config).train()


def strangers_model():
    """With a decoder of transformers."""
    torch.manual_seed(0)
    encoder = transformers.ViTConfig(image_size=16, patch_size=8, **sized())
    decoder = transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=16, n_layer=1, n_head=2, add_cross_attention=True, is_decoder=True,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig(encoder=encoder.to_dict(), decoder=decoder.to_dict())
    config.pad_token_id, config.decoder_start_token_id = 0, 1
    return TrefoilVisionEncoderDecoderModel(config).train()


def batch_of(vocab_size=VOCAB_SIZE, rows=3, length=9):
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(3, vocab_size, (rows, length), generator=random)
    labels = labels.masked_fill(labels % 4 == 0, -100)
    assert ROWS < (labels != -100).sum() < labels.numel()
    return {"pixel_values": torch.randn(rows, 3, 16, 16, generator=random), "labels": labels}


def gradients(model, loss):
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"encoder": {"hidden_size": 8}}, {"final_logit_softcapping": 2.0}, {"tie_word_embeddings": False}],
    ids=["plain", "narrow encoder", "capped", "untied"],
)
def test_loss_and_gradients_are_those_of_all_logits(options, changes):
    model, batch = captioning_model(**changes), batch_of()
    output = model(**batch, **options)
    assert isinstance(output.logits, LateLogits)
    assert output.logits.shape == (3, 9, VOCAB_SIZE)
    stock = transformers.VisionEncoderDecoderModel.forward(model, **batch)
    torch.testing.assert_close(output.logits + 0, stock.logits, atol=1e-6, rtol=1e-6)
    whole = token_cross_entropy(stock.logits, batch["labels"], VOCAB_SIZE, **options)
    torch.testing.assert_close(output.loss, whole, atol=1e-6, rtol=1e-6)
    if not options:
        torch.testing.assert_close(output.loss, stock.loss, atol=1e-6, rtol=1e-6)
    found = gradients(model, output.loss)
    torch.testing.assert_close(found, gradients(model, whole), atol=1e-6, rtol=1e-4)
    assert found["encoder.embeddings.patch_embeddings.projection.weight"].abs().sum() > 0


@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_the_loss_outside_of_training(options):
    model, batch = captioning_model(), batch_of()
    late = model(**batch, **options).loss
    model.eval()
    outside = model(**batch, **options)
    assert type(outside.logits) is torch.Tensor
    torch.testing.assert_close(late, outside.loss, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(model(**batch, **options).loss, outside.loss.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_decoder_of_transformers_takes_all_logits(options):
    model, batch = strangers_model(), batch_of()
    output = model(**batch, **options)
    assert type(output.logits) is torch.Tensor
    stock = transformers.VisionEncoderDecoderModel.forward(model, **batch)
    torch.testing.assert_close(output.logits, stock.logits)
    torch.testing.assert_close(output.loss, token_cross_entropy(stock.logits, batch["labels"], VOCAB_SIZE, **options))


def test_words_before_that_are_given_are_read():
    model, batch = captioning_model(), batch_of()
    hidden = torch.full_like(batch["labels"], 5)
    output = model(**batch, decoder_input_ids=hidden)
    logits = model(pixel_values=batch["pixel_values"], decoder_input_ids=hidden).logits
    torch.testing.assert_close(
        output.loss, token_cross_entropy(logits, batch["labels"], VOCAB_SIZE), atol=1e-6, rtol=1e-6
    )


def test_no_label_gives_zeros():
    model, batch = captioning_model(), batch_of()
    batch["labels"].fill_(-100)
    loss = model(**batch, num_items_in_batch=5).loss
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters() if parameter.grad is not None)


def test_mixed_precision():
    model, batch = captioning_model(), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch)
        whole = token_cross_entropy(output.logits.whole(), batch["labels"], VOCAB_SIZE)
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, whole, atol=0.02, rtol=0.01)


def test_a_loss_of_the_decoder_s_own_sees_labels_where_they_are_predicted():
    model, batch, seen = captioning_model(), batch_of(), []

    def loss_of_ones_own(logits, labels, vocab_size, shift_labels=None, **options):
        seen.append(shift_labels)
        return next_token_cross_entropy(logits, labels, vocab_size, shift_labels)

    expected = model(**batch).loss
    model.decoder.loss_function = loss_of_ones_own
    torch.testing.assert_close(model(**batch).loss, expected)
    assert [each.tolist() for each in seen] == [batch["labels"].tolist()]


def test_nothing_is_left_on_the_decoder_also_after_an_error():
    model, batch = captioning_model(), batch_of()
    model(**batch)
    with pytest.raises(ValueError, match="pixel_values"):
        model(labels=batch["labels"])
    assert not model.decoder._forward_hooks


class LargestTensor(TorchDispatchMode):
    """Numbers in the largest tensor that anything makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return made


def largest_of_a_step(model, batch):
    with LargestTensor() as largest:
        model(**batch, label_smoothing=0.1).loss.backward()
    return largest.numel


def test_a_training_step_of_a_large_vocabulary_never_holds_all_logits():
    words = 32_000
    model, batch = captioning_model(words), batch_of(words, rows=4, length=32)
    assert (batch["labels"] != -100).sum() > 90
    # the gradient of the vocabulary's weight is the largest: 16 numbers a word, where all logits are 128
    assert largest_of_a_step(model, batch) == model.decoder.lm_head.weight.numel() == 16 * words
    model.decoder.loss_function = lambda *arguments, **options: next_token_cross_entropy(*arguments, **options)
    assert largest_of_a_step(model, batch) == 4 * 32 * words
