"""Splits that are cut from the rows to train on: which row falls to which is a function of what the rows hold and of the seed,
not of their order."""

import hashlib
import json
from collections.abc import Sequence

import datasets
import numpy as np

from .encoded import compute_once


def assignment(
    rows: datasets.Dataset,
    shares: Sequence[float],
    columns: Sequence[str],
    stratify: str | None = None,
    group: str | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Which split each row falls to, `(rows,)` int8: 0 is the rest, n the n-th of those with `shares`.

    Rows that are equal in `columns` fall to the same one.

    Args:
        shares: Of the rows, in sum less than 1.
        stratify: A column of which all splits have like shares of each value; not if most rows have a value of their own.
        group: A column whose values are not divided between splits. A group counts as what most of its rows are.
    """
    identity = ["splits", *shares, *columns, stratify, group, seed]
    return compute_once(rows, identity, lambda: _assigned(rows, shares, columns, stratify, group, seed))


def row_keys(rows: datasets.Dataset, columns: Sequence[str], seed: int = 0) -> np.ndarray:
    """A number for each row `(rows,)` uint64, the same where rows are equal in `columns`, else another."""
    raw = rows.select_columns(list(columns)).with_format("arrow")
    keys = [
        hashlib.blake2b(json.dumps(row, default=repr).encode(), digest_size=8, key=str(seed).encode()).digest()
        for table in raw.iter(batch_size=1000)
        for row in zip(*(column.to_pylist() for column in table.select(list(columns)).columns), strict=True)
    ]
    return np.frombuffer(b"".join(keys), dtype=np.uint64)


def _assigned(
    rows: datasets.Dataset,
    shares: Sequence[float],
    columns: Sequence[str],
    stratify: str | None,
    group: str | None,
    seed: int,
) -> np.ndarray:
    # whatever is not divided is a unit; its number is as good as random
    keys, unit_of = np.unique(row_keys(rows, [group] if group else columns, seed), return_inverse=True)
    sizes = np.bincount(unit_of, minlength=len(keys))
    strata = np.zeros(len(keys), dtype=int) if stratify is None else _strata(row_keys(rows, [stratify]), unit_of)
    quotas, given = np.array([1 - sum(shares), *shares]), np.zeros(1 + len(shares))
    chosen, before = np.zeros(len(keys), dtype=np.int8), None
    for unit in np.lexsort((keys, strata)):
        # what comes first of a stratum is trained on, or nothing might be known of it
        if strata[unit] == before:
            chosen[unit] = np.argmax(quotas * (given.sum() + sizes[unit]) - given)
        given[chosen[unit]] += sizes[unit]
        before = strata[unit]
    return chosen[unit_of]


def _strata(values: np.ndarray, unit_of: np.ndarray) -> np.ndarray:
    """The value that most rows of each unit have `(units,)`."""
    names, codes = np.unique(values, return_inverse=True)
    units = unit_of.max() + 1
    if 2 * len(names) > units:
        return np.zeros(units, dtype=int)
    pairs, counts = np.unique(unit_of * len(names) + codes, return_counts=True)
    best = np.lexsort((pairs, -counts, pairs // len(names)))
    firsts = best[np.unique(pairs[best] // len(names), return_index=True)[1]]
    return pairs[firsts] % len(names)
