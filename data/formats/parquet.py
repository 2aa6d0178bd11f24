"""Parquet."""

from pathlib import Path

import datasets

from .reading import build, no_rows


def load(file: Path, columns: list[str]) -> datasets.Dataset:
    return build("parquet", str(file), file, columns) if file.stat().st_size else no_rows(columns)
