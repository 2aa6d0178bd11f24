"""Minimal pairs of sentences, of which a language model should find the grammatical one likelier: BLiMP (Warstadt et al. 2020)."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..configuration.errors import UserError
from ..data.loading import load_split
from ..recipes.schema import DataRecipe, nearest
from .reader import shortened
from .sentence_scorer import SentenceScorer

SENTENCES = ("good", "bad")
GROUPS = ("phenomenon", "paradigm")  # read where the file has them


def load_pairs(file: Path, names: dict[str, str]) -> datasets.Dataset:
    """The pairs of a file of any format, in columns of texts that are named as in `SENTENCES` and, where it has them, `GROUPS`.

    Args:
        names: The file's names of columns, where they are others.

    Raises:
        UserError: No such file, no pairs, a column that is missing or holds something else than texts; names the pair.
    """
    roles = (*SENTENCES, *GROUPS)
    for role in names.keys() - set(roles):
        raise UserError(f"data.columns.{role}: minimal pairs have no such column{nearest(role, roles)}")
    if not file.is_file():
        raise UserError(f"{file}: no such file; give one with a pair of sentences a line, good and bad")
    needed = {role: names.get(role, role) for role in roles if role in SENTENCES or role in names}
    pairs = load_split(DataRecipe(path=str(file)), "test", list(needed.values()), "minimal pairs", seed=0)
    columns = needed | {role: role for role in GROUPS if role not in names and role in pairs.column_names}
    pairs = datasets.Dataset.from_dict({role: pairs[name][:] for role, name in columns.items()})
    for role, name in columns.items():
        for number, text in enumerate(pairs[role]):
            if not isinstance(text, str) or not text.strip():
                what = "is empty" if isinstance(text, str) else f"holds {shortened(repr(text))}, not a text"
                raise UserError(f"{file} example {number + 1}: column {name!r} {what}")
    return pairs


def score_pairs(scorer: SentenceScorer, pairs: datasets.Dataset, where: str) -> np.ndarray:
    """Log-likelihoods in nats `(pairs, 2)`, of the good sentence and of the bad one.

    Raises:
        UserError: A sentence is too long for the model; names the pair.
    """
    sentences = [scorer.encode(pairs[role][:]) for role in SENTENCES]
    for role, encoded in zip(SENTENCES, sentences, strict=True):
        for number, sentence in enumerate(encoded):
            if problem := scorer.problem(sentence):
                raise UserError(f"{where} example {number + 1}: {role} {problem}")
    scores, _ = scorer.score([*sentences[0], *sentences[1]])
    return scores.reshape(2, -1).T


def accuracies(scores: np.ndarray, pairs: datasets.Dataset) -> dict[str, Any]:
    """In percent, how many good sentences are the likelier ones; one that is as likely as the bad one counts half.

    `accuracy` is the mean over paradigms, as in BLiMP, or over pairs where these name none; `phenomena` likewise, of each.
    """
    credit = 100.0 * (1 + np.sign(scores[:, 0] - scores[:, 1])) / 2
    groups = [pairs[role][:] if role in pairs.column_names else [""] * len(pairs) for role in GROUPS]
    by_paradigm: dict[tuple[str, str], list[float]] = defaultdict(list)
    for *group, value in zip(*groups, credit, strict=True):
        by_paradigm[tuple(group)].append(value)  # type: ignore[index]
    found: dict[str, Any] = {"accuracy": _mean(map(_mean, by_paradigm.values())), "pairs": len(pairs)}
    if "phenomenon" not in pairs.column_names:
        return found
    by_phenomenon: dict[str, list[float]] = defaultdict(list)
    for (phenomenon, _), values in by_paradigm.items():
        by_phenomenon[phenomenon].append(_mean(values))
    if "paradigm" not in pairs.column_names:
        found["accuracy"] = _mean(credit)
    return found | {"phenomena": {name: _mean(values) for name, values in sorted(by_phenomenon.items())}}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
