"""What a stream costs: the peak memory of a process that makes batches of it, and how fast it does.

    python benchmarks/streaming.py --gigabytes 5 --limit-gigabytes 2

It writes as many gigabytes of generated text (Korean, English, emoji), streams all of it through the data pipeline of a
causal language model, with no model, and exits with code 1 where the peak memory is above the limit. With
`--workers 1` the batches are made in another process, as while training, and its memory counts too.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from accelerate import Accelerator

from trefoil.configuration.presets import preset_config
from trefoil.data.batching import Share
from trefoil.data.mixture import sample
from trefoil.data.streaming import open_sources
from trefoil.data.tokenizer import train_tokenizer
from trefoil.recipes.schema import Recipe, build
from trefoil.training.models import Told
from trefoil.training.run import make_reader
from trefoil.training.training_data import StreamData

SENTENCE = "나는 오늘 학교에서 친구를 만났다 그리고 집으로 갔다 the quick brown fox jumps over a lazy dog while it rains 🙂 🧑‍🚀"
WORDS = SENTENCE.split()
MEGABYTE = 2**20


def write_texts(file, size, seed):
    """A file of so many bytes, with documents of 20 to 2,000 words."""
    shuffled = random.Random(seed)
    paragraphs = [" ".join(shuffled.choices(WORDS, k=20)) for _ in range(2000)]
    written = 0
    with file.open("w", encoding="utf-8") as lines:
        for number in count():
            text = f"{number} " + " ".join(shuffled.choices(paragraphs, k=int(shuffled.paretovariate(1.2)) % 100 + 1))
            line = json.dumps({"text": text}, ensure_ascii=False) + "\n"
            lines.write(line)
            written += len(line.encode())
            if written >= size:
                return number + 1


def stream_data(folder, workers, shuffle_buffer):
    content = {
        "task": "causal-lm",
        "data": {"path": str(folder), "streaming": True, "shuffle_buffer": shuffle_buffer},
        "model": {"preset": "decoder-small"},
        "batches": {"tokens_per_batch": 32_768, "max_source_length": 1024, "workers": workers},
        "training": {"max_steps": 1},
    }
    reader = make_reader(build(Recipe, content, "the benchmark"))
    sources = open_sources(reader.recipe.data, reader.column_names())
    start = sample(sources, reader.columns(), 5000)
    tokenizer = train_tokenizer(iter([start["text"]]), reader.recipe.tokenizer, reader.template)
    config = preset_config("decoder-small", vocab_size=len(tokenizer))
    Told(reader, tokenizer, {}).tell(config)
    return StreamData(reader.task.preprocessor(reader, tokenizer, config), sources, Share())


def rows_used(data):
    return next(value for name, value in data.measured().items() if name.endswith("/rows"))


def peak_megabytes(workers):
    mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if workers else 0  # of the largest
    return (mine + others) * (1 if sys.platform == "darwin" else 1024) / MEGABYTE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=0.2)
    parser.add_argument("--limit-gigabytes", type=float, default=2.0, help="of memory, at its peak")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--shuffle-buffer", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the text is written; default: a temporary folder")
    arguments = parser.parse_args()
    Accelerator(cpu=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        size = int(arguments.gigabytes * 2**30)
        rows = write_texts(Path(folder) / "train.jsonl", size, seed=0)
        print(f"{size / 2**30:.2f} GiB, {rows:,} rows", flush=True)
        data = stream_data(folder, arguments.workers, arguments.shuffle_buffer)
        before, started, told, tokens = peak_megabytes(0), time.perf_counter(), time.perf_counter(), 0
        steps = data.steps(0, 0)
        for micro_batches, place in steps:
            tokens += micro_batches[0]["input_ids"].numel()
            if time.perf_counter() - told > 60:
                told = time.perf_counter()
                print(f"{rows_used(data):,} rows in {told - started:.0f} s", flush=True)
            if place.progress >= 1:  # the block that is used now began behind the end
                break
        seconds, used = time.perf_counter() - started, rows_used(data)
        steps.close()
    peak = peak_megabytes(arguments.workers)
    print(
        f"{used:,} rows, {tokens:,} tokens in {seconds:.0f} s: {used / seconds:,.0f} rows/s, {tokens / seconds:,.0f} tokens/s, "
        f"{used / rows * size / seconds / MEGABYTE:.1f} MiB/s"
    )
    print(f"peak memory: {peak:,.0f} MiB, {before:,.0f} of it before the first batch")
    if peak > 1024 * arguments.limit_gigabytes:
        sys.exit(f"more than {arguments.limit_gigabytes} GiB")


if __name__ == "__main__":
    main()
