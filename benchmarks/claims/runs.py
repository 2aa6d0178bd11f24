"""Training runs of the claims: ordinary recipes, some with one part of the model exchanged, each in a process of its own.

python -m benchmarks.claims.runs EXCHANGE RECIPE [key=value …]     # one of them; EXCHANGE as `module.function`, or `-`
"""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trefoil.configuration.errors import UserError
from trefoil.training.run_folder import RunFolder

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNS = ROOT / "runs" / "claims"


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: Its folder in `runs/claims`.
        recipe: A YAML file of this folder, without its suffix, or a recipe of the package.
        overrides: `key.sub=value`.
        exchange: `module.function` of this folder, which exchanges a part of the model before the recipe is run.
        may_diverge: A loss that is no number is a result, not a failure.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    exchange: str = "-"
    may_diverge: bool = False

    @property
    def folder(self) -> Path:
        return RUNS / self.name

    @property
    def best(self) -> Path:
        return RunFolder(self.folder).best.path

    def log(self) -> list[dict[str, Any]]:
        return read_lines(RunFolder(self.folder).log)

    def predictions(self) -> list[dict[str, Any]]:
        return read_lines(RunFolder(self.folder).predictions)

    def results(self) -> dict[str, Any]:
        return RunFolder(self.folder).best.read_results()

    def has_diverged(self) -> bool:
        log = self.folder.with_suffix(".log")
        said = re.compile(r"^error: .*: the loss is (nan|inf)", re.MULTILINE)
        return self.may_diverge and log.is_file() and bool(said.search(log.read_text(encoding="utf-8")))

    def is_finished(self) -> bool:
        return self._recorded() == asdict(self) and (bool(self.results()) or self.has_diverged())

    def _recorded(self) -> dict[str, Any] | None:
        file = self.folder.with_suffix(".run.json")
        if not file.is_file():
            return None
        content = json.loads(file.read_text(encoding="utf-8"))
        return {"may_diverge": False} | content | {"overrides": tuple(content["overrides"])}

    def train(self) -> float:
        """Train in a process with one thread, or go on where it was left; the seconds that it took.

        Raises:
            UserError: It failed; the message has the last line of its log.
        """
        if self._recorded() != asdict(self):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.with_suffix(".run.json").write_text(json.dumps(asdict(self)), encoding="utf-8")
        local = HERE / f"{self.recipe}.yaml"
        arguments = [self.exchange, str(local if local.is_file() else self.recipe), *self.overrides]
        log = self.folder.with_suffix(".log")
        started = time.perf_counter()
        with log.open("w", encoding="utf-8") as lines:
            code = subprocess.run(
                [sys.executable, "-m", "benchmarks.claims.runs", *arguments, f"output_dir={self.folder}"],
                cwd=ROOT, stdout=lines, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
            ).returncode  # fmt: skip
        if code != 0 and not self.has_diverged():
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["it printed nothing"]
            raise UserError(f"{self.name} failed ({log}): {last[0]}")
        return time.perf_counter() - started


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def train_all(runs: Sequence[Run], jobs: int) -> dict[str, float]:
    """Train what is not finished, `jobs` at a time; the seconds of each."""
    waiting = list(dict.fromkeys(run for run in runs if not run.is_finished()))
    seconds: dict[str, float] = {}
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(waiting), disable=not sys.stderr.isatty()) as bar:
        futures = {pool.submit(run.train): run for run in waiting}
        for future in as_completed(futures):
            run = futures[future]
            try:
                seconds[run.name] = future.result()
            except UserError:
                pool.shutdown(cancel_futures=True)
                raise
            bar.update()
            tqdm.write(f"trained {run.name} in {seconds[run.name]:.0f} s ({len(seconds)} of {len(waiting)})")
    return seconds


def exchange_part(name: str) -> Callable[[], None]:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(f"benchmarks.claims.{module}"), function)


if __name__ == "__main__":
    from trefoil.cli import main

    if sys.argv[1] != "-":
        exchange_part(sys.argv[1])()
    code = main(["train", *sys.argv[2:]])
    if code == 0:
        print(f"{time.process_time():.0f} s of processor time")
    sys.exit(code)
