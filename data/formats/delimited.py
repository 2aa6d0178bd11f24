"""CSV and TSV, with any delimiter and in any encoding."""

import csv
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets

from ...configuration.errors import UserError
from ..progress import say_once
from .reading import build, checked_once, encoding_of, no_rows, numbered_lines

DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}  # the usual one first
SAMPLE = 100  # rows by which a delimiter is found

Row = tuple[int, list[str]]  # the number of its last line, and its cells


def load(
    file: Path,
    columns: list[str],
    delimiter: str | None = None,
    encoding: str | None = None,
    header: list[str] | None = None,
) -> datasets.Dataset:
    """
    Args:
        delimiter, encoding: Default: what the file is found to have; another than the usual one is said in a line.
        header: The columns of a file that does not begin with their names.
    """
    encoding = encoding_of(file, encoding)
    delimiter = delimiter_of(file, delimiter, encoding)

    def check() -> tuple[list[str], int]:
        names, rows = open_table(file, columns, delimiter, encoding, header)
        return names, sum(1 for row in rows if require_width(file, row, names))

    names, count = checked_once(check, file, ["delimited", delimiter, encoding, str(header), *columns])
    if count == 0:
        return no_rows(columns)
    # every value is text, as it stands: else 007 would be read as 7, and NA and None as nothing
    as_text = {"converters": dict.fromkeys(names, str), "keep_default_na": False}
    own = {} if header is None else {"names": names, "header": None}
    as_it_is = {"delimiter": delimiter, "encoding": encoding, "skip_blank_lines": False}
    return build("csv", str(file), file, columns, **as_it_is, **as_text, **own)


def open_table(
    file: Path, columns: list[str], delimiter: str, encoding: str, header: Sequence[str] | None
) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns, and the rows, which may have more cells or fewer.

    Raises:
        UserError: There is no column of a name that is wanted, or two have one name.
    """
    rows = _rows(file, delimiter, encoding)
    names = next(rows, (1, columns))[1] if header is None else list(header)
    require_names(file, names, columns)
    return names, rows


def require_names(where: Path | str, names: list[str], columns: list[str]) -> None:
    for name in columns:
        if name not in names:
            raise UserError(f"{where} line 1: no column {name!r}; there are {', '.join(names)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{where} line 1: two columns are called {twice[0]!r}; give each a name of its own")


def require_width(file: Path, row: Row, names: list[str]) -> bool:
    """
    Raises:
        UserError: The row is empty, or has another number of cells than there are names.
    """
    line, cells = row
    if not cells:
        raise UserError(f"{file} line {line}: empty; delete it")
    if len(cells) != len(names):
        raise UserError(f"{file} line {line}: {len(cells)} values for {len(names)} columns")
    return True


def delimiter_of(file: Path, asked: str | None, encoding: str) -> str:
    """The one that is asked for or, of a file in which it may be any, the one that divides the first rows into the most
    columns, all into as many."""
    usual, *others = list(next((found for suffix, found in DELIMITERS.items() if suffix in file.suffixes), ","))
    if asked is not None or not others:
        return asked or usual
    found = checked_once(lambda: _find_delimiter(file, [usual, *others], encoding), file, ["delimiter", encoding])
    if found != usual:
        say_once(f"{file}: columns are divided by {found!r} (set data.delimiter if that is wrong)")
    return found


def _find_delimiter(file: Path, candidates: list[str], encoding: str) -> str:
    def fit(delimiter: str) -> tuple[bool, int]:
        try:
            widths = [len(cells) for _, cells in itertools.islice(_rows(file, delimiter, encoding), SAMPLE)]
        except UserError:
            widths = []
        return len(set(widths)) == 1 and widths[0] > 1, max(widths[:1], default=0)

    return max(candidates, key=fit)  # of equals the first


def _rows(file: Path, delimiter: str, encoding: str) -> Iterator[Row]:
    rows = csv.reader((line for _, line in numbered_lines(file, encoding)), delimiter=delimiter)
    try:
        for cells in rows:
            yield rows.line_num, cells
    except csv.Error as error:
        raise UserError(f"{file} line {rows.line_num}: {error}") from None
