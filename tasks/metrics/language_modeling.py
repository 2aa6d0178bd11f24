"""Quality of language models: perplexity, and what compares models with different tokenizers."""

import math


def language_model_scores(total_nll: float, tokens: int, words: int, bytes: int) -> dict[str, float]:
    """How well a language model predicts a text, none of it in percent: lower is better throughout.

    - `loss`: nats a token.
    - `perplexity`: exp of that. It compares models of one tokenizer only.
    - `word_perplexity`: the same a word, whatever the tokenizer.
    - `bits_per_byte`: bits that the text would be compressed to, a byte of its UTF-8.

    A perplexity too large for a float is infinite.

    Args:
        total_nll: the negative log-likelihood of the whole text in nats.
        tokens: the number of tokens predicted.
        words: the number of words in the text.
        bytes: the length of the text in UTF-8.

    Raises:
        ValueError: a count is not positive.
    """
    for name, count in {"tokens": tokens, "words": words, "bytes": bytes}.items():
        if count <= 0:
            raise ValueError(f"{name}={count}: there must be at least one")
    return {
        "loss": total_nll / tokens,
        "perplexity": perplexity(total_nll / tokens),
        "word_perplexity": perplexity(total_nll / words),
        "bits_per_byte": total_nll / math.log(2) / bytes,
    }


def perplexity(nats: float) -> float:
    """Of a loss; infinite where it is too large for a float."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
