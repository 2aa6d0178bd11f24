"""Where files lay on the machine that trained a model: nobody's business, of no use elsewhere, and never published.

A place is cut down to its last part, by which its owner still knows it. What can be a Hub id, and is no folder, stays.
"""

import dataclasses
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..configuration.errors import UserError
from ..recipes.schema import ON_HUB, Recipe, is_place

NAMELESS = "local"  # what has no last part: `..`, `~me`, `C:`
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:", re.ASCII)  # of one letter: a drive
# /a/b, ~me, ~/a, ./a, ..\a, C:\a, C:/a, \\server\a, s3://a
LOCAL = re.compile(
    r"/[^/]+/.|~[^/\\\s]*([/\\]|$)|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\.|file:|(?!https?:|hf:)[A-Za-z][A-Za-z0-9+.-]+://"
)
# keys of JSON files whose values are words of the model, whatever they look like
WORDS = re.compile(r"id2label|label2id|added_tokens_decoder|chat_template|.*_tokens?")
# and those that say where it came from
ORIGIN = re.compile(r"_?name_or_path|.*_file")
# the parts of a PNG that say what is to be seen; others say who made it, when, with what and from which file
PNG_START = b"\x89PNG\r\n\x1a\n"
SEEN = (b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"IDAT", b"IEND")


@dataclasses.dataclass(frozen=True)
class Places:
    """What is known of the machine.

    Args:
        source: The folder that is published. Relative places count from where the command runs, and from all folders
            around this one, since one of them is where the training ran.
        of_recipe: The local places that the recipe names.
    """

    source: Path
    of_recipe: frozenset[str] = frozenset()

    def with_those_of(self, recipe: Recipe) -> "Places":
        """The same, and what a recipe's fields for places name."""
        return dataclasses.replace(self, of_recipe=frozenset(self._named(recipe)))

    def _named(self, settings: Any) -> Iterator[str]:
        for one in dataclasses.fields(settings):
            value = getattr(settings, one.name)
            if dataclasses.is_dataclass(value):
                yield from self._named(value)
            elif is_list_of_settings(value):
                for each in value:
                    yield from self._named(each)
            elif place := is_place(one):
                named = value.values() if isinstance(value, Mapping) else [value]
                yield from (each for each in named if each and self._place(each, place == ON_HUB) != each)

    def recipe(self, recipe: Recipe) -> Recipe:
        """A recipe without local places."""
        return self._settings(recipe)

    def _settings(self, settings: Any) -> Any:
        cut = {}
        for one in dataclasses.fields(settings):
            value = getattr(settings, one.name)
            if dataclasses.is_dataclass(value):
                cut[one.name] = self._settings(value)
            elif is_list_of_settings(value):
                cut[one.name] = [self._settings(each) for each in value]
            elif place := is_place(one):
                cut[one.name] = self._place(value, place == ON_HUB)
            else:
                cut[one.name] = self.text(value)
        return dataclasses.replace(settings, **cut)

    def _place(self, value: Any, may_be_on_hub: bool) -> Any:
        if isinstance(value, Mapping):
            return {key: self._place(one, may_be_on_hub) for key, one in value.items()}
        if value is None or (may_be_on_hub and self.is_on_hub(value)):
            return value
        return last_part(value)

    def is_on_hub(self, place: str) -> bool:
        """Whether a place can only be an id on the Hub."""
        return HUB_ID.fullmatch(place) is not None and ".." not in place and not self._is_here(place)

    def _is_here(self, place: str) -> bool:
        return any((folder / place).exists() for folder in (Path.cwd(), *self.source.resolve().parents))

    def text(self, value: Any) -> Any:
        """Any value of settings or results; of the texts in it, those that are local places are cut."""
        if isinstance(value, Mapping):
            return {self.text(key): self.text(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.text(one) for one in value)
        if not isinstance(value, str):
            return value
        return last_part(value) if self._is_local(value) else value

    def _is_local(self, text: str) -> bool:
        own = {str(Path.home()), str(Path.cwd()), str(self.source.resolve().parent)} - {Path.cwd().anchor}
        own |= {place for place in self.of_recipe if len(re.findall(r"[/\\]", place.strip("/\\."))) > 1}
        if text in self.of_recipe or LOCAL.match(text.strip()) or any(place in text for place in own):
            return True
        return re.search(r"[/\\]", text) is not None and len(text) < 1000 and self._is_here(text)

    def config(self, value: Any) -> Any:
        """The content of a JSON file that goes with the weights: likewise, but words of the model stay."""
        if isinstance(value, Mapping):
            return {
                key: one if WORDS.fullmatch(key) else self.config(one)
                for key, one in value.items()
                if not ORIGIN.fullmatch(key)
            }
        if isinstance(value, list):
            return [self.config(one) for one in value]
        return self.text(value)


def is_list_of_settings(value: Any) -> bool:
    return isinstance(value, list) and any(map(dataclasses.is_dataclass, value))


def last_part(place: str) -> str:
    """`/home/me/my data/` → `my data`; `C:\\Users\\me\\data` → `data`."""
    place = re.sub(r"[?#].*", "", place) if ADDRESS.match(place) else place
    parts = [part.strip() for part in re.split(r"[/\\]", place)]
    last = next((part for part in reversed(parts) if part), "")
    return NAMELESS if last in (".", "..") or re.match(r"~|[A-Za-z]:|file:", last) else last or NAMELESS


def plain_picture(content: bytes, origin: Path) -> bytes:
    """A PNG without what is not to be seen.

    Raises:
        UserError: It is none, or not whole.
    """
    if not content.startswith(PNG_START):
        raise UserError(f"{origin}: is not a PNG; remove it, or train again")
    kept, place = [PNG_START], len(PNG_START)
    while place < len(content):
        if place + 12 > len(content):
            raise UserError(f"{origin}: the PNG is cut off at byte {len(content)}; remove it, or train again")
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if kind in SEEN:
            kept.append(content[place : place + 12 + length])
        place += 12 + length
        if kind == b"IEND":
            break
    return b"".join(kept)
