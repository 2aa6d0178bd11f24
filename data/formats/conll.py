"""CoNLL: a token a line, its tag in the last column, and an empty line between sentences.

Skipped are lines that start with -DOCSTART- and, before the first token of a sentence, comments such as `# id = 1`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import datasets

from ...configuration.errors import UserError
from .reading import UTF_8, encoding_of, numbered_lines, stream

FEATURES = datasets.Features(
    {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(datasets.Value("string"))}
)


def load(file: Path, columns: list[str], encoding: str | None = None) -> datasets.Dataset:
    encoding = encoding_of(file, encoding)
    return stream(lambda: sentences(file, encoding), FEATURES, [file], encoding)


def sentences(file: Path, encoding: str = UTF_8) -> Iterator[dict[str, list[str]]]:
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in numbered_lines(file, encoding):
        if not line.strip():
            if tokens:
                yield {"tokens": tokens, "tags": tags}
            tokens, tags = [], []
        elif not (line.startswith("-DOCSTART-") or (not tokens and re.match("#+ ", line))):
            token, tag = _token_and_tag(f"{file} line {number}", line.rstrip("\r\n"))
            tokens.append(token)
            tags.append(tag)
    if tokens:
        yield {"tokens": tokens, "tags": tags}


def _token_and_tag(where: str, line: str) -> tuple[str, str]:
    cells = line.split("\t") if "\t" in line else line.strip(" ").split(" ")
    if len(cells) == 1:
        raise UserError(
            f"{where}: one column; it must be a token and, last, its tag, with a tab or spaces between them"
        )
    for name, cell in (("token", cells[0]), ("tag", cells[-1])):
        if not cell:
            raise UserError(f"{where}: an empty {name}; it must be a token and, last, its tag")
    return cells[0], cells[-1]
