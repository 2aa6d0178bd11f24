"""Excel: the first sheet of a workbook, its first row the names of the columns."""

import datetime
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import datasets

from ...configuration.errors import UserError, reason
from ..progress import say_once
from .delimited import require_names
from .reading import ALWAYS, MOST_TIMES, checked_once, opened, stream


def load(file: Path, columns: list[str], header: list[str] | None = None) -> datasets.Dataset:
    """Every value as text, as in CSV; of a formula, what it came to when the file was saved.

    Args:
        header: The columns of a sheet that does not begin with their names.
    """
    sheet, others, names = checked_once(lambda: _look(file, header), file, ["excel", str(header)])
    if others:
        say_once(f"{file}: of {others + 1} sheets the first is read, {sheet!r}")
    require_names(file, names or columns, columns)
    features = datasets.Features({name: datasets.Value("string") for name in names or columns})
    return stream(lambda: _rows(file, names, header is None), features, [file], str(header))


def _look(file: Path, header: list[str] | None) -> tuple[str, int, list[str]]:
    """The name of the first sheet, how many others there are, and the names of its columns."""
    with opened(file) as content:
        book = _workbook(file, content)
        sheet = book.worksheets[0]
        first = next(_cells(sheet), [])
        return sheet.title, len(book.worksheets) - 1, first if header is None else header


def _rows(file: Path, names: list[str], has_header: bool) -> Iterator[dict[str, str]]:
    empty = 0  # rows at the end that were once filled
    with opened(file) as content:
        for number, cells in enumerate(_cells(_workbook(file, content).worksheets[0]), start=1):
            if number == 1 and has_header:
                continue
            if not cells:
                empty += 1
                continue
            if empty:
                raise UserError(f"{file} row {number - empty}: empty; delete it")
            if len(cells) > len(names):
                raise UserError(f"{file} row {number}: {len(cells)} values for {len(names)} columns")
            yield dict(zip(names, cells + [""] * (len(names) - len(cells)), strict=True))


def _workbook(file: Path, content: Any) -> Any:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ModuleNotFoundError:
        raise UserError(f"{file}: needs openpyxl: pip install 'trefoil-transformers[excel]'") from None
    try:
        content = (
            io.BytesIO(content.read()) if file.suffix == ".gz" else content
        )  # of which a part in the middle is wanted
        with ZipFile(content) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > max(ALWAYS, MOST_TIMES * file.stat().st_size):
            raise UserError(
                f"{file}: holds {size:,} bytes, more than {MOST_TIMES} times what it has itself; save it as .csv"
            )
        return load_workbook(content, read_only=True, data_only=True)
    except (InvalidFileException, BadZipFile, KeyError, ValueError, OSError) as error:
        raise UserError(f"{file}: no Excel workbook (.xlsx): {reason(error)}") from None


def _cells(sheet: Any) -> Iterator[list[str]]:
    """The rows, without the empty cells at their ends; how many there are, some files say wrongly."""
    sheet.reset_dimensions()
    for row in sheet.iter_rows(values_only=True):
        cells = [_text(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        yield cells


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
