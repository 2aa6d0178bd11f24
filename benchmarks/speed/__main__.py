"""How fast Trefoil is beside what people would use instead, on this machine.

    python -m benchmarks.speed                          # all parts
    python -m benchmarks.speed train generate           # some
    python -m benchmarks.speed train --only Llama       # some contests of a part
    python -m benchmarks.speed texts infer --sst-2 FOLDER --rounds 3     # on data sets of real texts
    python -m benchmarks.speed --write docs             # renews tables, picture and numbers of docs/performance.md

Both of a pair run in turns in one process, with one thread on a CPU unless told otherwise; the medians of the paired ratios
are told with their quartiles. Memory is the peak of a process that does nothing else.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import torch
import transformers

from . import generate, growth, load, padding, refill, report, texts, train
from .contest import Contest, chosen, in_processes_of_their_own, measure, peak_of

PARTS = ("train", "texts", "padding", "generate", "refill", "infer", "memory", "growth", "load")


def contests_of(part: str, folders: dict[str, Path], device: torch.device) -> Iterator[Contest]:
    makers = {
        "train": lambda: train.contests(device), "memory": lambda: train.contests(device), "generate": generate.contests,
        "refill": refill.contests,
        "texts": lambda: texts.training(folders), "infer": lambda: texts.pipelines(folders),
    }  # fmt: skip
    return makers[part]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default="", metavar="TEXT", help="contests in whose name it is")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of runs of each contest")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="where performance.md is")
    for name in texts.RECIPES:
        parser.add_argument(f"--{name.lower()}", type=Path, dest=name, metavar="FOLDER", help="for texts and infer")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if arguments.parts == ["peak"]:
        [contest] = [each for each in train.contests(device) if str(each) == arguments.only]
        ours, theirs, _ = contest.make(device)
        return print(json.dumps(peak_of(ours if arguments.side == "ours" else theirs, device)))
    folders = {name: folder for name in texts.RECIPES if (folder := getattr(arguments, name)) is not None}
    parts = arguments.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found = report.Report(device)
    for part in parts:
        if part == "load":
            found.add_loading(load.measure())
            continue
        if part == "growth":
            found.add_growth(growth.BASE, growth.measure(device))
            continue
        if part == "padding":
            found.add_padding(padding.measure(folders))
            continue
        for contest in chosen(contests_of(part, folders, device), arguments.only):
            if part == "memory":
                found.add_peaks(contest, *in_processes_of_their_own(contest, device))
            else:
                found.add_outcome(part, measure(contest, device, arguments.rounds))
    if arguments.write is not None:
        found.write(arguments.write)


if __name__ == "__main__":
    main()
