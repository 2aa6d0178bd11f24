"""CSV and TSV."""

import csv
from pathlib import Path

import datasets

from ...configuration.errors import UserError
from .reading import build, checked_once, no_rows, numbered_lines


def load_csv(file: Path, columns: list[str], delimiter: str = ",") -> datasets.Dataset:
    header, rows = checked_once(lambda: _check_rows(file, columns, delimiter), file, ["delimited", delimiter, *columns])
    if rows == 0:
        return no_rows(columns)
    # every value is text, as it stands: else 007 would be read as 7, and NA and None as nothing
    as_text = {"converters": dict.fromkeys(header, str), "keep_default_na": False}
    return build("csv", str(file), file, columns, delimiter=delimiter, **as_text)


def load_tsv(file: Path, columns: list[str]) -> datasets.Dataset:
    return load_csv(file, columns, delimiter="\t")


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
