"""Two ways to the same result, timed in turns, and the memory of each."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

LONG = 2.0  # seconds of a run that needs no more than one to warm up


@dataclass(frozen=True)
class Done:
    """What a run did that does not always do the same."""

    tokens: int
    seconds: float


Run = Callable[[], object]  # what it returns counts where it is `Done`


@dataclass(frozen=True)
class Contest:
    """Work that Trefoil and a peer do.

    Attributes:
        work: What is done.
        peer: Who else does it.
        make: On a device, makes ours, theirs, and the number of tokens, without padding, in each.
        target: The ratio of speeds, ours to theirs, that we are after.
        is_compiled: Both are compiled when they first run, which takes a while.
    """

    work: str
    peer: str
    make: Callable[[torch.device], tuple[Run, Run, int]]
    target: float | None = None
    is_compiled: bool = False

    def __str__(self) -> str:
        return f"{self.work}, {self.peer}"


@dataclass
class Outcome:
    """What a contest measured.

    Attributes:
        ratios: Speeds, ours to theirs, of each pair of runs; more than one: ours is faster.
        seconds: Of ours and of theirs, the median of a run.
        speed: Of ours, in tokens a second, without padding.
        flops: Of one run of ours, in matrix products and attention; 0 where it does not always do the same.
    """

    contest: Contest
    ratios: list[float]
    seconds: tuple[float, float]
    speed: float
    flops: int

    @property
    def quartiles(self) -> tuple[float, float, float]:
        if len(self.ratios) == 1:
            return (self.ratios[0],) * 3
        return tuple(statistics.quantiles(self.ratios, n=4, method="inclusive"))  # type: ignore[return-value]


def timed(run: Run, tokens: int, device: torch.device) -> Done:
    _wait(device)
    started = time.perf_counter()
    done = run()
    _wait(device)
    return done if isinstance(done, Done) else Done(tokens, time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(contest: Contest, device: torch.device, rounds: int) -> Outcome:
    """Both in turns, first the one, then the other: what drifts in the machine does both alike."""
    ours, theirs, tokens = contest.make(device)
    # what is compiled would not be counted
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        is_always_the_same = not isinstance(ours(), Done)
    if contest.is_compiled or timed(theirs, tokens, device).seconds < LONG:
        for run in (ours, theirs) * 2:
            run()
    taken: list[dict[Run, Done]] = []
    for number in range(rounds):
        pair = (theirs, ours) if number % 2 else (ours, theirs)
        taken.append({run: timed(run, tokens, device) for run in pair})
    ratios = [pair[ours].tokens / pair[ours].seconds * pair[theirs].seconds / pair[theirs].tokens for pair in taken]
    return Outcome(
        contest,
        ratios,
        seconds=tuple(statistics.median(pair[run].seconds for pair in taken) for run in (ours, theirs)),  # type: ignore[arg-type]
        speed=statistics.median(pair[ours].tokens / pair[ours].seconds for pair in taken),
        flops=counter.get_total_flops() if is_always_the_same else 0,
    )


class Peak:
    """The most memory in bytes that is in use while the block runs, above what was before it: of the device, or resident."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> "Peak":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            self.process, self.done = psutil.Process(), threading.Event()
            self.before = self.process.memory_info().rss
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.bytes = max(self.bytes, self.process.memory_info().rss - self.before)

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self.before
        else:
            self.done.set()
            self.thread.join()


def peak_of(run: Run, device: torch.device) -> int:
    """Bytes of the first run, in which everything that stays is made too."""
    with Peak(device) as peak:
        run()
    return peak.bytes


def in_processes_of_their_own(contest: Contest, device: torch.device) -> tuple[int, int]:
    """The peaks of ours and of theirs, each in a process that has run nothing else: one that has had memory keeps it. glibc is
    told to give back at once what is let go of, or holes between what is in use would count too."""
    command = [
        sys.executable, "-m", "benchmarks.speed", "peak", "--device", device.type, "--only", str(contest),
        "--threads", str(torch.get_num_threads()), "--side",
    ]  # fmt: skip
    found, environment = [], os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    for side in ("ours", "theirs"):
        process = subprocess.run([*command, side], stdout=subprocess.PIPE, text=True, check=True, env=environment)
        found.append(json.loads(process.stdout.splitlines()[-1]))
    return found[0], found[1]


def chosen(contests: Iterator[Contest], only: str) -> list[Contest]:
    return [contest for contest in contests if only.lower() in str(contest).lower()]
