"""JSON: an object a line, one list of objects, or the form of SQuAD."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets

from ...configuration.errors import UserError, reason
from .reading import build, checked_once, no_rows, numbered_lines
from .squad import read_squad


def load_lines(file: Path, columns: list[str]) -> datasets.Dataset:
    count = checked_once(lambda: _check_lines(file, columns), file, ["JSON lines", *columns])
    return build("json", str(file), file, columns) if count else no_rows(columns)


def load(file: Path, columns: list[str]) -> datasets.Dataset:
    content = _check(file, columns)
    if isinstance(content, datasets.Dataset):
        return content
    return build("json", str(file), file, columns) if content else no_rows(columns)


def parsed_row(line: str, where: str, columns: Iterable[str]) -> dict[str, Any]:
    """A line as a row that has at least the columns.

    Raises:
        UserError: It is none; names `where`.
    """
    if not line.strip():
        raise UserError(f"{where}: empty; every line must be a JSON object, so delete it")
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at character {error.colno})") from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or lists in lists in lists
        raise UserError(f"{where}: JSON that is not read ({reason(error)})") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON {type(row).__name__}; every line must be a JSON object")
    for name in columns:
        if name not in row:
            raise UserError(f"{where}: no column {name!r}; there are {', '.join(row)}")
    return row


def _check_lines(file: Path, columns: list[str]) -> int:
    """Check every row; returns how many there are."""
    number = 0
    for number, line in numbered_lines(file):
        parsed_row(line, f"{file} line {number}", columns)
    return number


def _check(file: Path, columns: list[str]) -> int | datasets.Dataset:
    """Check a file with JSON lines or one list of rows, and count its rows; or read one in the form of SQuAD."""
    text = "".join(line for _, line in numbered_lines(file, is_bounded=False))  # it may all stand in one
    try:
        content = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # more than one value: one a line
            return _check_lines(file, columns)
        raise UserError(f"{file} line {error.lineno}: not JSON ({error.msg} at character {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: JSON that is not read ({reason(error)})") from None
    del text
    if isinstance(content, dict) and "data" in content and not (columns and set(columns) <= content.keys()):
        return read_squad(file, content)
    if isinstance(content, dict):  # the only row
        content = [content]
    if not isinstance(content, list):
        raise UserError(
            f"{file}: a JSON {type(content).__name__}; it must be a list of objects, JSON lines or of the form of SQuAD"
        )
    for number, row in enumerate(content, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{file} row {number}: a JSON {type(row).__name__}; every row must be a JSON object")
        for name in columns:
            if name not in row:
                raise UserError(f"{file} row {number}: no column {name!r}; there are {', '.join(row) or 'none'}")
    return len(content)
