"""What a training shows: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm.auto import tqdm

from ..data.progress import duration, say, shows_bars


def timed(items: Iterable[Any]) -> Iterator[tuple[Any, float]]:
    """Each item, and the seconds that it was waited for."""
    iterator = iter(items)
    while True:
        started = time.perf_counter()
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield item, time.perf_counter() - started


class TrainingProgress:
    """A bar over optimiser steps, or a plain line for each logged step."""

    def __init__(self, start: int, visible: bool) -> None:
        self.visible, self.start, self.started = visible, start, time.monotonic()
        self.bar = tqdm(initial=start, desc="training", file=sys.stderr) if visible and shows_bars() else None

    def step(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def show(self, step: int, total: int | None, values: dict[str, Any]) -> None:
        """Show the values of a logged step, and the time left until `total` steps are done, or why it was left out."""
        if not self.visible:
            return
        if "fault" in values:
            say(f"step {step}: {values['fault']}; left out ({values['skipped_steps']} so far)")
            return
        shown = {
            "loss": f"{values['loss']:.4f}",
            "lr": f"{values['learning_rate']:.2e}",
            "tok/s": f"{values['tokens_per_second']:,.0f}",
            "mfu": f"{values['mfu']:.0%}",
        }
        if self.bar is not None:
            self.bar.total = total
            self.bar.set_postfix(shown)
            return
        left = ""
        if total is not None and step > self.start:
            pace = (time.monotonic() - self.started) / (step - self.start)
            left = f"  left {duration(pace * (total - step))}"
        of = f"/{total}" if total is not None else ""
        say(f"step {step}{of}  epoch {values['epoch']:.2f}  " + "  ".join(f"{k} {v}" for k, v in shown.items()) + left)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
