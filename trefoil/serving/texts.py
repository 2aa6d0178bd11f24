"""The text of tokens that come one by one."""

from collections.abc import Sequence
from typing import Any

CONTEXT = 6  # tokens of the prompt by which it is decided whether a space stands before the first word
UNFINISHED = "\ufffd"  # what a tokenizer makes of some of a character's bytes


class Text:
    """Gives out what no later token changes: whole characters, and nothing that a stop string may begin with.

    Args:
        tokenizer: Decodes.
        prompt: The tokens that stand before.
        stops: Strings at which the text ends; they are no part of it.

    Attributes:
        is_stopped: Whether one has come.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.ids = list(prompt[-CONTEXT:])
        self.start, self.end = (
            0,
            len(self.ids),
        )  # of the tokens that are given out last, with which the next are decoded
        self.held = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """What is certain with this token."""
        self.ids.append(token)
        return self._without_stops(self._decoded(is_last=False), is_last=False)

    def finish(self) -> str:
        """What is left."""
        return "" if self.is_stopped else self._without_stops(self._decoded(is_last=True), is_last=True)

    def _decoded(self, is_last: bool) -> str:
        known = self.tokenizer.decode(self.ids[self.start : self.end], skip_special_tokens=True)
        text = self.tokenizer.decode(self.ids[self.start :], skip_special_tokens=True)
        if len(text) <= len(known) or (text.endswith(UNFINISHED) and not is_last):
            return ""
        self.start, self.end = self.end, len(self.ids)
        return text[len(known) :]

    def _without_stops(self, new: str, is_last: bool) -> str:
        text = self.held + new
        if places := [place for stop in self.stops if (place := text.find(stop)) >= 0]:
            self.is_stopped, self.held = True, ""
            return text[: min(places)]
        begun = 0 if is_last else max((_begun(text, stop) for stop in self.stops), default=0)
        self.held = text[len(text) - begun :]
        return text[: len(text) - begun]


def _begun(text: str, stop: str) -> int:
    """How many characters of a stop string stand at the end of a text."""
    return next((count for count in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:count])), 0)
