"""Embeddings of n-grams: which tokens they see."""

import pytest
import torch
from conftest import SMALL, tiny_model

import trefoil
from trefoil.modeling.ngrams import NgramEmbeddings


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


def test_a_model_of_n_grams_reads_ids(token_ids):
    model = tiny_model("encoder", ngram_sizes=[2, 3])
    plain = tiny_model("encoder")
    assert not torch.allclose(model(token_ids).logits, plain(token_ids).logits)
    with pytest.raises(ValueError, match=r"ngram_sizes=\[2, 3\] are of input_ids"):
        model(inputs_embeds=model.get_input_embeddings()(token_ids))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ngram_sizes": [1]}, "ngram_sizes"),
        ({"ngram_sizes": [2], "ngram_vocab_size": -1}, "ngram_vocab_size=-1 must be positive"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        trefoil.TrefoilEncoderConfig(**SMALL, **fields)
