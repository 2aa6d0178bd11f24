"""Two models on the same examples: scores as sums over examples, so that a draw of examples has one too, and how sure a
difference of two is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU
from scipy import stats
from seqeval.scheme import IOB2, Entities

from .question_answering import AnswerQuality
from .summarization import SummaryQuality
from .translation import bleu_tokenizer

DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Measure:
    """A score of a task.

    Attributes:
        name: As `results.json` has it.
        parts: Of references and predictions, what is summed `(examples, parts)`; None: what predicts says it itself.
        score: Of the sum `(parts,)`.
        is_minimized: Less is better.
        is_share: Of examples, each of which is right or wrong.
    """

    name: str
    parts: Callable[[Sequence[Any], Sequence[Any]], np.ndarray] | None
    score: Callable[[np.ndarray], float]
    is_minimized: bool = False
    is_share: bool = False

    def of(self, parts: np.ndarray) -> float:
        return float(self.score(parts.sum(axis=0)))


def right_labels(references: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
    return np.array([[reference == found, 1] for reference, found in zip(references, predictions, strict=True)], float)


def right_texts(references: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
    return right_labels([text.strip() for text in references], [text.strip() for text in predictions])


def common_labels(references: Sequence[list[str]], predictions: Sequence[list[str]]) -> np.ndarray:
    """Twice the labels that both have, and the labels of both."""
    rows = [(set(one), set(other)) for one, other in zip(references, predictions, strict=True)]
    return np.array([[2 * len(one & other), len(one) + len(other)] for one, other in rows], float)


def squared_errors(references: Sequence[float], predictions: Sequence[float]) -> np.ndarray:
    errors = (np.array(references, float) - np.array(predictions, float)) ** 2
    return np.stack([errors, np.ones(len(errors))], axis=1)


def entities(references: Sequence[list[str]], predictions: Sequence[list[str]]) -> np.ndarray:
    """Twice the entities that both have, and the entities of both."""
    true, found = (Entities(each, IOB2).entities for each in (references, predictions))
    rows = [({e.to_tuple()[1:] for e in one}, {e.to_tuple()[1:] for e in other}) for one, other in zip(true, found, strict=True)]  # fmt: skip
    return np.array([[2 * len(one & other), len(one) + len(other)] for one, other in rows], float)


def matched_words(references: Sequence[str], predictions: Sequence[str], tokenize: str = "13a") -> np.ndarray:
    bleu = BLEU(tokenize=tokenize)
    scored = [bleu.corpus_score([found], [[reference]]) for reference, found in zip(references, predictions, strict=True)]  # fmt: skip
    return np.array([[*each.counts, *each.totals, each.sys_len, each.ref_len] for each in scored], float)


def bleu_of(sums: np.ndarray) -> float:
    counts = [int(each) for each in sums]
    return BLEU.compute_bleu(counts[:4], counts[4:8], counts[8], counts[9], smooth_method="exp").score


def share(sums: np.ndarray) -> float:
    return 100 * sums[0] / sums[1] if sums[1] else 0.0


def mean_of(name: str, scores: Callable[..., dict[str, Any]]) -> Measure:
    """A score that is the mean over examples.

    Args:
        scores: Of predictions and references, in percent.
    """

    def parts(references: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
        pairs = zip(references, predictions, strict=True)
        return np.array([[scores([found], [reference])[name], 100] for reference, found in pairs], float)

    return Measure(name, parts, share)


ACCURACY = Measure("accuracy", right_labels, share, is_share=True)
MICRO_F1 = Measure("micro_f1", common_labels, share)
SQUARED_ERROR = Measure("mean_squared_error", squared_errors, lambda sums: sums[0] / sums[1], is_minimized=True)
ENTITY_F1 = Measure("f1", entities, share)
ANSWER_F1 = mean_of("f1", AnswerQuality.scores)
ROUGE_L = mean_of("rougeL", SummaryQuality.scores)
EXACT_MATCH = Measure("exact_match", right_texts, share, is_share=True)


def bleu(language: str | None = None) -> Measure:
    """Of texts in a language, by its ISO 639 code."""
    return Measure("bleu", partial(matched_words, tokenize=bleu_tokenizer(language)), bleu_of)


def label_measure(references: Sequence[Any]) -> Measure:
    """Of labels, lists of them, or numbers."""
    if any(isinstance(one, list) for one in references):
        return MICRO_F1
    return SQUARED_ERROR if any(isinstance(one, float) for one in references) else ACCURACY


Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Ours less theirs, of the mean over seeds.

    Attributes:
        over_examples: Where it lies with `CONFIDENCE` if other test examples had been drawn: by paired bootstrap (Koehn 2004).
        over_seeds: Where it lies if other seeds had been: by Student's t; None with one seed.
    """

    ours: float
    theirs: float
    over_examples: Interval | None
    over_seeds: Interval | None

    @property
    def value(self) -> float:
        return self.ours - self.theirs


def difference(measure: Measure, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Difference:
    """
    Args:
        ours, theirs: The parts of each seed, of the same examples in the same order `(examples, parts)`; theirs are of one
            seed where they are the same for all.

    Raises:
        ValueError: There are other seeds of theirs than of ours.
    """
    pairs = list(zip(ours, theirs if len(theirs) > 1 else [theirs[0]] * len(ours), strict=True))

    def mean_difference(drawn: np.ndarray) -> float:
        return float(np.mean([measure.of(one[drawn]) - measure.of(other[drawn]) for one, other in pairs]))

    examples = np.arange(len(pairs[0][0]))
    over_examples: Interval | None = None
    over_seeds: Interval | None = None
    if len(examples) > 1:
        drawn = stats.bootstrap(
            (examples,), mean_difference, n_resamples=DRAWS, batch=1, vectorized=False, method="percentile",
            confidence_level=CONFIDENCE, rng=np.random.default_rng(0),
        )  # fmt: skip
        over_examples = (float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))
    by_seed = [measure.of(one) - measure.of(other) for one, other in pairs]
    if len(by_seed) > 1:
        reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(by_seed) - 1) * stats.sem(by_seed)
        over_seeds = (float(np.mean(by_seed) - reach), float(np.mean(by_seed) + reach))
    mean_ours, mean_theirs = (float(np.mean([measure.of(pair[side]) for pair in pairs])) for side in (0, 1))
    return Difference(mean_ours, mean_theirs, over_examples, over_seeds)


def is_sure(found: Difference) -> bool:
    """Whether neither interval that there is holds zero."""
    known = [each for each in (found.over_examples, found.over_seeds) if each is not None]
    return bool(known) and (all(low > 0 for low, _ in known) or all(high < 0 for _, high in known))


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """McNemar's exact test (1947): the probability that examples of which one model alone is right would divide at least as
    unevenly if both were as good.

    Args:
        ours, theirs: Parts of a measure that is a share `(examples, 2)`.
    """
    only_ours, only_theirs = int((ours[:, 0] > theirs[:, 0]).sum()), int((ours[:, 0] < theirs[:, 0]).sum())
    if only_ours + only_theirs == 0:
        return 1.0
    return float(stats.binomtest(only_ours, only_ours + only_theirs).pvalue)
