"""Probabilities of n-grams, by hand and of all tokens together."""

import numpy as np
import pytest

from benchmarks.quality import ngrams
from benchmarks.quality.ngrams import KneserNey, discounts


def following(model, context):
    """Of every token after a context."""
    return [model.probabilities(np.array([*context, token]))[-1] for token in range(model.vocabulary)]


def test_bigrams_by_hand(monkeypatch):
    monkeypatch.setattr(ngrams, "discounts", lambda counts: (0.5, 0.75, 1.0))
    model = KneserNey([np.array([0, 1, 0, 1, 0, 2])], vocabulary=4, order=2)
    # before 0 stand the start and 1; before 1, 0; before 2, 0: of 4 kinds of bigrams, discounts take 0.75, 0.5 and 0.5
    kept = 1.75 / 4
    unigrams = [1.25 / 4 + kept / 4, 0.5 / 4 + kept / 4, 0.5 / 4 + kept / 4, kept / 4]
    assert (
        following(model, [])
        == pytest.approx(  # the start, once, before 0
            [0.5 + 0.5 * unigrams[0], *(0.5 * each for each in unigrams[1:])]
        )
    )
    assert following(model, [0]) == pytest.approx(  # 1 twice, 2 once
        [(0.75 + 0.5) / 3 * each + seen / 3 for each, seen in zip(unigrams, (0, 1.25, 0.5, 0), strict=True)]
    )
    assert following(model, [2]) == pytest.approx(unigrams)  # nothing followed


def test_discounts_by_hand():
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 8, 4, 2, 1, 3])
    share = 8 / (8 + 2 * 4)
    assert discounts(counts) == pytest.approx((1 - 2 * share * 4 / 8, 2 - 3 * share * 2 / 4, 3 - 4 * share * 1 / 2))
    assert discounts(np.array([1, 2, 3])) == ngrams.FALLBACK


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_all_tokens_sum_to_one(order):
    random = np.random.default_rng(0)
    documents = [random.zipf(1.5, 200) % 9 for _ in range(4)]
    model = KneserNey(documents, vocabulary=11, order=order)  # two tokens never come
    for context in ([], [1], [10], [1, 1, 1, 1, 1], [*documents[0][:6]], [9, 1, 1]):
        probabilities = following(model, context)
        assert sum(probabilities) == pytest.approx(1)
        assert min(probabilities) > 0


def test_longer_contexts_tell_more():
    text = np.tile([0, 1, 2, 0, 1, 3, 0, 2, 1], 30)
    by_order = [np.log(KneserNey([text], 4, order).probabilities(text)).mean() for order in (1, 2, 3, 4)]
    assert by_order == sorted(by_order)
    assert by_order[0] < -1
    assert by_order[-1] > -0.2


def test_documents_do_not_see_each_other():
    apart = KneserNey([np.array([0, 1]), np.array([2, 3])], vocabulary=4, order=2)
    joined = KneserNey([np.array([0, 1, 2, 3])], vocabulary=4, order=2)
    assert following(apart, [1])[2] < following(joined, [1])[2]
