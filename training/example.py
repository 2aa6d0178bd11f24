"""A row that shows what a model is asked: on its card, on its page and at a run's end. It is one that was not trained on."""

from collections.abc import Iterable

import datasets
import numpy as np

from ..data.progress import progress_bar
from ..tasks.language_modeling import LanguageModelReader
from ..tasks.reader import Example, Reader, first_words

LOOKED_AT = 1000  # rows
SHORT, LONGEST = 300, 2000  # characters: of a row that is as good as any, and of one that is better than none
BEGINNING = 100  # characters of a text that is a document


def find_example(reader: Reader, train: datasets.Dataset, rows: datasets.Dataset) -> Example | None:
    """What a model is asked of one of the rows, by the names that `trefoil.load` gives its inputs; of middle length among those
    that are short, or else the shortest. None where all are long or trained on, or the task reads no texts.

    Args:
        train: The rows that were trained on.
        rows: Valid ones of another split.
    """
    found = {tuple(one.items()): one for one in _asked(reader, rows.select(range(min(LOOKED_AT, len(rows)))))}
    for batch in progress_bar(reader.batches(train), "choosing an example"):
        if not found:
            break
        for one in reader.asked(batch):
            found.pop(tuple(one.items()), None)
    examples = [_shortened(reader, one) for one in found.values()]
    examples = [one for one in examples if one and all(text.strip() for text in one.values())]
    lengths = np.array([sum(map(len, one.values())) for one in examples])
    order = np.argsort(lengths, kind="stable")
    if count := int((lengths <= SHORT).sum()):
        return examples[order[count // 2]]
    return examples[order[0]] if len(order) and lengths[order[0]] <= LONGEST else None


def _asked(reader: Reader, rows: datasets.Dataset) -> Iterable[Example]:
    return (one for batch in reader.batches(rows) for one in reader.asked(batch))


def _shortened(reader: Reader, example: Example) -> Example:
    """Of a document, its beginning."""
    if not isinstance(reader, LanguageModelReader):
        return example
    return {name: first_words(text.strip(), BEGINNING) for name, text in example.items()}
