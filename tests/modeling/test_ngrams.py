"""N-grams: which tokens they see, as embeddings and as what a sequence is classified by."""

import pytest
import torch
from conftest import SMALL, tiny_model

import trefoil
from trefoil.modeling.ngrams import PACE, MatchEmbeddings, NgramClassifier, NgramEmbeddings, NgramTagger
from trefoil.modeling.unpadding import Unread


def embeddings(*sizes):
    torch.manual_seed(0)
    return NgramEmbeddings(trefoil.TrefoilEncoderConfig(**SMALL, ngram_sizes=list(sizes)), 32)


def changed(module, ids, place, **inputs):
    """Where the embeddings change with the token at a place."""
    others = ids.clone()
    others[0, place] += 1
    before, after = module(ids, **inputs), module(others, **inputs)
    return (before != after).any(-1)[0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize(("sizes", "seen"), [([2], [3, 4, 5]), ([3], [2, 3, 4, 5, 6]), ([2, 4], [1, 2, 3, 4, 5, 6, 7])])
def test_a_token_is_seen_as_far_as_n_grams_reach(sizes, seen):
    assert changed(embeddings(*sizes), torch.arange(9)[None] + 5, 4) == seen


def test_n_grams_end_with_a_document():
    ids = torch.arange(9)[None] + 5
    documents = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1]])
    module = embeddings(3)
    assert changed(module, ids, 4, sequence_ids=documents) == [2, 3, 4]
    alone = module(ids[:, 5:])
    torch.testing.assert_close(module(ids, sequence_ids=documents)[:, 5:], alone)


@pytest.mark.parametrize("padding", [(0, 3), (3, 0)])
def test_padding_is_in_none(padding):
    ids = torch.arange(6)[None] + 5
    real = torch.nn.functional.pad(torch.ones_like(ids), padding)
    padded = torch.nn.functional.pad(ids, padding, value=7)
    module = embeddings(2, 3)
    torch.testing.assert_close(module(padded, real)[real.bool()], module(ids)[0])


def test_an_n_gram_is_not_another():
    """In other order, of another size, or at the other end: nearly each has a row of its own."""
    module = embeddings(2)
    pairs = torch.cartesian_prod(torch.arange(40), torch.arange(40))
    found = module(pairs)
    assert len(found[:, 1].unique(dim=0)) > 1500
    assert not torch.allclose(found[:, 0], found[:, 1])


def matches(*sizes, **fields):
    """How many sizes a token matches of."""
    config = trefoil.TrefoilEncoderConfig(**SMALL | {"type_vocab_size": 2} | fields, matched_ngram_sizes=list(sizes))
    module = MatchEmbeddings(config, 1)
    torch.nn.init.ones_(module.embeddings.weight)
    return lambda *inputs, **others: module(*inputs, **others)[..., 0].int()


QUESTION, TEXT = [9, 5, 6, 7], [5, 6, 8, 6, 7, 5]


@pytest.mark.parametrize(
    ("sizes", "of_question", "of_text"),
    [
        ([1], [0, 1, 1, 1], [1, 1, 0, 1, 1, 1]),
        ([2], [0, 1, 1, 1], [1, 1, 0, 1, 1, 0]),
        ([1, 2], [0, 2, 2, 2], [2, 2, 0, 2, 2, 1]),
        ([3], [0, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
    ],
)
def test_what_stands_in_both_segments_matches(sizes, of_question, of_text):
    ids, types = torch.tensor([QUESTION + TEXT]), torch.tensor([[0] * 4 + [1] * 6])
    assert matches(*sizes)(ids, types)[0].tolist() == of_question + of_text
    assert matches(*sizes)(ids, 1 - types)[0].tolist() == of_question + of_text
    assert matches(*sizes, type_vocab_size=3)(ids, 2 * types)[0].tolist() == of_question + of_text
    for alone in (None, torch.zeros_like(ids)):
        assert not matches(*sizes)(ids, alone).any()


@pytest.mark.parametrize("padding", [(0, 3), (3, 0)])
def test_what_stands_in_another_row_or_document_or_in_padding_does_not_match(padding):
    ids, types = torch.tensor([QUESTION + TEXT]), torch.tensor([[0] * 4 + [1] * 6])
    alone = matches(1, 2)(ids, types)[0]
    others = torch.tensor([[9, 8, 8, 8, 5, 6, 6, 6, 7, 5]])
    pair = matches(1, 2)(torch.cat([ids, others]), torch.cat([types, types]))
    assert pair.tolist() == [alone.tolist(), [0] * 10]
    documents = torch.tensor([[0] * 10 + [1] * 10])
    packed = matches(1, 2)(torch.cat([ids, others], dim=1), torch.cat([types, types], dim=1), sequence_ids=documents)
    assert packed[0].tolist() == pair.flatten().tolist()
    padded = torch.nn.functional.pad(ids, padding, value=9), torch.nn.functional.pad(types, padding, value=1)
    real = torch.nn.functional.pad(torch.ones_like(ids), padding)
    assert matches(1, 2)(*padded, real)[0][real[0].bool()].tolist() == alone.tolist()


def test_a_model_reads_what_matches_alone_in_a_batch_and_packed(token_ids):
    torch.manual_seed(0)
    model = tiny_model("encoder", type_vocab_size=2, matched_ngram_sizes=[1, 2], hidden_dropout=0.0).model.eval()
    ids, types = torch.tensor([QUESTION + TEXT]), torch.tensor([[0] * 4 + [1] * 6])
    alone = model(ids, token_type_ids=types).last_hidden_state
    model.embed_matches.embeddings.weight.data.zero_()
    assert not torch.allclose(model(ids, token_type_ids=types).last_hidden_state, alone)
    torch.nn.init.normal_(model.embed_matches.embeddings.weight)
    alone = model(ids, token_type_ids=types).last_hidden_state
    pad = (0, 4)
    padded = {
        "input_ids": torch.nn.functional.pad(ids.repeat(2, 1), pad),
        "token_type_ids": torch.nn.functional.pad(types.repeat(2, 1), pad),
        "attention_mask": torch.nn.functional.pad(torch.ones_like(ids).repeat(2, 1), pad),
    }
    for unread in (None, Unread(padded["attention_mask"])):
        batch = model(**padded, unread=unread).last_hidden_state
        torch.testing.assert_close(batch[:, :10], alone.repeat(2, 1, 1))


def test_a_model_of_n_grams_reads_ids(token_ids):
    model = tiny_model("encoder", ngram_sizes=[2, 3])
    plain = tiny_model("encoder")
    assert not torch.allclose(model(token_ids).logits, plain(token_ids).logits)
    with pytest.raises(ValueError, match=r"n-grams .* are of input_ids, not of inputs_embeds"):
        model(inputs_embeds=model.get_input_embeddings()(token_ids))


def classifier(*sizes, labels=2, kind=NgramClassifier):
    module = kind(trefoil.TrefoilEncoderConfig(**SMALL, num_labels=labels, classifier_ngram_sizes=list(sizes)))
    torch.nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(0))
    return module


@pytest.mark.parametrize("padding", [(0, 3), (3, 0)])
def test_a_sequence_is_scored_by_the_n_grams_in_it_and_by_no_padding(padding):
    ids = torch.arange(6)[None] + 5
    real = torch.nn.functional.pad(torch.ones_like(ids), padding)
    padded = torch.nn.functional.pad(ids, padding, value=7)
    module = classifier(1, 2, 3)
    torch.testing.assert_close(module(padded, real), module(ids))
    torch.nn.init.ones_(module.weight)
    count = 18  # of each size one ends with each token
    torch.testing.assert_close(module(padded, real), torch.full((1, 2), PACE * count**0.5))


def test_n_grams_tell_orders_apart_that_tokens_alone_do_not():
    there, back = torch.tensor([[5, 6, 7]]), torch.tensor([[7, 6, 5]])
    tokens, pairs = classifier(1), classifier(2)
    torch.testing.assert_close(tokens(there), tokens(back))
    assert not torch.allclose(pairs(there), pairs(back))


def tagger(*sizes):
    return classifier(*sizes, labels=3, kind=NgramTagger)


@pytest.mark.parametrize(
    ("sizes", "seen"), [([1], [3, 4, 5, 6, 7]), ([2], [2, 3, 4, 5, 6, 7, 8]), ([1, 3], [*range(1, 10)])]
)
def test_a_token_is_tagged_by_the_n_grams_that_hold_it_or_lie_near(sizes, seen):
    assert changed(tagger(*sizes), torch.arange(11)[None] + 5, 5) == seen


def test_an_n_gram_tells_of_each_place_in_it_something_else():
    found = tagger(2)(torch.tensor([[9, 9, 9, 9, 5, 9, 9, 9, 9, 9, 9, 9, 9]]))[0]
    assert len(found[1:8].unique(dim=0)) == 7
    torch.testing.assert_close(found[8], found[9])  # the same around them


def test_tags_know_nothing_of_other_documents_and_of_padding():
    ids = torch.arange(9)[None] + 5
    documents = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1]])
    module = tagger(1, 2, 3)
    together = module(ids, sequence_ids=documents)
    torch.testing.assert_close(together[:, :5], module(ids[:, :5]))
    torch.testing.assert_close(together[:, 5:], module(ids[:, 5:]))
    for padding in [(0, 3), (3, 0)]:
        real = torch.nn.functional.pad(torch.ones_like(ids), padding)
        padded = torch.nn.functional.pad(ids, padding, value=7)
        torch.testing.assert_close(module(padded, real)[real.bool()], module(ids)[0])


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification"])
def test_a_classifier_with_n_grams_begins_as_one_without_and_learns_them(head, token_ids, tmp_path):
    config = tiny_model("encoder", num_labels=2).config
    model_class = getattr(trefoil, f"TrefoilEncoderFor{head}")
    plain = model_class(config).eval()
    model = model_class(type(config).from_dict(config.to_dict() | {"classifier_ngram_sizes": [1, 2]})).eval()
    missing = model.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["ngrams.weight"]
    torch.testing.assert_close(model(token_ids).logits, plain(token_ids).logits)
    labels = torch.zeros(model(token_ids).logits.shape[:-1], dtype=torch.long)
    model(token_ids, labels=labels).loss.backward()
    rows = model.ngrams.weight.grad.abs().sum(dim=1).count_nonzero()
    assert 0 < rows <= {"SequenceClassification": 2, "TokenClassification": 11}[head] * token_ids.numel()
    with torch.no_grad():
        model.ngrams.weight -= model.ngrams.weight.grad
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(token_ids).logits, model(token_ids).logits)
    assert not torch.allclose(loaded(token_ids).logits, plain(token_ids).logits)
    with pytest.raises(ValueError, match=r"n-grams .* are of input_ids, not of inputs_embeds"):
        model(inputs_embeds=model.get_input_embeddings()(token_ids))


def test_a_pretrained_model_is_given_n_grams(tmp_path):
    tiny_model("encoder").save_pretrained(tmp_path)
    sizes = {"ngram_sizes": [2], "classifier_ngram_sizes": [1, 2]}
    model = trefoil.TrefoilEncoderForTokenClassification.from_pretrained(tmp_path, **sizes)
    assert model.ngrams.weight.shape == (262_144, 2)
    assert model.model.embed_ngrams.table.weight.shape == (65_536, 64)
    asked = {"classifier_ngram_sizes": [1], "classifier_ngram_vocab_size": 100}
    for fields in (asked, dict(reversed(asked.items()))):
        model = trefoil.TrefoilEncoderForSequenceClassification.from_pretrained(tmp_path, **fields)
        assert model.ngrams.weight.shape == (100, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classifier_ngram_sizes": [0]}, r"classifier_ngram_sizes=\[0\] must be 1 or more"),
        (
            {"classifier_ngram_sizes": [1], "classifier_ngram_vocab_size": 0},
            "classifier_ngram_vocab_size=0 must be positive",
        ),
        ({"ngram_sizes": [1]}, "ngram_sizes"),
        ({"matched_ngram_sizes": [0], "type_vocab_size": 2}, r"matched_ngram_sizes=\[0\] must be 1 or more"),
        (
            {"matched_ngram_sizes": [2], "type_vocab_size": 1},
            "type_vocab_size=1 does not tell apart; it must be 2 or more",
        ),
        ({"ngram_sizes": [2], "ngram_vocab_size": -1}, "ngram_vocab_size=-1 must be positive"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        trefoil.TrefoilEncoderConfig(**SMALL, **fields)
