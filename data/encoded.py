"""Encoded examples: token ids as Arrow on the disk, made once and mapped into memory by every process."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import singledispatch
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from datasets.fingerprint import Hasher

from ..configuration.version import __version__
from .progress import SOON, LogLines, shows_bars

PROBLEM, NOTES = "problem", "notes"  # columns: why a row is invalid, and what else there is to say of it


class Examples(Protocol):
    """What batches are made of: a `datasets.Dataset`, or packed rows, which also answer `list_lengths` and `count_in_lists`."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any) -> dict[str, list]: ...


def encode_once(
    rows: datasets.Dataset,
    encode_batch: Callable[[dict[str, list], list[int]], dict[str, list]],
    features: dict[str, Any],
    identity: list[Any],
    where: str,
    workers: int = 0,
) -> datasets.Dataset:
    """`rows.map` of a function of rows and their indices; or what an earlier call with the same rows and `identity` wrote.

    It lies in the cache folder of `datasets` under a fingerprint of all that it depends on.

    Args:
        encode_batch: Makes a batch with the columns of `features`, `example` (the index of the row), `PROBLEM` and `NOTES`
            (a dict of counts).
        identity: What the function depends on, beside the rows.
        where: What the rows are called, for the progress bar.
        workers: Processes that encode, beside this one.
    """

    processes = workers if workers > 1 and len(rows) > 1000 * workers else 1
    lines = LogLines(f"encoding {where}", len(rows), SOON)

    def as_stored(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        if not shows_bars() and indices[0] * processes < len(rows):  # where there are several, the first speaks for all
            lines.show(indices[0] * processes)
        return _as_stored(encode_batch(batch, indices))

    fingerprint = Hasher.hash([rows._fingerprint, repr(features), identity, __version__])
    folder = cache_folder()
    return rows.map(
        as_stored,
        batched=True,
        with_indices=True,
        remove_columns=rows.column_names,
        features=_stored_features(features),
        cache_file_name=str(folder / f"{fingerprint}.arrow"),
        new_fingerprint=fingerprint,
        load_from_cache_file=True,
        num_proc=processes if processes > 1 else None,
        writer_batch_size=10_000,
        desc=f"encoding {where}",
    )


def cache_folder() -> Path:
    """Where token ids lie, in the cache of `datasets`."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "trefoil"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compute_once(encoded: datasets.Dataset, identity: list[Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """What `compute` makes of examples that lie on the disk; or what an earlier call with the same examples and `identity`
    wrote beside them, mapped into memory.

    Args:
        identity: What it depends on, beside the examples.
    """
    if not encoded.cache_files:
        return compute()
    file = cache_folder() / f"{Hasher.hash([encoded._fingerprint, identity, __version__])}.npy"
    if not file.exists():
        new = file.with_name(f"{file.name}.{uuid.uuid4().hex}")  # another run may be at it too
        try:
            with new.open("wb") as opened:
                np.save(opened, compute())
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
    return np.load(file, mmap_mode="r")


def encode_now(batches: Iterable[dict[str, list]], features: dict[str, Any]) -> datasets.Dataset:
    """The same of batches that are encoded, in memory and nowhere else."""
    schema = _stored_features(features).arrow_schema
    table = pa.concat_tables([pa.table(_as_stored(columns), schema=schema) for columns in batches])
    return datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint="in memory")  # a hash would read it all


def _stored_features(features: dict[str, Any]) -> datasets.Features:
    text = datasets.Value("string")
    return datasets.Features({**features, "example": datasets.Value("int64"), PROBLEM: text, NOTES: text})


def _as_stored(columns: dict[str, list]) -> dict[str, list]:
    return columns | {NOTES: [None if notes is None else json.dumps(notes) for notes in columns[NOTES]]}


def first_problem(encoded: datasets.Dataset) -> tuple[int, tuple[int, str] | None]:
    """How many rows are invalid, and the index of the first, and why."""
    column = encoded.data.column(PROBLEM)
    count = len(column) - column.null_count
    if count == 0:
        return 0, None
    at = pc.index(pc.is_valid(column), True).as_py()
    return count, (encoded[at]["example"], column[at].as_py())


def sum_notes(encoded: datasets.Dataset) -> Counter[str]:
    """What there is to say of the rows, with how often."""
    total: Counter[str] = Counter()
    for pair in pc.value_counts(encoded.data.column(NOTES).drop_null()).to_pylist():
        for note, count in json.loads(pair["values"]).items():
            total[note] += count * pair["counts"]
    return total


def arrow_batches(examples: Any, column: str) -> Iterator[pa.Array]:
    """A column of encoded examples, piece by piece."""
    table = examples.select_columns([column]).with_format("arrow")
    for batch in table.iter(batch_size=100_000):
        yield from batch[column].chunks


def digest(examples: Any) -> str:
    """A checksum of the numbers that encoded examples hold, in their order; computed once where they lie on the disk."""
    encoded: datasets.Dataset = getattr(examples, "encoded", examples)  # what packed rows are made of
    return str(compute_once(encoded, ["digest"], lambda: np.array([_digest(encoded)]))[0])


def _digest(encoded: datasets.Dataset) -> str:
    checksums = []
    for name in sorted(encoded.column_names):
        # lengths of lists apart from what they hold, so that it does not matter in which pieces they are stored
        lengths, numbers = xxhash.xxh3_128(), xxhash.xxh3_128()
        for values in arrow_batches(encoded, name):
            while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                lengths.update(_bytes(values.value_lengths()))
                values = values.flatten()
            if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
                numbers.update(_bytes(values))
        checksums += [name, lengths.hexdigest(), numbers.hexdigest()]
    return xxhash.xxh3_128_hexdigest(" ".join(checksums).encode())


def _bytes(numbers: pa.Array) -> memoryview:
    return np.ascontiguousarray(numbers.fill_null(0).to_numpy(zero_copy_only=False)).data


@singledispatch
def list_lengths(examples: Any, column: str) -> np.ndarray:
    """The lengths of a column of lists, `(examples,)` int32, without reading the lists."""
    chunks = [pc.list_value_length(chunk).to_numpy(zero_copy_only=False) for chunk in arrow_batches(examples, column)]
    return np.concatenate(chunks).astype(np.int32)


@singledispatch
def count_in_lists(examples: Any, column: str, value: int) -> int:
    """How often a number stands in a column of lists."""
    return sum(
        pc.sum(pc.equal(pc.list_flatten(chunk), value), min_count=0).as_py()
        for chunk in arrow_batches(examples, column)
    )
