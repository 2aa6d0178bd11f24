"""Text: each line a row, in the column `text`."""

from pathlib import Path

import datasets

from .reading import build, count_lines, encoding_of, no_rows


def load(file: Path, columns: list[str], encoding: str | None = None) -> datasets.Dataset:
    encoding = encoding_of(file, encoding)
    if not count_lines(file, encoding):
        return no_rows(columns)
    return build("text", str(file), file, columns, encoding=encoding)
