"""How a run is asked to stop: by a scheduler, a launcher or a person."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# SIGUSR1 is what SLURM is told to send before the time is up; Windows has none
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))


@contextmanager
def heard(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    """Have `handler` called on each signal that asks to stop, until the block ends."""
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
