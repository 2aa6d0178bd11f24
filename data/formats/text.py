"""Text: each line a row, in the column `text`."""

from pathlib import Path

import datasets

from .reading import build, no_rows, numbered_lines


def load(file: Path, columns: list[str]) -> datasets.Dataset:
    lines = sum(1 for _ in numbered_lines(file))
    return build("text", str(file), file, columns) if lines else no_rows(columns)
