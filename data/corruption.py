"""Texts that an encoder-decoder learns to mend: what hides parts of them, pure functions of token ids and a generator.

A denoiser makes a source and a target of the tokens of a text; what stands around them, such as the end token, is not its
business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


class Denoiser(Protocol):
    def __call__(self, ids: np.ndarray, random: np.random.Generator) -> Pair:
        """Source and target of a text."""

    def needs(self, lengths: np.ndarray) -> np.ndarray:
        """`(3, texts)`: of texts with so many tokens, the most that the source has, that the target has, and the most
        sentinels."""


def hidden_count(lengths: Any, density: float) -> Any:
    """How many tokens of texts are hidden: at least one, and never all."""
    return np.clip(np.rint(lengths * density).astype(np.int64), 1, np.maximum(lengths - 1, 0))


def span_count(lengths: Any, hidden: Any, mean: float) -> Any:
    """In how many spans they are, between which something is left."""
    most = np.minimum(hidden, lengths - hidden + 1)
    return np.clip(np.rint(hidden / mean).astype(np.int64), np.minimum(hidden, 1), most)


def composition(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """Positive integers that add up to `total`, all ways equally likely: `(parts,)`."""
    cuts = np.sort(random.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def place(lengths: np.ndarray, total: int, random: np.random.Generator) -> np.ndarray:
    """Spans with these lengths, in this order, anywhere in so many tokens: starts and ends `(spans, 2)`. They do not touch,
    but the first may begin the text and the last may end it."""
    gaps = composition(total - int(lengths.sum()) + 2, len(lengths) + 1, random)
    ends = np.cumsum(gaps[:-1] + lengths) - 1
    return np.stack([ends - lengths, ends], axis=1)


def draw_spans(length: int, density: float, mean: float, random: np.random.Generator) -> np.ndarray:
    """Raffel et al. 2020, §3.1.4: so many tokens, in so many spans, at random: starts and ends `(spans, 2)`."""
    hidden = int(hidden_count(length, density))
    if hidden == 0:
        return np.empty((0, 2), dtype=np.int64)
    spans = int(span_count(length, hidden, mean))
    return place(composition(hidden, spans, random), length, random)


def draw_infilled(length: int, density: float, mean: float, random: np.random.Generator) -> np.ndarray:
    """Lewis et al. 2020, §2.2: spans of Poisson lengths, until so many tokens are hidden. Empty ones count too, where they
    do not make the source longer than the text."""
    hidden = int(hidden_count(length, density))
    lengths: list[int] = []
    left = hidden
    while left:
        lengths.append(min(left, int(random.poisson(mean))))
        left -= lengths[-1]
    most = min(hidden, length - hidden + 1)
    while len(lengths) > most:
        lengths.sort(reverse=True)
        lengths[-2:] = [lengths[-2] + lengths[-1]]
    return place(random.permutation(np.array(lengths, dtype=np.int64)), length, random)


def with_sentinels(ids: np.ndarray, spans: np.ndarray, sentinels: np.ndarray) -> Pair:
    """Raffel et al. 2020, figure 2: sentinels stand for the spans, which are the target, each behind its sentinel, with
    one more sentinel as the end."""
    source, target, at = [], [], 0
    for (start, end), sentinel in zip(spans, sentinels[:, None], strict=False):
        source += [ids[at:start], sentinel]
        target += [sentinel, ids[start:end]]
        at = end
    return np.concatenate([*source, ids[at:]]), np.concatenate([*target, sentinels[len(spans) :][:1]])


def with_masks(ids: np.ndarray, spans: np.ndarray, mask: int) -> np.ndarray:
    """Lewis et al. 2020, §2.2: a mask for each span, which does not tell how long it is."""
    kept = np.split(ids, spans.reshape(-1))[::2]
    return np.concatenate([np.append(piece, mask) for piece in kept[:-1]] + kept[-1:])


def permuted(ids: np.ndarray, ends: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Lewis et al. 2020, §2.2: sentences in another order.

    Args:
        ends: Whether a sentence ends between a token and the next: `(tokens - 1,)`.
    """
    sentences = np.split(ids, np.flatnonzero(ends) + 1)
    return np.concatenate([sentences[number] for number in random.permutation(len(sentences))])


@dataclass(frozen=True)
class Spans:
    """Span corruption: Raffel et al. 2020, §3.1.4."""

    density: float
    mean_length: float
    sentinels: np.ndarray

    def __call__(self, ids: np.ndarray, random: np.random.Generator) -> Pair:
        spans = draw_spans(len(ids), self.density, self.mean_length, random)
        return with_sentinels(ids, spans, self.sentinels)

    def needs(self, lengths: np.ndarray) -> np.ndarray:
        hidden = hidden_count(lengths, self.density)
        spans = span_count(lengths, hidden, self.mean_length)
        return np.stack([lengths - hidden + spans, hidden + spans + 1, spans + 1])


@dataclass(frozen=True)
class Infilling:
    """Text infilling and, with `closing`, sentence permutation: Lewis et al. 2020, §2.2. The target is the whole text.

    Args:
        closing, opening: Of each token of the vocabulary, whether a sentence may end with it, and begin with it.
    """

    density: float
    mean_length: float
    mask: int
    closing: np.ndarray | None = None
    opening: np.ndarray | None = None

    def __call__(self, ids: np.ndarray, random: np.random.Generator) -> Pair:
        source = ids
        if self.closing is not None and self.opening is not None:
            source = permuted(ids, self.closing[ids[:-1]] & self.opening[ids[1:]], random)
        return with_masks(source, draw_infilled(len(ids), self.density, self.mean_length, random), self.mask), ids

    def needs(self, lengths: np.ndarray) -> np.ndarray:
        return np.stack([lengths, lengths, np.zeros_like(lengths)])


@dataclass(frozen=True)
class Prefix:
    """Prefix language modelling: Raffel et al. 2020, §3.3.1. The target is what follows.

    Args:
        density: The share that follows. Default: any.
    """

    density: float | None = None

    def __call__(self, ids: np.ndarray, random: np.random.Generator) -> Pair:
        if self.density is None:
            split = int(random.integers(1, max(2, len(ids))))
        else:
            split = len(ids) - int(hidden_count(len(ids), self.density))
        return ids[:split], ids[split:]

    def needs(self, lengths: np.ndarray) -> np.ndarray:
        rest = np.maximum(lengths - 1, 0) if self.density is None else hidden_count(lengths, self.density)
        source = np.maximum(rest, np.minimum(lengths, 1)) if self.density is None else lengths - rest
        return np.stack([source, rest, np.zeros_like(lengths)])


@dataclass(frozen=True)
class Mixture:
    """For each text one of several denoisers, all equally likely; a token before the source says of which mode it is: Tay
    et al. 2022, §3.1.2."""

    denoisers: Sequence[tuple[int, Denoiser]]

    def __call__(self, ids: np.ndarray, random: np.random.Generator) -> Pair:
        mode, denoiser = self.denoisers[int(random.integers(len(self.denoisers)))]
        source, target = denoiser(ids, random)
        return np.concatenate([[mode], source]), target

    def needs(self, lengths: np.ndarray) -> np.ndarray:
        needs = np.max([denoiser.needs(lengths) for _, denoiser in self.denoisers], axis=0)
        return needs + np.array([[1], [0], [0]])


def mixture_of_denoisers(modes: Sequence[int], sentinels: np.ndarray) -> Mixture:
    """Tay et al. 2022, table 1.

    Args:
        modes: The tokens of R, regular denoising, S, sequential, and X, extreme.
    """
    r, s, x = modes
    settings = [(r, 0.15, 3.0), (r, 0.15, 8.0), (x, 0.5, 3.0), (x, 0.5, 8.0), (x, 0.15, 64.0), (x, 0.5, 64.0)]
    spans = [(mode, Spans(density, mean, sentinels)) for mode, density, mean in settings]
    return Mixture([(s, Prefix(0.25)), *spans])


def most_tokens(denoiser: Denoiser, source: int, target: int, sentinels: int) -> int:
    """The tokens of the longest text of which, as of all shorter ones, source, target and sentinels are at most so many;
    0 if of none."""
    limits = np.array([[source], [target], [sentinels]])
    fits = (denoiser.needs(np.arange(1, source + target + 1)) <= limits).all(axis=0)
    return int(np.minimum.accumulate(fits).sum())
