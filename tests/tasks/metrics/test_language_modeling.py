import math

import pytest

from trefoil.tasks.metrics import language_model_scores


def test_worked_by_hand():
    # 안녕 하세요 is 2 words and 16 bytes; were its 4 tokens predicted with probability 1/8 each, that is 12 bits
    text = "안녕 하세요"
    scores = language_model_scores(
        total_nll=4 * math.log(8), tokens=4, words=len(text.split()), bytes=len(text.encode())
    )
    assert scores == pytest.approx(
        {"loss": math.log(8), "perplexity": 8, "word_perplexity": 64, "bits_per_byte": 12 / 16}
    )
    assert all(type(score) is float for score in scores.values())


def test_a_uniform_model_of_bytes_needs_eight_bits():
    scores = language_model_scores(total_nll=10 * math.log(256), tokens=10, words=2, bytes=10)
    assert scores["bits_per_byte"] == pytest.approx(8)
    assert scores["perplexity"] == pytest.approx(256)


def test_only_the_loss_and_its_perplexity_depend_on_the_tokens():
    few, many = (language_model_scores(total_nll=20.0, tokens=tokens, words=5, bytes=30) for tokens in (6, 12))
    assert few["loss"] == 2 * many["loss"]
    assert few["perplexity"] == pytest.approx(many["perplexity"] ** 2)
    assert few["word_perplexity"] == many["word_perplexity"]
    assert few["bits_per_byte"] == many["bits_per_byte"]


def test_certainty():
    scores = language_model_scores(total_nll=0.0, tokens=1, words=1, bytes=1)
    assert scores == {"loss": 0, "perplexity": 1, "word_perplexity": 1, "bits_per_byte": 0}


def test_an_overflow_is_infinite():
    scores = language_model_scores(total_nll=1e5, tokens=1_000, words=10, bytes=100)
    assert scores["perplexity"] == pytest.approx(math.exp(100))
    assert scores["word_perplexity"] == math.inf
    assert math.isfinite(scores["bits_per_byte"])


@pytest.mark.parametrize("name", ["tokens", "words", "bytes"])
@pytest.mark.parametrize("count", [0, -1])
def test_counts_must_be_positive(name, count):
    with pytest.raises(ValueError, match=f"^{name}={count}: there must be at least one"):
        language_model_scores(**{"total_nll": 1.0, "tokens": 1, "words": 1, "bytes": 1, name: count})
