"""What long work shows: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from tqdm.auto import tqdm


def on_terminal() -> bool:
    return sys.stderr.isatty()


def say(message: str) -> None:
    """One line for the user, above any progress bar."""
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()


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


class TrainingProgress:
    """A bar over optimiser steps, or a plain line for each logged step."""

    def __init__(self, total: int | None, start: int, visible: bool) -> None:
        self.visible, self.total, self.start, self.started = visible, total, start, time.monotonic()
        bar = visible and on_terminal()
        self.bar = tqdm(total=total, initial=start, desc="training", file=sys.stderr) if bar else None

    def step(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def show(self, step: int, values: dict[str, Any]) -> None:
        """Show the values of a logged step, and the time left."""
        if not self.visible:
            return
        shown = {
            "loss": f"{values['loss']:.4f}",
            "lr": f"{values['learning_rate']:.2e}",
            "tok/s": f"{values['tokens_per_second']:,.0f}",
            "mfu": f"{values['mfu']:.0%}",
        }
        if self.bar is not None:
            self.bar.set_postfix(shown)
            return
        left = ""
        if self.total is not None and step > self.start:
            pace = (time.monotonic() - self.started) / (step - self.start)
            left = f"  left {duration(pace * (self.total - step))}"
        of = f"/{self.total}" if self.total is not None else ""
        say(f"step {step}{of}  epoch {values['epoch']:.2f}  " + "  ".join(f"{k} {v}" for k, v in shown.items()) + left)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
