"""What long work shows: a bar on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized

from tqdm.auto import tqdm

_said = set[str]()


def on_terminal() -> bool:
    return sys.stderr.isatty()


def say(message: str) -> None:
    """One line for the user, above any progress bar."""
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()


def say_once(message: str) -> None:
    """The same where every process of a launch finds it: the first says so, and no line twice."""
    if int(os.environ.get("RANK", 0)) == 0 and message not in _said:
        _said.add(message)
        say(message)


def progress_bar(items: Iterable, what: str, visible: bool = True, every_seconds: float = 30.0) -> Iterator:
    """Items, with a bar on a terminal or, in a log, a line every `every_seconds`."""
    if not visible:
        yield from items
        return
    if on_terminal():
        yield from tqdm(items, desc=what, leave=False, file=sys.stderr)
        return
    total = f" of {len(items)}" if isinstance(items, Sized) else ""
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last > every_seconds:
            say(f"{what}: {done}{total}")
            last = time.monotonic()
        yield item


def duration(seconds: float) -> str:
    """`75` as `1:15`, `4000` as `1:06:40`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
