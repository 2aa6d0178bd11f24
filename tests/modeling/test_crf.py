"""The chain over labels, against all labellings spelt out."""

import itertools

import pytest
import torch
from conftest import SMALL
from transformers import AutoModelForTokenClassification

import trefoil
from trefoil.modeling.crf import LinearChainCRF

LABELS = ["O", "B-X", "I-X"]


@pytest.fixture
def crf():
    torch.manual_seed(0)
    chain = LinearChainCRF(trefoil.TrefoilEncoderConfig(**SMALL, id2label=dict(enumerate(LABELS))))
    chain.transitions.data += torch.randn(3, 3)
    return chain


@pytest.fixture
def scores():
    return torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1))


FOLLOWS = torch.tensor([[False, True, True, True]])


def weights(crf, scores, follows):
    """Of each labelling of one row, its weight."""
    for labels in itertools.product(range(3), repeat=scores.shape[1]):
        total = sum(scores[0, place, label] for place, label in enumerate(labels))
        for place in range(1, len(labels)):
            if follows[0, place]:
                total = total + crf.transitions[labels[place - 1], labels[place]]
        yield labels, total.exp()


@pytest.mark.parametrize("follows", [FOLLOWS, torch.tensor([[False, True, False, True]])])
def test_probabilities_of_labels_are_sums_over_all_labellings(crf, scores, follows):
    sums, total = torch.zeros(4, 3), 0.0
    for labels, weight in weights(crf, scores, follows):
        total += weight
        for place, label in enumerate(labels):
            sums[place, label] += weight
    torch.testing.assert_close(crf(scores, follows).exp()[0], sums / total)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0], [0, -100, 2, -100]])
def test_the_loss_is_of_the_labels_together(crf, scores, labels):
    everything = list(weights(crf, scores, FOLLOWS))
    right = sum(
        weight
        for found, weight in everything
        if all(label in (-100, one) for one, label in zip(found, labels, strict=True))
    )
    expected = -(right / sum(weight for _, weight in everything)).log()
    loss = crf.loss(scores, torch.tensor([labels]), FOLLOWS, num_items_in_batch=1)
    torch.testing.assert_close(loss, expected)
    counted = sum(label >= 0 for label in labels)
    torch.testing.assert_close(crf.loss(scores, torch.tensor([labels]), FOLLOWS), expected / counted)


def test_gradients_are_those_of_the_sum_over_all_labellings(crf, scores):
    follows, labels = torch.tensor([[False, True, False, True]]), torch.tensor([[0, -100, 1, 2]])
    scores.requires_grad_()
    everything = list(weights(crf, scores, follows))
    right = [weight for found, weight in everything if found[0] == 0 and found[2:] == (1, 2)]
    expected = torch.autograd.grad(
        sum(weight for _, weight in everything).log() - sum(right).log(), (scores, crf.transitions)
    )
    found = torch.autograd.grad(crf.loss(scores, labels, follows, num_items_in_batch=1), (scores, crf.transitions))
    torch.testing.assert_close(found, expected)


def test_a_long_text_of_certain_labels_is_exact(crf):
    """Weights of single labellings are far below what a float holds."""
    scores = 100.0 * torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
    follows = torch.ones(2, 300, dtype=torch.bool)
    likeliest = crf(scores, follows)
    assert likeliest.isfinite().all()
    loss = crf.loss(scores.requires_grad_(), torch.randint(0, 3, (2, 300)), follows)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()
    assert crf.transitions.grad.isfinite().all()


def test_mixed_precision_changes_nothing(crf, scores):
    labels = torch.tensor([[0, 1, 2, 0]])
    expected = crf.loss(scores, labels, FOLLOWS), crf(scores, FOLLOWS)
    with torch.autocast("cpu", torch.bfloat16):
        found = crf.loss(scores, labels, FOLLOWS), crf(scores, FOLLOWS)
    torch.testing.assert_close(found, expected)


def test_what_continues_no_entity_begins_unheard_of():
    labels = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    config = trefoil.TrefoilEncoderConfig(**SMALL, id2label=dict(enumerate(labels)), classifier_crf=True)
    transitions = trefoil.TrefoilEncoderForTokenClassification(config).crf.transitions
    to = {
        after: [before for row, before in enumerate(labels) if transitions[row, labels.index(after)] == 0]
        for after in labels
    }
    assert to == {"O": labels, "B-X": labels, "B-Y": labels, "I-X": ["B-X", "I-X"], "I-Y": ["B-Y", "I-Y"]}


def test_packed_documents_and_padding_are_apart(token_ids):
    torch.manual_seed(0)
    config = trefoil.TrefoilEncoderConfig(**SMALL, num_labels=3, classifier_crf=True, attn_implementation="eager")
    model = trefoil.TrefoilEncoderForTokenClassification(config).eval()
    model.crf.transitions.data.normal_()
    first, second = token_ids[:1, :4], token_ids[1:, :5]
    packed = torch.cat((first, second), 1)
    ids = torch.tensor([[0] * 4 + [1] * 5])
    positions = torch.tensor([[*range(4), *range(5)]])
    logits = model(packed, sequence_ids=ids, position_ids=positions).logits
    torch.testing.assert_close(logits[:, :4], model(first).logits)
    torch.testing.assert_close(logits[:, 4:], model(second).logits)
    together = model(packed).logits
    assert not torch.allclose(together[:, 4:], logits[:, 4:])


def test_smoothed_labels_are_refused(crf, scores):
    with pytest.raises(ValueError, match=r"label_smoothing=0.1 is of each label alone"):
        crf.loss(scores, torch.zeros(1, 4, dtype=torch.long), FOLLOWS, label_smoothing=0.1)


def test_a_chain_is_saved_and_loaded(token_ids, tmp_path):
    config = trefoil.TrefoilEncoderConfig(**SMALL, num_labels=3, classifier_crf=True)
    model = trefoil.TrefoilEncoderForTokenClassification(config).eval()
    model.crf.transitions.data.normal_()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(token_ids).logits, model(token_ids).logits)
    torch.testing.assert_close(loaded(token_ids).logits.exp().sum(-1), torch.ones(token_ids.shape))
