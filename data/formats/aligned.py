"""Files whose lines belong together, as of Moses: `train.en` and `train.de`, each the column of its suffix."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import datasets

from ...configuration.errors import UserError
from .reading import count_lines, numbered_lines, stream


def find(folder: Path, split: str, columns: list[str]) -> dict[str, Path]:
    """The file of each column, or nothing where no column has one.

    Raises:
        UserError: Only some have, or one has two.
    """
    found = {
        name: [file for end in ("", ".gz") if (file := folder / f"{split}.{name}{end}").is_file()] for name in columns
    }
    here = [files[0] for files in found.values() if files]
    for name, files in found.items():
        if here and not files:
            raise UserError(f"{here[0]}: there is no {split}.{name} beside it, with a line for each of its lines")
        if len(files) > 1:
            raise UserError(f"{folder}: both {files[0].name} and {files[1].name}; keep one")
    return {name: files[0] for name, files in found.items()} if here else {}


def load(files: dict[str, Path]) -> datasets.Dataset:
    counts = {file: count_lines(file) for file in files.values()}
    (first, lines), *others = counts.items()
    for file, count in others:
        if count != lines:
            raise UserError(f"{first} has {lines} lines, {file} {count}; line by line, they must belong together")
    features = datasets.Features({name: datasets.Value("string") for name in files})
    return stream(lambda: rows(files), features, list(files.values()))


def rows(files: dict[str, Path]) -> Iterator[dict[str, str]]:
    """
    Raises:
        UserError: One file ends before another.
    """
    for number, lines in enumerate(zip_longest(*map(numbered_lines, files.values()))):
        for file, line in zip(files.values(), lines, strict=True):
            if line is None:
                raise UserError(
                    f"{file} ends after line {number}, others do not; line by line, they must belong together"
                )
        texts = (line.removesuffix("\n").removesuffix("\r") for _, line in lines)
        yield dict(zip(files, texts, strict=True))
