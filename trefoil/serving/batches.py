"""Dynamic batching: what comes while the model works is taken together by the next call."""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar


class Job(Protocol):
    """
    Attributes:
        tokens: That are read.
        key: Jobs are done together where it is the same.
        gone: Whether nobody waits for it any more.
    """

    gone: bool

    @property
    def tokens(self) -> int: ...

    @property
    def key(self) -> Hashable: ...


AnyJob = TypeVar("AnyJob", bound=Job)


def choose(waiting: Sequence[AnyJob], rows: int, tokens: int) -> list[AnyJob]:
    """The job that waits longest, and of those that may go with it the ones of like length, as many as fit.

    Args:
        rows: At most so many.
        tokens: At most so many, padding included; one job in any case.
    """
    first, *others = waiting
    chosen, longest = [first], first.tokens
    for job in sorted((job for job in others if job.key == first.key), key=lambda job: abs(job.tokens - first.tokens)):
        longest = max(longest, job.tokens)
        if len(chosen) == rows or longest * (len(chosen) + 1) > tokens:
            break
        chosen.append(job)
    return chosen


class Worker(Generic[AnyJob]):
    """A thread that does jobs, many at a time.

    Args:
        work: Does some jobs; raises nothing.
        rows: At a time.
        tokens: At a time.
    """

    def __init__(self, work: Callable[[list[AnyJob]], None], rows: int, tokens: int) -> None:
        self.work, self.rows, self.tokens = work, rows, tokens
        self.waiting: list[AnyJob] = []
        self.stops = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="trefoil-serve", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def add(self, jobs: Sequence[AnyJob]) -> None:
        with self.changed:
            self.waiting += jobs
            self.changed.notify()

    def stop(self, seconds: float) -> None:
        """Ends after the call that runs."""
        with self.changed:
            self.stops = True
            self.changed.notify()
        self.thread.join(seconds)

    def _run(self) -> None:
        while batch := self._next():
            self.work(batch)

    def _next(self) -> list[AnyJob]:
        with self.changed:
            while not self.stops:
                self.waiting = [job for job in self.waiting if not job.gone]
                if self.waiting:
                    batch = choose(self.waiting, self.rows, self.tokens)
                    taken = set(map(id, batch))
                    self.waiting = [job for job in self.waiting if id(job) not in taken]
                    return batch
                self.changed.wait()
        return []
