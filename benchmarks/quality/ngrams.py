"""A language model of n-grams: interpolated Kneser-Ney smoothing with three discounts.

Kneser and Ney 1995; the discounts and the interpolation: Chen and Goodman 1999, §3. KenLM's package on PyPI only asks models
that its C++ programs have estimated, and NLTK's counts in Python's dictionaries, so this one counts in arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORDER = 5
# of n-grams seen once, twice and more often, where a text is too short to tell; what KenLM takes then
FALLBACK = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Grams:
    """All n-grams of one length: their codes, sorted, and what smoothing needs of each and of its context.

    Attributes:
        codes: `context * (vocabulary + 1) + token`, where a context is the place of the shorter n-gram among its own `(grams,)`.
        discounted: Counts less the discount `(grams,)`.
        totals: The sum of the counts behind each context `(contexts,)`.
        kept: What the discounts of each context took, to be given by the shorter n-grams `(contexts,)`.
    """

    codes: np.ndarray
    discounted: np.ndarray
    totals: np.ndarray
    kept: np.ndarray


class KneserNey:
    """
    Args:
        documents: Token ids `(length,)` of each; n-grams do not cross their bounds.
        vocabulary: How many tokens there are; ids are less.
        order: Tokens of the longest n-grams.
    """

    def __init__(self, documents: Sequence[np.ndarray], vocabulary: int, order: int = ORDER) -> None:
        self.vocabulary, self.order = vocabulary, order
        text = np.concatenate([self._padded(document) for document in documents])
        ids: list[np.ndarray] = []  # by length: of the n-gram that ends at each place of the text
        codes: list[np.ndarray] = []
        firsts: list[np.ndarray] = []
        for _ in range(order):
            found = np.unique(self._codes(text, ids[-1] if ids else None), return_index=True, return_inverse=True)
            for values, each in zip((codes, firsts, ids), found, strict=True):
                values.append(each)
        self.grams = []
        for number in range(order):
            if number == order - 1:
                counts = np.bincount(ids[number])
            else:  # how many tokens stand before it
                is_one = codes[number + 1] % (vocabulary + 1) < vocabulary
                counts = np.bincount(ids[number][firsts[number + 1][is_one]], minlength=len(codes[number]))
            counts[codes[number] % (vocabulary + 1) == vocabulary] = 0  # padding is no token
            self.grams.append(self._smoothed(codes[number], counts, len(codes[number - 1]) if number else 1))

    def _padded(self, document: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full(self.order - 1, self.vocabulary), document]).astype(np.int64)

    def _codes(self, text: np.ndarray, shorter: np.ndarray | None) -> np.ndarray:
        """Of the n-grams that end at each place, given the ids of those that are one shorter, -1 where they are unknown."""
        contexts = np.zeros(len(text), dtype=np.int64)
        if shorter is not None:
            contexts[1:] = shorter[:-1]
        return np.where(contexts < 0, -1, contexts * (self.vocabulary + 1) + text)

    def _smoothed(self, codes: np.ndarray, counts: np.ndarray, contexts: int) -> Grams:
        discount = np.array([0.0, *discounts(counts)])[np.minimum(counts, 3)]
        context = codes // (self.vocabulary + 1)
        return Grams(
            codes,
            counts - discount,
            totals=np.bincount(context, weights=counts, minlength=contexts),
            kept=np.bincount(context, weights=discount, minlength=contexts),
        )

    def probabilities(self, document: np.ndarray) -> np.ndarray:
        """Of each token of a document, given those before it `(length,)`."""
        text = self._padded(document)
        found = np.full(len(text), 1 / self.vocabulary)
        ids = np.zeros(len(text), dtype=np.int64)
        for number, grams in enumerate(self.grams):
            wanted = self._codes(text, ids if number else None)
            contexts = np.maximum(wanted // (self.vocabulary + 1), 0)
            places = np.minimum(np.searchsorted(grams.codes, wanted), len(grams.codes) - 1)
            ids = np.where(grams.codes[places] == wanted, places, -1)
            totals = np.where(wanted < 0, 0, grams.totals[contexts])
            counted = np.where(ids < 0, 0, grams.discounted[places])
            smoothed = (counted + grams.kept[contexts] * found) / np.maximum(totals, 1)
            found = np.where(totals > 0, smoothed, found)
        return found[self.order - 1 :]


def discounts(counts: np.ndarray) -> tuple[float, ...]:
    """Of n-grams with a count of one, two, and three or more (Chen and Goodman 1999, equation 17)."""
    times = np.bincount(np.minimum(counts, 5), minlength=6)
    if not times[1:5].all():
        return FALLBACK
    share = times[1] / (times[1] + 2 * times[2])
    found = [number - (number + 1) * share * times[number + 1] / times[number] for number in (1, 2, 3)]
    return tuple(each if 0 <= each <= number else FALLBACK[number - 1] for number, each in enumerate(found, start=1))
