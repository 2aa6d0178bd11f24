"""Streams: rows of files and of the Hub that are read when they are needed, never all of them, and never kept.

Each source is an `IterableDataset` of `datasets`, whose shards are what processes divide among them: files, row groups of
Parquet, and ranges of files with a row in each line.
"""

import glob
import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from ..configuration.errors import UserError, reason
from ..recipes.schema import DataRecipe, SourceRecipe, source_names
from .formats import FORM, ROWS, ReadRows, aligned, suffix_of
from .formats.delimited import delimiter_of, open_table, require_width
from .formats.json_rows import parsed_row
from .formats.reading import CONNECTION_ERRORS, READING_ERRORS, encoding_of, opened, whole_lines

RANGE = 64 * 2**20  # bytes
# columns beside those of the rows: where each stands, for messages, and the number of its source
PLACE, SOURCE = "place of the row", "source of the row"
LINES, TABLES = (".jsonl", ".txt"), (".csv", ".tsv")  # which say where a row begins, and may hold rows that are none


@dataclass
class Source:
    """One of what a stream is mixed of.

    Args:
        name: What it is called in messages and in the log.
        rows: With the columns that the task reads, under the names of the recipe's `data.columns`, and perhaps PLACE.
        weight: Its share of the rows, of the sum of all weights.
        files: The name of each file that the rows are in -> its size; empty where they come over a network.
    """

    name: str
    rows: datasets.IterableDataset
    weight: float = 1.0
    files: dict[str, int] = field(default_factory=dict)


def open_sources(recipe: DataRecipe, columns: dict[str, str]) -> list[Source]:
    """The sources of a stream. A row of each is read, and no more.

    Args:
        columns: The role of each column that the task reads -> its name.

    Raises:
        UserError: No such place, no rows, a missing column, or rows that cannot be read as a stream.
    """
    name = recipe.name if recipe.path is None else None
    given = recipe.sources or [SourceRecipe(name, recipe.config, recipe.revision, recipe.path, recipe.train_split)]
    sources: list[Source] = []
    for number, (source, called) in enumerate(zip(given, source_names(given), strict=True)):
        where = f"data.sources[{number}]" if recipe.sources else "data"
        names = columns_of(source, columns, where)
        opened = _open_files(source, names, recipe, where) if source.path is not None else _open_hub(source, names)
        opened.name = called
        if source.path is not None:
            opened.files = _sizes(_files(str(source.path), source.split, where))
        sources.append(opened)
    return sources


def columns_of(source: SourceRecipe, columns: dict[str, str], where: str) -> dict[str, str]:
    """The wanted name of each column that the task reads -> its name in a source.

    Raises:
        UserError: The source names a column that the task does not read.
    """
    for role in source.columns.keys() - columns.keys():
        raise UserError(f"{where}.columns.{role}: the task reads no such column; it reads {', '.join(columns)}")
    return {name: source.columns.get(role, name) for role, name in columns.items()}


def _open_files(source: SourceRecipe, names: dict[str, str], recipe: DataRecipe, where: str) -> Source:
    path, given, skip = Path(str(source.path)), tuple(names.items()), recipe.invalid_examples == "skip"
    files = _files(str(path), source.split, where)
    kinds = {suffix_of(file) for file in files}
    kind = kinds.pop() if len(kinds) == 1 else None
    paths = list(map(str, files))
    if kind not in TABLES and (form := [key for key in FORM if getattr(recipe, key) is not None]):
        raise UserError(f"{path}: data.{form[0]} is for streams of {' and '.join(TABLES)}; leave it out")
    # of what a generator is given, a list is what can be divided
    if kind == ".parquet":
        rows = _loaded(str(path), "parquet", data_files=paths, split="train").reshard()
        return _checked(Source(path.name, rows, source.weight), names)
    if kind in LINES:
        rows = _generated(_rows_of_lines, ranges=list(_ranges(files)), names=given, kind=kind, skip=skip)
    elif kind in TABLES:
        encodings = [encoding_of(file, recipe.encoding) for file in files]
        delimiters = [
            delimiter_of(file, recipe.delimiter, encoding) for file, encoding in zip(files, encodings, strict=True)
        ]
        tables = list(zip(paths, delimiters, encodings, strict=True))
        header = None if recipe.header is None else tuple(recipe.header)
        rows = _generated(_rows_of_tables, tables=tables, names=given, header=header, skip=skip)
    elif kind in ROWS:
        rows = _generated(_rows_of_files, files=paths, names=given, read=ROWS[kind])
    elif path.is_dir() and (of_columns := aligned.find(path, source.split, list(names.values()))):
        rows = _generated(_rows_of_aligned, files=tuple(of_columns.items()), names=given)
    else:
        found, known = sorted({suffix_of(file) for file in files}), [*LINES, *TABLES, ".parquet", *ROWS]
        pairs = " and ".join(f"{source.split}.{name}" for name in names.values())
        raise UserError(
            f"{path}: files of {', '.join(found)}; the files of a stream are all of one kind out of {', '.join(known)}, each but "
            f".parquet also with .gz, or {pairs} in a folder, whose lines belong together"
        )
    return _not_empty(Source(path.name, rows, source.weight))


def _generated(rows: Callable[..., Iterator[dict[str, Any]]], **arguments: Any) -> datasets.IterableDataset:
    return datasets.IterableDataset.from_generator(rows, gen_kwargs=arguments)


def _files(path: str, split: str, where: str) -> list[Path]:
    """Those that a pattern matches, or the one, or those of a split in a folder: train.jsonl, train-00001.jsonl …"""
    if Path(path).is_file():
        return [Path(path)]
    if Path(path).is_dir():
        files = [file for file in sorted(Path(path).iterdir()) if file.name.startswith((f"{split}.", f"{split}-"))]
        files = [file for file in files if file.is_file()]
        wanted = f"files of the split {split!r} ({split}.jsonl, {split}-00001.jsonl …)"
    else:
        files = [file for file in map(Path, sorted(glob.glob(path, recursive=True))) if file.is_file()]
        wanted = "such file, nor files of such a pattern"
    if not files:
        raise UserError(f"{where}.path={path!r}: there are no {wanted}")
    return files


def _sizes(files: list[Path]) -> dict[str, int]:
    """By names that are the same where the folder is moved."""
    together = os.path.commonpath([file.parent for file in files])
    return {os.path.relpath(file, together): file.stat().st_size for file in files}


def _open_hub(source: SourceRecipe, names: dict[str, str]) -> Source:
    where = f"data set {source.name!r}"
    rows = _loaded(where, str(source.name), source.config, split=source.split, revision=source.revision)
    return _checked(Source(str(source.name), rows, source.weight), names)


def _loaded(where: str, *arguments: Any, **options: Any) -> datasets.IterableDataset:
    with told_in_a_line(where, "cannot be streamed"):
        return datasets.load_dataset(*arguments, streaming=True, **options)


def _checked(source: Source, names: dict[str, str]) -> Source:
    """With the wanted columns alone, under their wanted names."""
    there = source.rows.column_names or list(_first(source))
    for name in names.values():
        if name not in there:
            raise UserError(f"{source.name}: no column {name!r}; there are {', '.join(there)}")
    rows = source.rows.select_columns(list(dict.fromkeys(names.values())))
    renamed = {name: wanted for wanted, name in names.items() if wanted != name}
    return _not_empty(Source(source.name, rows.rename_columns(renamed) if renamed else rows, source.weight))


def _not_empty(source: Source) -> Source:
    _first(source)
    return source


def _first(source: Source) -> dict[str, Any]:
    with told_in_a_line(source.name, "cannot be streamed"):
        for row in source.rows.iter(batch_size=1):
            return row
    raise UserError(f"{source.name}: there are no rows; a stream needs at least one")


@contextmanager
def told_in_a_line(name: str, what: str) -> Iterator[None]:
    """Wherever something is read of a source.

    Raises:
        UserError: It went wrong, also after all tries that are made over a network.
    """
    try:
        yield
    except READING_ERRORS as error:
        lost = isinstance(error, CONNECTION_ERRORS)
        then = "; the same command goes on from the last checkpoint" if lost else ""
        raise UserError(f"{name}: {what} ({reason(error)}){then}") from None


# --- files with a row in each line, and tables


def _ranges(files: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    """Parts of files that can be read by themselves: a line belongs to the part that it begins in."""
    for file in files:
        size = file.stat().st_size
        step = size + 1 if file.suffix == ".gz" else RANGE
        for start in range(0, max(size, 1), step):
            yield str(file), start, start + step


def _rows_of_lines(
    ranges: Sequence[tuple[str, int, int]], names: tuple[tuple[str, str], ...], kind: str, skip: bool
) -> Iterator[dict[str, Any]]:
    for file, start, end in ranges:
        for offset, line in _lines(Path(file), start, end):
            try:
                try:
                    text = line.decode("utf-8" if offset else "utf-8-sig").removesuffix("\n").removesuffix("\r")
                    row = {"text": text} if kind == ".txt" else parsed_row(text, "", ())
                except UnicodeDecodeError as error:
                    raise UserError(
                        f": not UTF-8 (byte {error.start + 1} of the line); convert the file to UTF-8"
                    ) from None
                found = _renamed(row, names, "")
            except UserError as error:
                if not skip:
                    raise UserError(f"{place_name((file, offset))}{error}") from None
                found = dict.fromkeys(dict(names))  # no texts: it is counted with the other invalid rows
            yield {**found, PLACE: (file, offset)}


def _renamed(row: dict[str, Any], names: tuple[tuple[str, str], ...], where: str) -> dict[str, Any]:
    for _, name in names:
        if name not in row:
            raise UserError(f"{where}: no column {name!r}; there are {', '.join(row)}")
    return {wanted: row[name] for wanted, name in names}


def _lines(file: Path, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in a range, and where each does."""
    if file.suffix == ".gz":
        with opened(file) as lines:
            offset = 0
            for line in whole_lines(file, lines):
                yield offset, line
                offset += len(line)
        return
    with file.open("rb") as lines:
        if start:
            lines.seek(start - 1)
            next(whole_lines(file, lines), None)  # the rest of a line that began before
        offset = lines.tell()
        for line in whole_lines(file, lines):
            if offset >= end:
                return
            yield offset, line
            offset += len(line)


def _rows_of_tables(
    tables: Sequence[tuple[str, str, str]],
    names: tuple[tuple[str, str], ...],
    header: tuple[str, ...] | None,
    skip: bool,
) -> Iterator[dict[str, Any]]:
    for file, delimiter, encoding in tables:
        called, rows = open_table(Path(file), [name for _, name in names], delimiter, encoding, header)
        for line, row in rows:
            is_whole = len(row) == len(called) or not (skip or require_width(Path(file), (line, row), called))
            cells = dict(zip(called, row, strict=True)) if is_whole else dict.fromkeys(called)
            yield {**{wanted: cells[name] for wanted, name in names}, PLACE: f"{file} line {line}"}


def _rows_of_files(
    files: Sequence[str], names: tuple[tuple[str, str], ...], read: ReadRows
) -> Iterator[dict[str, Any]]:
    for file in files:
        for number, row in enumerate(read(Path(file)), start=1):
            where = f"{file} row {number}"
            yield {**_renamed(row, names, where), PLACE: where}


def _rows_of_aligned(
    files: tuple[tuple[str, Path], ...], names: tuple[tuple[str, str], ...]
) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(aligned.rows(dict(files)), start=1):
        where = f"{files[0][1]} line {number}"
        yield {**_renamed(row, names, where), PLACE: where}


def place_name(place: Any) -> str:
    """Where a row stands; of a line, its number is counted when somebody wants to know."""
    if not isinstance(place, tuple | list):
        return str(place)
    file, offset = Path(place[0]), int(place[1])
    count, left = 1, offset
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as content:
        while left and (part := content.read(min(left, 2**20))):
            count, left = count + part.count(b"\n"), left - len(part)
    return f"{file} line {count}"
