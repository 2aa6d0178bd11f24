"""The claims of docs/attention.md, measured: every figure and table there.

    python -m benchmarks.claims [CLAIM …] [--multi30k FOLDER_OR_HUB_ID] [--jobs 2] [--draw-only]

Trainings lie in `runs/claims` and are not done twice, so after a change of the code `rm -r runs/claims` comes first. A killed command
goes on where it was. Without `--multi30k`, what is measured on it is left out.
"""

import argparse
import importlib
import json
import os
import sys
import time

from trefoil.configuration.errors import UserError

from .draw import write_table
from .runs import RUNS, train_all

CLAIMS = ("length", "scores", "heads", "masking", "positions", "depth", "cost", "context", "alignment", "captioning")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claims", description="Measure the claims of docs/attention.md."
    )
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"default: all of {', '.join(CLAIMS)}")
    parser.add_argument("--multi30k", metavar="FOLDER", help="a folder with Multi30k as JSON lines, or its Hub id")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time (default: one a core)")
    parser.add_argument("--draw-only", action="store_true", help="figures and tables from what was measured before")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: at least one training runs at a time")
    if unknown := set(arguments.claims) - set(CLAIMS):
        parser.error(f"unknown claim {min(unknown)!r}; there are {', '.join(CLAIMS)}")
    chosen = {name: importlib.import_module(f"benchmarks.claims.{name}") for name in arguments.claims or CLAIMS}
    started = time.perf_counter()
    if not arguments.draw_only:
        runs = {name: claim.runs(arguments.multi30k) for name, claim in chosen.items()}
        train_all([run for each in runs.values() for run in each], arguments.jobs)
        for name, claim in chosen.items():
            print(f"measuring {name}", file=sys.stderr, flush=True)
            measured = json.dumps(claim.measure(runs[name]), indent=1, ensure_ascii=False)
            (RUNS / f"{name}.json").write_text(measured + "\n", encoding="utf-8")
    for name, claim in chosen.items():
        file = RUNS / f"{name}.json"
        if not file.is_file():
            raise UserError(f"{file}: not there; {name} was not measured, so leave --draw-only out")
        measured = json.loads(file.read_text(encoding="utf-8"))
        claim.draw(measured)
        for place, table in claim.tables(measured).items():
            write_table(place, table)
    print(f"{', '.join(chosen)}: done in {(time.perf_counter() - started) / 60:.0f} minutes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
