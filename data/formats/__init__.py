"""Files as people have them: a table of formats by suffix, to which anyone can add one."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets

from ...configuration.errors import UserError
from . import conll, delimited, excel, json_rows, parquet, text, tmx

Load = Callable[..., datasets.Dataset]
ReadRows = Callable[[Path], Iterator[dict[str, Any]]]

FORMATS: dict[str, Load] = {
    ".jsonl": json_rows.load_lines,
    ".json": json_rows.load,
    ".csv": delimited.load,
    ".tsv": delimited.load,
    ".xlsx": excel.load,
    ".parquet": parquet.load,
    ".txt": text.load,
    ".conll": conll.load,
    ".iob": conll.load,
    ".tmx": tmx.load,
}

# keys of a recipe's `data` that say how a file is read; which of them a format has, the arguments of its function say
FORM = ("delimiter", "encoding", "header")

# how a stream reads formats, row by row, beside those of which it knows where a row begins
ROWS: dict[str, ReadRows] = {".conll": conll.sentences, ".iob": conll.sentences}


def suffix_of(file: Path) -> str:
    """The suffix by which a file's format is known: that of `train.csv.gz` is `.csv`, and of `TRAIN.CSV`, too."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def load_file(file: Path, columns: list[str], form: dict[str, Any]) -> datasets.Dataset:
    """A file of any format.

    Args:
        form: What the recipe says of it, by FORM.

    Raises:
        UserError: An unknown format, or one for which the form makes no sense; those of reading it.
    """
    suffix = suffix_of(file)
    if suffix not in FORMATS:
        raise UserError(f"{file}: unknown kind {suffix!r}; there are {', '.join(FORMATS)}, each also with .gz")
    for key in form.keys() - inspect.signature(FORMATS[suffix]).parameters.keys():
        raise UserError(f"{file}: data.{key} is not for {suffix} files; leave it out")
    return FORMATS[suffix](file, columns, **form)


def register_format(suffix: str, load: Load, rows: ReadRows | None = None) -> None:
    """Makes a format known from outside: from then on, files with this suffix are splits.

    Args:
        load: Given a file and the columns that are wanted of it, makes the data set, perhaps without any rows or without
            one of the columns. `reading.numbered_lines` reads the file also where it is gzipped. Where it takes one of FORM, so
            may recipes.
        rows: Given a file, its rows one after the other, for streams. A function of a module, since other processes may
            call it. Default: the format does not stream.
    """
    if not re.fullmatch(r"\.[^.\s/]+", suffix) or suffix == ".gz":
        raise ValueError(f"suffix {suffix!r}: it is written like .csv, and .gz is for every format")
    FORMATS[suffix] = load
    if rows is not None:
        ROWS[suffix] = rows
