"""TMX 1.4, translation memories: each unit a row, each language a column.

A column is called as the file calls its language, or without what stands behind it: `en` is the first of en-US and en-GB
that a unit has. What marks formatting within a segment is left out (LISA 2005, section 3.2).
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import datasets

from ...configuration.errors import UserError
from .delimited import require_names
from .reading import checked_once, opened, stream

CODES = {"bpt", "ept", "it", "ph", "ut"}  # elements whose content is code of another format
CHUNK = 2**20  # bytes


def load(file: Path, columns: list[str]) -> datasets.Dataset:
    """The columns that are wanted or, where none are, one for each language. What a unit lacks is null."""
    languages: list[str] = checked_once(lambda: _languages(file), file, ["TMX"])
    wanted = columns or [name for name in languages if not any(other.startswith(f"{name}-") for other in languages)]
    if languages:
        require_names(file, [*dict.fromkeys(languages)], columns)
    features = datasets.Features({name: datasets.Value("string") for name in wanted})
    return stream(lambda: ({name: unit.get(name) for name in wanted} for unit in units(file)), features, [file])


def _languages(file: Path) -> list[str]:
    return [name for name, _ in Counter(name for unit in units(file) for name in unit).most_common()]


def units(file: Path) -> Iterator[dict[str, str]]:
    """Language -> segment, of one unit after the other; never more than one in memory.

    Raises:
        UserError: Not well-formed, or with entities of its own, which could grow without bound.
    """
    handler = _Units(file)
    with opened(file) as content:
        try:
            while chunk := content.read(CHUNK):
                handler.parser.Parse(chunk, False)
                yield from handler.taken()
            if handler.parser.CurrentByteIndex >= 0:  # an empty file is one without units
                handler.parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise UserError(f"{file} line {error.lineno}: not XML ({expat.ErrorString(error.code)})") from None
        except (ValueError, LookupError) as error:  # of its encoding
            raise UserError(f"{file}: {error}; convert the file to UTF-8") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{file}: a damaged gzip file ({error}); compress it again") from None
    yield from handler.taken()


class _Units:
    """What the parser has seen."""

    def __init__(self, file: Path) -> None:
        self.file, self.found = file, list[dict[str, str]]()
        self.unit: dict[str, str] = {}
        self.language: str | None = None
        self.text: list[str] | None = None  # of the segment that is open
        self.codes = 0  # elements of code that are open
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.EntityDeclHandler = self.refuse

    def taken(self) -> list[dict[str, str]]:
        found, self.found = self.found, []
        return found

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "tu":
            self.unit = {}
        elif name == "tuv":
            self.language = attributes.get("xml:lang") or attributes.get("lang")
            if self.language is None:
                raise UserError(f"{self.file} line {self.parser.CurrentLineNumber}: a <tuv> without xml:lang")
        elif name == "seg":
            self.text = []
        self.codes += name in CODES

    def end(self, name: str) -> None:
        self.codes -= name in CODES
        if name == "seg" and self.text is not None and self.language is not None:
            segment = "".join(self.text)
            for called in (self.language, self.language.partition("-")[0].lower()):
                self.unit.setdefault(called, segment)
            self.text = None
        elif name == "tu":
            self.found.append(self.unit)

    def characters(self, text: str) -> None:
        if self.text is not None and not self.codes:
            self.text.append(text)

    def refuse(self, name: str, *_: Any) -> None:
        raise UserError(
            f"{self.file} line {self.parser.CurrentLineNumber}: defines the entity {name!r}, which no TMX file needs; delete "
            "its definition"
        )
