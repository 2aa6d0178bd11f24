"""Many texts through a pipeline, those of like length together, so that little of what is computed is padding."""

from collections.abc import Sequence
from typing import Any

TOKENS_PER_BATCH = 2048


def predict_in_batches(
    pipe: Any, inputs: Sequence[Any], lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH, **options: Any
) -> list[Any]:
    """What a pipeline says of each of many texts, in their order, of which it is given those of like length together.

    Args:
        lengths: Tokens of each text.
        tokens_per_batch: At most so many tokens at a time, padding included; one text in any case.
    """
    order = sorted(range(len(inputs)), key=lengths.__getitem__, reverse=True)  # memory runs out at once, or never
    answers: list[Any] = [None] * len(inputs)
    while order:
        size = max(1, tokens_per_batch // max(1, lengths[order[0]]))
        batch, order = order[:size], order[size:]
        for index, answer in zip(
            batch, pipe([inputs[index] for index in batch], batch_size=size, **options), strict=True
        ):
            answers[index] = answer
    return answers


def lengths_of(pipe: Any, inputs: Sequence[Any]) -> list[int]:
    """How many tokens a pipeline reads of each text."""
    texts = [each if isinstance(each, str) else " ".join(_parts(each)) for each in inputs]
    return [len(ids) for ids in pipe.tokenizer(texts, verbose=False)["input_ids"]] if texts else []


def _parts(texts: Any) -> list[str]:
    """Of a pair, or the words of a text."""
    return list(map(str, texts.values() if isinstance(texts, dict) else texts))
