"""How a run is asked to stop: by a scheduler, a launcher or a person."""

import os
import signal
import sys
import threading
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


@contextmanager
def interrupting() -> Iterator[None]:
    """Have each signal that asks to stop raise KeyboardInterrupt until the block ends; where it came in a destructor, in which
    Python drops what is raised, once more a moment later."""
    usual = sys.unraisablehook

    def dropped(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            usual(unraisable)

    sys.unraisablehook = dropped
    try:
        with heard(signal.default_int_handler):
            yield
    finally:
        sys.unraisablehook = usual


@contextmanager
def held_back() -> Iterator[None]:
    """Have the signals that ask to stop wait until the block ends, and for processes that start in it until they are
    `set_apart`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_apart() -> None:
    """Take this process out of the group of the one that started it. A launcher's signal is for all of the group, and would
    end what helps a training process before that has saved."""
    if not hasattr(os, "setpgid"):
        return
    os.setpgid(0, 0)
    while pending := signal.sigpending() & {*STOP_SIGNALS}:  # what came before it was apart
        signal.sigwait(pending)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
