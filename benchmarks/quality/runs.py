"""Runs, each in a process of its own, and the file of what they gave, from which a killed benchmark goes on."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from trefoil.configuration.errors import UserError

ROOT = Path(__file__).parents[2]
# how the libraries at work are told
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Run:
    """One training, by all that it depends on.

    Attributes:
        data: The data set's name.
        model: `ours`, or a peer's name.
        rows: Of the training split, as the command asked; None: all.
        minutes: Of training; None for what ends by itself.
        recipe, overrides: Ours; where the files are, what they hold and which task it is, a peer takes from it too.
        content: Hashes of the files, and of the recipe with the version of the package.
        train_rows: That there are.
    """

    task: str
    data: str
    model: str
    seed: int
    rows: int | None
    minutes: float | None
    threads: int
    recipe: str
    overrides: tuple[str, ...]
    content: str
    train_rows: int

    @property
    def name(self) -> str:
        """Of its folder."""
        key = hashlib.sha256(self.to_json().encode()).hexdigest()[:10]
        return f"{self.data}-{self.model}-{self.seed}-{key}".replace(" ", "-")

    def __str__(self) -> str:
        rows = "" if self.rows is None else f", {self.rows} rows"
        return f"{self.data}{rows}: {self.model}, seed {self.seed}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Run":
        return cls(**content | {"overrides": tuple(content["overrides"])})


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        score: On the test split.
        seconds: Of training.
        how: What a peer chose, for the table.
        parts: What the score is a function of the sum of `(examples, parts)`.
    """

    run: Run
    score: float
    seconds: float
    how: str
    parts: np.ndarray


class Outcomes:
    """`outcomes.jsonl`, a line as each run ends, and a folder of each run beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.file = self.folder / "outcomes.jsonl"

    def folder_of(self, run: Run) -> Path:
        return self.folder / run.name

    def read(self) -> dict[Run, Outcome]:
        """In the order in which they ended."""
        found = {}
        for line in self.file.read_bytes().splitlines() if self.file.is_file() else []:
            try:
                content = json.loads(line)
            except ValueError:
                continue  # the process was killed while it wrote this line
            run = Run.from_json(content.pop("run"))
            parts = self.folder_of(run) / "parts.npy"
            if parts.is_file():
                found.pop(run, None)
                found[run] = Outcome(run, **content, parts=np.load(parts))
        return found

    def add(self, line: str) -> None:
        with self.file.open("ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            is_torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * is_torn + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """
        Raises:
            UserError: Another process is at work here.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / ".lock", timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise UserError(f"{self.folder}: another benchmark is at work here; wait for it, or set --output") from None
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror}); set another --output") from None
        with lock:
            yield

    def do(self, runs: Sequence[Run]) -> None:
        """What was not done before, one run after the other.

        Raises:
            UserError: One failed; names its log and has the last line of it.
        """
        done = self.read()
        for number, run in enumerate(runs, start=1):
            if run in done:
                continue
            folder = self.folder_of(run)
            folder.mkdir(parents=True, exist_ok=True)
            finished = folder / "outcome.json"  # perhaps by a process that outlived the benchmark
            if not finished.is_file():
                self._start(run, folder)
            line = finished.read_text(encoding="utf-8")
            self.add(line)
            content = json.loads(line)
            print(f"{number} of {len(runs)}  {run}: {content['score']:.2f} in {content['seconds']:.0f} s", flush=True)

    def _start(self, run: Run, folder: Path) -> None:
        log = folder / "log.txt"
        with log.open("w", encoding="utf-8") as lines:
            command = [sys.executable, "-m", "benchmarks.quality.worker", run.to_json(), str(folder)]
            code = subprocess.run(command, cwd=ROOT, stdout=lines, stderr=subprocess.STDOUT, check=False).returncode
        if code != 0:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
            raise UserError(f"{run} failed ({log}): {last[0].removeprefix('error: ')}")


def pin(threads: int) -> None:
    """Keep this process, and those that it starts, on so many cores and threads.

    Raises:
        UserError: There are not so many cores.
    """
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        cores = sorted(os.sched_getaffinity(0))
        if threads > len(cores):
            raise UserError(f"--threads {threads}: this process may use {len(cores)} cores")
        os.sched_setaffinity(0, cores[:threads])
    os.environ.update(dict.fromkeys(THREADS, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"})
