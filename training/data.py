"""Examples: from the Hub, from local files or generated, checked before any work is done."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc

from ..configuration.errors import UserError
from .embedded import load_embedded
from .recipe import DataRecipe

BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}


def load_split(recipe: DataRecipe, split: str, columns: list[str], task: str, seed: int) -> datasets.Dataset:
    """One split, with at least `columns`.

    Raises:
        UserError: No such split, an empty split, a file that is not UTF-8 or not well-formed, a missing column; the
            message names file, line and column.
    """
    if recipe.path is not None:
        dataset, where = _load_files(Path(recipe.path), split, columns)
    elif recipe.embedded:
        try:
            splits = load_embedded(task, seed=seed, sizes=recipe.embedded_sizes)  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"data.embedded_sizes={recipe.embedded_sizes}: {error}") from None
        if split not in splits:
            raise UserError(f"the embedded data has no split {split!r}; there are {', '.join(splits)}")
        dataset, where = splits[split], f"embedded data, split {split!r}"
    else:
        dataset, where = _load_from_hub(recipe, split)
    missing = [name for name in columns if name not in dataset.column_names]
    if missing:
        raise UserError(f"{where}: no column {missing[0]!r}; there are {', '.join(dataset.column_names)}")
    if len(dataset) == 0:
        raise _empty(where, split)
    return dataset


def _empty(where: str | Path, split: str) -> UserError:
    return UserError(f"{where}: the split {split!r} is empty; it needs at least one example")


def _load_from_hub(recipe: DataRecipe, split: str) -> tuple[datasets.Dataset, str]:
    where = f"data set {recipe.name!r}"
    try:
        return datasets.load_dataset(recipe.name, recipe.config, split=split, revision=recipe.revision), where
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{where}, split {split!r}: {reason}; give local files with data.path=FOLDER") from None


def split_file(path: Path, split: str) -> Path:
    """The file of a split: `path` itself if it is a file, else `split.*` in the folder.

    Raises:
        UserError: No such file, or more than one.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; data.path is a folder with files such as {split}.jsonl")
    found = [
        file
        for file in sorted(path.iterdir())
        if file.name.split(".")[0] == split and Path(file.name.removesuffix(".gz")).suffix in BUILDERS
    ]
    if len(found) != 1:
        names = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
        problem = "more than one file" if found else "no file"
        raise UserError(
            f"{path}: {problem} for the split {split!r} ({split}.jsonl, .csv, .parquet …); it holds {names}"
        )
    return found[0]


def _load_files(path: Path, split: str, columns: list[str]) -> tuple[datasets.Dataset, str]:
    file = split_file(path, split)
    suffix = Path(file.name.removesuffix(".gz")).suffix
    if suffix not in BUILDERS:
        raise UserError(f"{file}: unknown kind {suffix!r}; there are {', '.join(BUILDERS)}, each also with .gz")
    options: dict[str, Any] = {}
    if suffix == ".jsonl":
        rows = _check_json_lines(file, columns)
    elif suffix in (".csv", ".tsv"):
        delimiter = "\t" if suffix == ".tsv" else ","
        header, rows = _check_rows(file, columns, delimiter)
        # every value is text, as it stands: else 007 would be read as 7, and NA and None as nothing
        options = {"delimiter": delimiter, "converters": dict.fromkeys(header, str), "keep_default_na": False}
    elif suffix == ".parquet":
        rows = file.stat().st_size
    else:
        rows = sum(1 for _ in numbered_lines(file))
    if rows == 0:
        raise _empty(file, split)
    try:
        return datasets.load_dataset(BUILDERS[suffix], data_files=str(file), split="train", **options), str(file)
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):
            raise _empty(file, split) from None
        raise UserError(f"{file}: {str(cause).splitlines()[0]}") from None


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 file, gzipped or not, counted from 1, without a byte order mark.

    Raises:
        UserError: Bytes that are not UTF-8; names the line. A damaged gzip file.
    """
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{file} line {number}: not UTF-8 (byte {error.start + 1} of the line); "
                        "convert the file to UTF-8"
                    ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{file}: a damaged gzip file ({error}); compress it again") from None


def _check_json_lines(file: Path, columns: list[str]) -> int:
    """Check every row; returns how many there are."""
    number = 0
    for number, line in numbered_lines(file):
        if not line.strip():
            raise UserError(f"{file} line {number}: empty; every line must be a JSON object, so delete it")
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{file} line {number}: not JSON ({error.msg} at character {error.colno})") from None
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number}: a JSON {type(row).__name__}; every line must be a JSON object")
        for name in columns:
            if name not in row:
                raise UserError(f"{file} line {number}: no column {name!r}; there are {', '.join(row)}")
    return number


def _check_rows(file: Path, columns: list[str], delimiter: str) -> tuple[list[str], int]:
    """Check every row; returns the header and how many rows there are."""
    lines = (line for _, line in numbered_lines(file))
    rows = csv.reader(lines, delimiter=delimiter)
    count = 0
    try:
        header = next(rows, columns)
        for name in columns:
            if name not in header:
                raise UserError(f"{file} line 1: no column {name!r}; there are {', '.join(header)}")
        for row in rows:
            count += 1
            if not row:
                raise UserError(f"{file} line {rows.line_num}: empty; delete it")
            if len(row) != len(header):
                raise UserError(f"{file} line {rows.line_num}: {len(row)} values for {len(header)} columns")
    except csv.Error as error:
        raise UserError(f"{file} line {rows.line_num}: {error}") from None
    return header, count


def list_lengths(dataset: datasets.Dataset, column: str) -> np.ndarray:
    """The lengths of a column of lists, `(examples,)` int32, without reading the lists."""
    table = dataset.with_format("arrow")
    chunks = [pc.list_value_length(batch[column]) for batch in table.iter(batch_size=100_000)]
    return np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in chunks]).astype(np.int32)
