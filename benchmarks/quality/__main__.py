"""How well Trefoil's recipes do beside what one would try first, on the same files, threads and minutes.

    python -m benchmarks.quality --sst-2 FOLDER --wnut-17 FOLDER            # all that can be compared on these
    python -m benchmarks.quality text-classification --nsmc FOLDER --minutes 10 --seeds 3
    python -m benchmarks.quality text-classification --sst-2 FOLDER --rows 1000 3000 10000    # learning curves
    python -m benchmarks.quality --sst-2 FOLDER --models "TF-IDF, words" CRF    # some of the models
    python -m benchmarks.quality --write docs             # renews tables and picture of docs/quality.md by what was found

Runs lie in `runs/quality`, are done one after the other, ours and the peers' in turns, each in a process of its own on so many
cores as threads, and are not done twice: a killed command goes on where it was. `taskset` chooses the cores.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets

from trefoil.configuration.errors import UserError
from trefoil.configuration.version import __version__

from . import report
from .data import AS_WRITTEN, DATA, DataSet, write_splits
from .runs import ROOT, Outcomes, Run, pin
from .worker import MODELS


def chosen_models(data: DataSet, task: str, names: list[str] | None, is_curve: bool) -> list[str]:
    """Those to run, ours first; of a curve, where nothing is said, ours and the first peer."""
    models = MODELS[task]
    known = [name for name, model in models.items() if data.has_closed_vocabulary or not model.wants_closed_vocabulary]
    known = [name for name in known if names is None or name in names]
    for name in known:
        if not models[name].is_installed:
            print(f"{models[name].package[1]} is not installed, and its rows are left out", file=sys.stderr)
    known = [name for name in known if models[name].is_installed]
    return known[:2] if is_curve and names is None else known


def runs_of(data: DataSet, source: Path | None, arguments: argparse.Namespace) -> Iterator[Run]:
    """In turns: all models of a seed, then those of the next."""
    recipe = data.recipe_of(source)
    task, made_by = recipe.task, hashlib.sha256(f"{__version__} {recipe.to_yaml()}".encode()).hexdigest()[:8]
    for rows in arguments.rows or [None]:
        for seed in range(arguments.seeds):
            files = write_splits(data, source, arguments.output.absolute(), rows, seed)
            for name in chosen_models(data, task, arguments.models, rows is not None):
                model = MODELS[task][name]
                changes = data.changes + (data.stock_changes if model.is_stock else ())
                if seed and rows is None and not model.is_timed:  # it would be the same
                    continue
                yield Run(
                    task, data.name, name, seed, rows, arguments.minutes if model.is_timed else None, arguments.threads,
                    data.recipe, (*changes, *AS_WRITTEN, f"data.path={files.folder}"), f"{files.content}-{made_by}", files.rows,
                )  # fmt: skip


def positive(kind: type) -> object:
    def read(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    read.__name__ = kind.__name__
    return read


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(MODELS)}; default: all")
    for name, data in DATA.items():
        if not data.is_embedded:
            parser.add_argument(f"--{name.lower()}", type=Path, dest=name, metavar="FOLDER", help=f"for {data.recipe}")
    parser.add_argument("--embedded", action="store_true", help="also on what the package generates")
    parser.add_argument("--minutes", type=positive(float), default=5.0, help="of each training (default: 5)")
    parser.add_argument("--seeds", type=positive(int), default=2, help="default: 2")
    parser.add_argument("--threads", type=positive(int), default=1, help="and cores (default: 1)")
    parser.add_argument("--rows", type=positive(int), nargs="+", metavar="N", help="so many training rows, for curves")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="ours, or as in the tables; default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "quality", metavar="FOLDER", help="of the runs")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="where quality.md is")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(MODELS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    if unknown := set(arguments.models or ()) - {name for models in MODELS.values() for name in models}:
        names = dict.fromkeys(name for models in MODELS.values() for name in models)
        parser.error(f"no such model: {', '.join(sorted(unknown))}; there are {'; '.join(names)}")
    return arguments


def main() -> None:
    arguments = parsed()
    datasets.disable_progress_bars()
    pin(arguments.threads)
    outcomes = Outcomes(arguments.output)
    with outcomes.claimed():
        for name, data in DATA.items():
            source = getattr(arguments, name, None)
            if (source is None and not (data.is_embedded and arguments.embedded)) or (
                arguments.parts and data.recipe_of(source).task not in arguments.parts
            ):
                continue
            outcomes.do(list(runs_of(data, source and source.absolute(), arguments)))
        rows = report.rows_of(outcomes.read().values())
    for task in dict.fromkeys(row.task for row in rows):
        print(report.table(report.HEADER, [report.line(row) for row in rows if row.task == task]), end="\n\n")
    for points in report.curves(rows).values():
        print(report.sentence(points))
    if arguments.write is not None:
        report.write(rows, arguments.write)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
