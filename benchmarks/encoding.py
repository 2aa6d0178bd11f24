"""What a start costs where the data is turned into token ids: the first, which makes them, and the second, which finds them.

    python benchmarks/encoding.py --gigabytes 2 --limit-gigabytes 2 --limit-seconds 60

It writes as many gigabytes of generated text as `benchmarks/streaming.py` does, and trains a tokenizer. Then the data side of
a run starts twice, each time in a new process and with no model: rows, token ids, and a hundred batches. Exit code 1: a start
took more memory than the limit, or the second took longer.

Memory is that of the process itself and of those that `--workers` adds, at its peak, without the files that are mapped into
it, which the system gives back when it wants to; the last column counts them too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice, pairwise
from pathlib import Path

import psutil
from streaming import MEGABYTE, stream_data, write_texts

from trefoil.configuration.presets import preset_config
from trefoil.data.batching import Share
from trefoil.data.loading import load_split
from trefoil.data.tokenizer import load_tokenizer
from trefoil.recipes.schema import Recipe, build
from trefoil.training.models import Told
from trefoil.training.run import make_reader
from trefoil.training.training_data import SplitData

BATCHES = 100
STAGES = ("rows", "token ids", "batches")


def start(folder, workers):
    """The data side of a run; prints how long each stage took, in seconds."""
    content = {
        "task": "causal-lm",
        "data": {"path": str(folder)},
        "model": {"preset": "decoder-small"},
        "batches": {"tokens_per_batch": 32_768, "max_source_length": 1024, "workers": workers},
        "training": {"max_steps": BATCHES},
    }
    times = [time.perf_counter()]
    reader = make_reader(build(Recipe, content, "the benchmark"))
    rows = load_split(reader.recipe.data, "train", reader.columns(), reader.recipe.task, seed=0)
    times.append(time.perf_counter())
    tokenizer = load_tokenizer(folder / "tokenizer")
    config = preset_config("decoder-small", vocab_size=len(tokenizer))
    Told(reader, tokenizer, {}).tell(config)
    preprocessor = reader.task.preprocessor(reader, tokenizer, config)
    split = preprocessor.encode(rows, "train")
    times.append(time.perf_counter())
    for _ in islice(SplitData(preprocessor, split.examples, Share()).steps(0, 0), BATCHES):
        pass
    times.append(time.perf_counter())
    print(json.dumps([after - before for before, after in pairwise(times)]))


def measured(command, env):
    """The seconds of each stage of a process and, in MiB and at their peaks, its own memory, that of its children, and that of
    all with what is mapped into it."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    parent, peaks = psutil.Process(process.pid), [0.0, 0.0, 0.0]
    while process.poll() is None:
        try:
            infos = [one.memory_info() for one in (parent, *parent.children(recursive=True))]
        except psutil.Error:  # one of them has just ended
            continue
        own, *others = (info.rss - getattr(info, "shared", 0) for info in infos)
        found = (own, sum(others), sum(info.rss for info in infos))
        peaks = [max(peak, size / MEGABYTE) for peak, size in zip(peaks, found, strict=True)]
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"a start ended with exit code {process.returncode}")
    return json.loads(process.stdout.read().splitlines()[-1]), peaks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=0.2)
    parser.add_argument("--limit-gigabytes", type=float, default=2.0, help="of memory, at its peak")
    parser.add_argument("--limit-seconds", type=float, default=60.0, help="for the second start")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where text and token ids are written; default: a temporary folder")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)  # what this script runs itself with
    arguments = parser.parse_args()
    if arguments.start:
        return start(arguments.start, arguments.workers)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder, size = Path(place), int(arguments.gigabytes * 2**30)
        rows = write_texts(folder / "train.jsonl", size, seed=0)
        stream_data(folder, 0, 1000).preprocessor.tokenizer.save_pretrained(folder / "tokenizer")
        print(f"{size / 2**30:.2f} GiB, {rows:,} rows; {arguments.workers} workers\n", flush=True)
        print(
            f"| start | {' | '.join(f'{stage}, s' for stage in STAGES)} | in all, s | memory, MiB | of workers | with mapped files |"
        )
        print(f"|---{'|---:' * (len(STAGES) + 4)}|")
        command = [sys.executable, __file__, "--start", place, "--workers", str(arguments.workers)]
        env, most = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache")}, 0.0
        for which in ("first", "second"):
            seconds, peaks = measured(command, env)
            most = max(most, peaks[0] + peaks[1])
            cells = [f"{value:.1f}" for value in (*seconds, sum(seconds))] + [f"{peak:,.0f}" for peak in peaks]
            print(f"| {which} | {' | '.join(cells)} |", flush=True)
    if most > 1024 * arguments.limit_gigabytes:
        sys.exit(f"more than {arguments.limit_gigabytes} GiB")
    if sum(seconds) > arguments.limit_seconds:
        sys.exit(f"the second start took more than {arguments.limit_seconds} s")


if __name__ == "__main__":
    main()
