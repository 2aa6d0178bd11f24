"""Streams: rows of files and of the Hub that are read when they are needed, never all of them, and never kept.

Each source is an `IterableDataset` of `datasets`, whose shards are what processes divide among them: files, row groups of
Parquet, and ranges of files with a row in each line.
"""

import csv
import glob
import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from ..configuration.errors import UserError, reason
from ..recipes.schema import DataRecipe, SourceRecipe
from .formats import suffix_of
from .formats.json_rows import parsed_row
from .formats.reading import numbered_lines

RANGE = 64 * 2**20  # bytes
PLACE = "place of the row"  # a column beside those of the rows: where each stands, for messages
KINDS = (".jsonl", ".csv", ".tsv", ".txt", ".parquet")


@dataclass
class Source:
    """One of what a stream is mixed of.

    Args:
        name: What it is called in messages and in the log.
        rows: With the columns that the task reads, under the names of the recipe's `data.columns`, and perhaps PLACE.
        weight: Its share of the rows, of the sum of all weights.
    """

    name: str
    rows: datasets.IterableDataset
    weight: float = 1.0


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
    for number, source in enumerate(given):
        where = f"data.sources[{number}]" if recipe.sources else "data"
        for role in source.columns.keys() - columns.keys():
            raise UserError(f"{where}.columns.{role}: the task reads no such column; it reads {', '.join(columns)}")
        names = {name: source.columns.get(role, name) for role, name in columns.items()}
        skip = recipe.invalid_examples == "skip"
        opened = _open_files(source, names, skip, where) if source.path is not None else _open_hub(source, names)
        same = sum(other.name.split(" #")[0] == opened.name for other in sources)
        opened.name += f" #{same + 1}" if same else ""
        sources.append(opened)
    return sources


def _open_files(source: SourceRecipe, names: dict[str, str], skip: bool, where: str) -> Source:
    files = _files(str(source.path), source.split, where)
    kinds = {suffix_of(file) for file in files}
    if len(kinds) > 1 or not kinds <= set(KINDS):
        raise UserError(
            f"{source.path}: files of {', '.join(sorted(kinds))}; the files of a stream are all of one kind out of "
            f"{', '.join(KINDS)}, each but .parquet also with .gz"
        )
    (kind,) = kinds
    if kind == ".parquet":
        rows = _loaded(str(source.path), "parquet", data_files=list(map(str, files)), split="train").reshard()
        return _checked(Source(Path(str(source.path)).name, rows, source.weight), names)
    # what is a list is what can be divided
    arguments = {"names": tuple(names.items()), "kind": kind, "skip": skip}
    if kind in (".jsonl", ".txt"):
        rows = datasets.IterableDataset.from_generator(
            _rows_of_lines, gen_kwargs={"ranges": list(_ranges(files)), **arguments}
        )
    else:
        rows = datasets.IterableDataset.from_generator(
            _rows_of_tables, gen_kwargs={"files": list(map(str, files)), **arguments}
        )
    return _not_empty(Source(Path(str(source.path)).name, rows, source.weight))


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


def _open_hub(source: SourceRecipe, names: dict[str, str]) -> Source:
    where = f"data set {source.name!r}"
    rows = _loaded(where, str(source.name), source.config, split=source.split, revision=source.revision)
    return _checked(Source(str(source.name), rows, source.weight), names)


def _loaded(where: str, *arguments: Any, **options: Any) -> datasets.IterableDataset:
    try:
        return datasets.load_dataset(*arguments, streaming=True, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"{where}: cannot be streamed ({reason(error)})") from None


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
    try:
        return next(iter(source.rows.iter(batch_size=1)))
    except StopIteration:
        raise UserError(f"{source.name}: there are no rows; a stream needs at least one") from None
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"{source.name}: cannot be streamed ({reason(error)})") from None


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
                    row = {"text": text} if kind == ".txt" else parsed_row(text, "", [name for _, name in names])
                except UnicodeDecodeError as error:
                    raise UserError(
                        f": not UTF-8 (byte {error.start + 1} of the line); convert the file to UTF-8"
                    ) from None
                found = {wanted: _cell(row, name, file) for wanted, name in names}
            except UserError as error:
                if not skip:
                    raise UserError(f"{place_name((file, offset))}{error}") from None
                found = dict.fromkeys(dict(names))  # no texts: it is counted with the other invalid rows
            yield {**found, PLACE: (file, offset)}


def _cell(row: dict[str, Any], name: str, file: str) -> Any:
    if name not in row:
        raise UserError(f": no column {name!r}; there are {', '.join(row)}")
    return row[name]


def _lines(file: Path, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in a range, and where each does."""
    if file.suffix == ".gz":
        with gzip.open(file) as lines:
            offset = 0
            for line in lines:
                yield offset, line
                offset += len(line)
        return
    with file.open("rb") as lines:
        if start:
            lines.seek(start - 1)
            lines.readline()  # the rest of a line that began before
        offset = lines.tell()
        while offset < end and (line := lines.readline()):
            yield offset, line
            offset += len(line)


def _rows_of_tables(
    files: Sequence[str], names: tuple[tuple[str, str], ...], kind: str, skip: bool
) -> Iterator[dict[str, Any]]:
    for file in files:
        rows = csv.reader((line for _, line in numbered_lines(Path(file))), delimiter="\t" if kind == ".tsv" else ",")
        header = next(rows, [name for _, name in names])
        for _, name in names:
            if name not in header:
                raise UserError(f"{file} line 1: no column {name!r}; there are {', '.join(header)}")
        for row in rows:
            where = f"{file} line {rows.line_num}"
            if len(row) != len(header) and not skip:
                raise UserError(f"{where}: {len(row)} values for {len(header)} columns")
            cells = dict(zip(header, row, strict=True)) if len(row) == len(header) else dict.fromkeys(header)
            yield {**{wanted: cells[name] for wanted, name in names}, PLACE: where}


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
