import pytest
import torch
from conftest import SMALL, tiny_model
from torch.nn.functional import cross_entropy

from trefoil.modeling.losses import next_token_cross_entropy, token_cross_entropy


@pytest.fixture
def logits():
    return 3 * torch.randn(3, 5, 11, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    labels = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(1))
    labels[0, 3:] = labels[2, 1] = -100
    return labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_it_is_torchs_cross_entropy(logits, labels, smoothing):
    found = token_cross_entropy(logits, labels, 11, label_smoothing=smoothing)
    kept = labels != -100
    torch.testing.assert_close(found, cross_entropy(logits[kept], labels[kept], label_smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_worked_from_its_definition(logits, labels, smoothing):
    """Szegedy et al. 2016, §7: the target is `(1 - ε) δ + ε / K`."""
    kept = labels != -100
    log_probabilities = logits[kept].log_softmax(-1)
    target = torch.full_like(log_probabilities, smoothing / 11)
    target[torch.arange(len(target)), labels[kept]] += 1 - smoothing
    expected = -(target * log_probabilities).sum(-1).mean()
    torch.testing.assert_close(token_cross_entropy(logits, labels, 11, label_smoothing=smoothing), expected)


def test_the_sum_is_divided_by_the_number_of_items(logits, labels):
    mean, count = token_cross_entropy(logits, labels, 11), int((labels != -100).sum())
    torch.testing.assert_close(token_cross_entropy(logits, labels, 11, num_items_in_batch=count), mean)
    torch.testing.assert_close(token_cross_entropy(logits, labels, 11, num_items_in_batch=1), mean * count)
    torch.testing.assert_close(token_cross_entropy(logits, labels, 11, num_items_in_batch=torch.tensor(count)), mean)


def test_a_batch_without_labels_has_no_loss_where_the_items_are_counted_elsewhere(logits):
    none = torch.full((3, 5), -100)
    assert token_cross_entropy(logits, none, 11, num_items_in_batch=7) == 0


def test_labels_of_minus_100_do_not_count(logits, labels):
    changed = logits.clone()
    changed[labels == -100] += torch.randn(11) * 100
    torch.testing.assert_close(token_cross_entropy(changed, labels, 11), token_cross_entropy(logits, labels, 11))
    other = labels.masked_fill(labels == -100, 0)
    torch.testing.assert_close(
        token_cross_entropy(logits, other.masked_fill(labels == -100, -1), 11, ignore_index=-1),
        token_cross_entropy(logits, labels, 11),
    )


def test_half_precision_logits_are_summed_in_float32(logits, labels):
    loss = token_cross_entropy(logits.bfloat16(), labels, 11)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, token_cross_entropy(logits.bfloat16().float(), labels, 11))


def test_the_next_token_is_predicted(logits, labels):
    expected = token_cross_entropy(logits[:, :-1], labels[:, 1:], 11)
    torch.testing.assert_close(next_token_cross_entropy(logits, labels, 11), expected)
    shifted = torch.cat([labels[:, 1:], torch.full((3, 1), -100)], dim=1)
    torch.testing.assert_close(next_token_cross_entropy(logits, None, 11, shift_labels=shifted), expected)
    smoothed = token_cross_entropy(logits[:, :-1], labels[:, 1:], 11, num_items_in_batch=3, label_smoothing=0.2)
    torch.testing.assert_close(
        next_token_cross_entropy(logits, labels, 11, num_items_in_batch=3, label_smoothing=0.2), smoothed
    )


def batch_of(family):
    """Five rows with very different numbers of labels."""
    ids = torch.randint(3, SMALL["vocab_size"], (5, 12), generator=torch.Generator().manual_seed(2))
    labels = ids.clone()
    for row, length in enumerate([12, 3, 7, 1, 9]):
        labels[row, length:] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_micro_batches_sum_to_the_whole_batch(family):
    model, batch = tiny_model(family), batch_of(family)
    # a causal model predicts no first token
    counted = batch["labels"][:, 1:] if family == "decoder" else batch["labels"]
    items = int((counted != -100).sum())
    whole = model(**batch, label_smoothing=0.1).loss
    whole.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    parts = []
    for rows in ([0, 1], [2], [3, 4]):
        loss = model(
            **{key: value[rows] for key, value in batch.items()}, num_items_in_batch=items, label_smoothing=0.1
        ).loss
        loss.backward()
        parts.append(loss)
    torch.testing.assert_close(sum(parts), whole, atol=1e-6, rtol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-5, msg=name)
