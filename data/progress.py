"""What long work shows: a bar on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager

from tqdm.auto import tqdm

EVERY_SECONDS, SOON = 30.0, 2.0  # comes a line into a log, and the first of what is done once

_said = set[str]()
_is_silent = False


@contextmanager
def silence() -> Iterator[None]:
    """Until the block ends, nothing is said and no bar is shown."""
    global _is_silent
    before, _is_silent = _is_silent, True
    try:
        yield
    finally:
        _is_silent = before


def shows_bars() -> bool:
    return sys.stderr.isatty() and not _is_silent


def say(message: str) -> None:
    """One line for the user, above any progress bar."""
    if _is_silent:
        return
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()


def say_once(message: str) -> None:
    """The same where every process of a launch finds it: the first says so, and no line twice."""
    if int(os.environ.get("RANK", 0)) == 0 and message not in _said:
        _said.add(message)
        say(message)


class LogLines:
    """A line into a log, every `EVERY_SECONDS`, of how far work has come.

    Args:
        first_after: Seconds until the first.
    """

    def __init__(self, what: str, total: int | None, first_after: float = EVERY_SECONDS) -> None:
        self.what, self.of = what, "" if total is None else f" of {total:,}"
        self.due = time.monotonic() + first_after

    def show(self, done: int) -> None:
        if time.monotonic() > self.due:
            say(f"{self.what}: {done:,}{self.of}")
            self.due = time.monotonic() + EVERY_SECONDS


def progress_bar(items: Iterable, what: str, visible: bool = True, first_after: float = EVERY_SECONDS) -> Iterator:
    """Items, with a bar on a terminal or, in a log, `LogLines`."""
    if not visible:
        yield from items
        return
    if shows_bars():
        yield from tqdm(items, desc=what, leave=False, file=sys.stderr)
        return
    lines = LogLines(what, len(items) if isinstance(items, Sized) else None, first_after)
    for done, item in enumerate(items):
        lines.show(done)
        yield item


@contextmanager
def in_steps(what: str, count: int) -> Iterator[Callable[[str], None]]:
    """Work in so many steps, each begun by a call that names it: a bar on a terminal, in a log a line for each."""
    if not shows_bars():
        yield lambda step: say(f"{what}: {step}")
        return
    with tqdm(total=count, desc=what, leave=False, file=sys.stderr) as bar:

        def begin(step: str) -> None:
            if bar.postfix is not None:
                bar.update()
            bar.set_postfix_str(step)

        yield begin


def duration(seconds: float) -> str:
    """`75` as `1:15`, `4000` as `1:06:40`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
