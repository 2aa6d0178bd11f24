"""Quality of answers that are spans of a text: exact match and F1 as SQuAD and KorQuAD define them."""

import re
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

import datasets

from .metric import TEXT, metric

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_KORQUAD_MARKS = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@metric(TEXT, datasets.List(TEXT))
def AnswerQuality(predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
    """Exact match and token F1 as in SQuAD (Rajpurkar et al. 2016, 2018), and the F1 of characters as in KorQuAD 1.0
    (Lim et al. 2019), which is fairer to Korean, where particles are part of the word; all in percent.

    `compute(predictions=[str], references=[[str]])` gives `exact_match`, `f1`, `character_f1` and the signature of each
    (`f1_signature`). The best of several references counts. No reference means that the question has no answer, and
    the empty prediction is the right one. Where there are questions of both kinds, `has_answer_exact_match` and
    `no_answer_exact_match` tell them apart.

    Texts are compared in lower case without ASCII punctuation and with single spaces; the SQuAD scores drop English
    articles, the KorQuAD score first turns quotation marks and brackets into spaces. As in SQuAD 2.0, a reference that
    is then empty does not count, and two empty texts are alike.
    """
    rows = list(zip(predictions, references, strict=True))
    matches = [_best(_exact_match, normalize_squad, *row) for row in rows]
    results = {
        "exact_match": _percent(matches),
        "f1": _percent([_best(_token_f1, normalize_squad, *row) for row in rows]),
        "character_f1": _percent([_best(_character_f1, normalize_korquad, *row) for row in rows]),
    }
    answerable = [bool(_golds(normalize_squad, golds)) for golds in references]
    if any(answerable) and not all(answerable):
        for name, kind in (("has_answer", True), ("no_answer", False)):
            of_kind = [match for match, has_answer in zip(matches, answerable, strict=True) if has_answer == kind]
            results[f"{name}_exact_match"] = _percent(of_kind)
    signatures = {f"{name}_signature": "normalization:squad|golds:max" for name in results}
    return results | signatures | {"character_f1_signature": "normalization:korquad-1.0|golds:max"}


def normalize_squad(text: str) -> str:
    """A text as SQuAD's official script compares it: lower case, no ASCII punctuation, no English articles, single
    spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def normalize_korquad(text: str) -> str:
    """A text as KorQuAD 1.0's official script compares it: quotation marks and brackets are spaces, then lower case, no
    ASCII punctuation, single spaces."""
    return " ".join(text.translate(_KORQUAD_MARKS).lower().translate(_PUNCTUATION).split())


def _golds(normalize: Callable[[str], str], golds: list[str]) -> list[str]:
    return [gold for gold in map(normalize, golds) if gold]


def _best(
    score: Callable[[str, str], float], normalize: Callable[[str], str], prediction: str, golds: list[str]
) -> float:
    prediction = normalize(prediction)
    return max(score(prediction, gold) for gold in _golds(normalize, golds) or [""])


def _exact_match(prediction: str, gold: str) -> float:
    return float(prediction == gold)


def _token_f1(prediction: str, gold: str) -> float:
    return _overlap(prediction.split(), gold.split())


def _character_f1(prediction: str, gold: str) -> float:
    return _overlap(list("".join(prediction.split())), list("".join(gold.split())))


def _overlap(prediction: list[str], gold: list[str]) -> float:
    """F1 of two bags of tokens or characters."""
    if not prediction or not gold:
        return float(prediction == gold)
    # Twice the common over the sum is the harmonic mean of precision and recall.
    return 2 * (Counter(prediction) & Counter(gold)).total() / (len(prediction) + len(gold))


def _percent(scores: list[float]) -> float:
    return 100.0 * sum(scores) / len(scores)
