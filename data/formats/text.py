"""Text: each line a row, in the column `text`."""

from pathlib import Path

import datasets

from .reading import build, count_lines, no_rows


def load(file: Path, columns: list[str]) -> datasets.Dataset:
    return build("text", str(file), file, columns) if count_lines(file) else no_rows(columns)
