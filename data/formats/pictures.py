"""A folder of pictures and, in `metadata.jsonl` or the like, what goes with them (the ImageFolder of `datasets`)."""

from pathlib import Path

import datasets

from .reading import build

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def is_folder_of_pictures(folder: Path) -> bool:
    return any((folder / name).is_file() for name in METADATA)


def load(folder: Path, columns: list[str]) -> datasets.Dataset:
    return build("imagefolder", f"{folder}/**", folder, columns)
