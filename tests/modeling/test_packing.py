"""Documents packed into rows train as documents padded to one length do, and know nothing of each other."""

import pytest
import torch
from conftest import SMALL, seldom, tiny_model

import trefoil

IMPLEMENTATIONS = ("eager", "sdpa")
LENGTHS = [5, 3, 7, 1, 4]
ROWS = [[0, 1, 2], [3, 4]]  # which documents share a row


def documents(seed, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, SMALL["vocab_size"], (length,), generator=generator) for length in lengths]


def pairs(family):
    """What each document's tokens and labels are, as `(ids, labels)`, on each side that the family has."""
    source = documents(0)
    if family == "encoder-decoder":
        target = documents(1, [2, 6, 3, 5, 4])
        inputs = [torch.cat([ids.new_tensor([1]), ids[:-1]]) for ids in target]
        return {"": [(ids, None) for ids in source], "decoder_": list(zip(inputs, target, strict=True))}
    labels = [ids.clone() for ids in source]
    for ids in labels:
        if family == "decoder":
            ids[0] = -100  # what is left of it is another document
        else:
            ids[ids % 3 == 0] = -100
    return {"": list(zip(source, labels, strict=True))}


def rows_of(parts, side, value):
    """Rows of pieces, padded with `value` on one side."""
    rows = [torch.cat(part) for part in parts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)


def batch_of(family, rows, side="right", sequences=True):
    """The documents of each row one behind the other; packed rows say whose each token is and where it stands."""
    batch = {}
    for prefix, all_documents in pairs(family).items():
        chosen = [[all_documents[place] for place in row] for row in rows]
        batch[f"{prefix}input_ids"] = rows_of([[ids for ids, _ in row] for row in chosen], side, 7)
        batch[f"{prefix}attention_mask"] = rows_of(
            [[torch.ones_like(ids) for ids, _ in row] for row in chosen], side, 0
        )
        if chosen[0][0][1] is not None:
            batch["labels"] = rows_of([[labels for _, labels in row] for row in chosen], side, -100)
        if sequences:
            counts = [[torch.arange(len(ids)) for ids, _ in row] for row in chosen]
            places = [[torch.full_like(ids, place) for place, (ids, _) in enumerate(row)] for row in chosen]
            batch[f"{prefix}position_ids"] = rows_of(counts, side, 0)
            batch[f"{prefix}sequence_ids"] = rows_of(places, side, -1)
    return batch


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model(**batch, label_smoothing=0.1).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("side", seldom(["left", "right"], "right"))
def test_packed_and_padded_rows_have_the_same_loss_and_gradients(family_and_variant, implementation, side):
    family, variant = family_and_variant
    model = tiny_model(family, variant, attn_implementation=implementation)
    padded = batch_of(family, [[place] for place in range(len(LENGTHS))], side, sequences=False)
    packed = batch_of(family, ROWS, side)
    assert packed["input_ids"].shape == (2, 15)
    assert (padded["labels"] != -100).sum() == (packed["labels"] != -100).sum()
    (loss, gradients), (packed_loss, packed_gradients) = (
        loss_and_gradients(model, batch) for batch in (padded, packed)
    )
    torch.testing.assert_close(packed_loss, loss, atol=1e-5, rtol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=0, msg=name)
    # it is the masks that keep them apart
    careless = {name: value for name, value in packed.items() if "sequence_ids" not in name}
    assert abs(model(**careless, label_smoothing=0.1).loss - loss) > 1e-4


@pytest.mark.parametrize("implementation", seldom(IMPLEMENTATIONS, "sdpa"))
def test_sequence_ids_are_enough(family_and_variant, implementation):
    """Without an attention mask, transformers finds documents by their positions too."""
    family, variant = family_and_variant
    model = tiny_model(family, variant, attn_implementation=implementation)
    packed = batch_of(family, [[4, 3, 0, 2]])  # a long document behind short ones
    bare = {name: value for name, value in packed.items() if "attention_mask" not in name}
    (loss, gradients), (bare_loss, bare_gradients) = (loss_and_gradients(model, batch) for batch in (packed, bare))
    torch.testing.assert_close(bare_loss, loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(bare_gradients, gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", seldom(IMPLEMENTATIONS, "sdpa"))
def test_a_document_does_not_notice_its_neighbour(family_and_variant, implementation):
    family, variant = family_and_variant
    model = tiny_model(family, variant, attn_implementation=implementation)
    batch = batch_of(family, ROWS)
    del batch["labels"]
    changed = dict(batch)
    for prefix in ("", "decoder_"):
        if f"{prefix}input_ids" in batch:
            ids = batch[f"{prefix}input_ids"]
            second = batch[f"{prefix}sequence_ids"] == 1
            changed[f"{prefix}input_ids"] = torch.where(second, (ids + 11) % 60 + 3, ids)
    with torch.no_grad():
        before, after = model(**batch).logits, model(**changed).logits
    sequences = batch.get("decoder_sequence_ids", batch["sequence_ids"])
    others = (sequences != 1) & (sequences != -1)
    assert torch.equal(before[others], after[others])
    assert ((before - after)[sequences == 1].abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_only_the_source_changes(implementation):
    """Cross-attention by itself: a target does not notice another target's source."""
    model = tiny_model("encoder-decoder", attn_implementation=implementation)
    batch = batch_of("encoder-decoder", ROWS)
    del batch["labels"]
    ids = batch["input_ids"]
    changed = batch | {"input_ids": torch.where(batch["sequence_ids"] == 1, (ids + 11) % 60 + 3, ids)}
    with torch.no_grad():
        before, after = model(**batch).logits, model(**changed).logits
    sequences = batch["decoder_sequence_ids"]
    others = (sequences != 1) & (sequences != -1)
    assert torch.equal(before[others], after[others])
    assert ((before - after)[sequences == 1].abs().amax(-1) > 1e-4).all()


def test_masked_positions_of_packed_rows():
    model = tiny_model("encoder")
    batch = batch_of("encoder", ROWS)
    loss, gradients = loss_and_gradients(model, batch)
    kept_loss, kept_gradients = loss_and_gradients(model, batch | {"logits_to_keep": batch["labels"] != -100})
    torch.testing.assert_close(kept_loss, loss)
    torch.testing.assert_close(kept_gradients, gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "model_class"),
    [
        ("encoder", trefoil.TrefoilEncoderForTokenClassification),
        ("decoder", trefoil.TrefoilDecoderForTokenClassification),
    ],
)
def test_token_classification_of_packed_rows(family, model_class):
    torch.manual_seed(0)
    config = model_class.config_class(**SMALL, initializer_range=0.2, num_labels=SMALL["vocab_size"])
    model = model_class(config).eval()
    padded = batch_of(family, [[place] for place in range(len(LENGTHS))], sequences=False)
    torch.testing.assert_close(model(**batch_of(family, ROWS)).loss, model(**padded).loss, atol=1e-5, rtol=0)
