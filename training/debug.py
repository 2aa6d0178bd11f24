"""A look at a run before it is one: what its data and its model are like, or its first steps; nothing is kept."""

import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from ..data.loading import row_place, split_name
from ..data.progress import duration, say
from ..data.splitting import row_keys
from ..data.whole_files import remove
from ..recipes.schema import Recipe
from ..tasks.labelled import LabelledReader
from ..tasks.preprocessor import Preprocessor, Split
from ..tasks.reader import Reader, shortened
from .optimization import planned_steps
from .run import Prepared, load_splits, make_accelerator, make_checked_reader, make_loop, prepare, train
from .run_folder import RunFolder
from .zero import make_engine

FEW = 64  # rows that a dry run evaluates
STEPS = 3  # that it takes
MEASURED = 5  # steps by which time and memory are told, after a first that is slower
SHOWN = 10  # invalid rows, and labels


def dry_run(recipe: Recipe) -> None:
    """Train for three steps, evaluate a few rows, and delete what was written; but for token ids, which the run would make
    again.

    Raises:
        UserError: As of a run.
    """
    # the processes of a launch have one parent
    owner = os.getppid() if int(os.environ.get("WORLD_SIZE", 1)) > 1 else os.getpid()
    folder = Path(tempfile.gettempdir()) / f"trefoil-dry-run-{owner}"
    recipe.output_dir, recipe.overwrite, recipe.data.test_split = str(folder), True, None
    training, evaluation = recipe.training, recipe.evaluation
    training.max_steps, training.max_epochs, training.max_minutes = STEPS, None, None
    training.log_every, training.evaluate_every, training.save_every, training.save_minutes = 1, STEPS, STEPS, None
    training.average_checkpoints, training.trackers, recipe.optimization.warmup_steps = 1, [], None
    evaluation.max_examples = min(FEW, evaluation.max_examples or FEW)
    is_main = int(os.environ.get("RANK", 0)) == 0
    if is_main:
        rows = evaluation.max_examples
        say(f"dry run: {STEPS} steps and an evaluation of {rows} rows at most, in a folder that is then deleted")
    try:
        train(recipe)
    finally:
        if is_main and RunFolder(folder).marker.exists():
            remove(folder)


def describe(recipe: Recipe) -> Iterator[str]:
    """What a person should know of a recipe's data and model, in lines. Invalid rows are told and left out.

    Raises:
        UserError: As of a run, before its first step.
    """
    reader = make_checked_reader(recipe)
    is_skipping = recipe.data.invalid_examples == "skip"
    fate = "which are left out" if is_skipping else "at which the run stops, unless data.invalid_examples=skip"
    recipe.data.invalid_examples, recipe.training.trackers = "skip", []
    with tempfile.TemporaryDirectory() as folder:
        run_folder = RunFolder(folder)
        accelerator = make_accelerator(recipe, run_folder)
        engine = make_engine(accelerator)
        engine.require(recipe)
        set_seed(recipe.seed)
        prepared = prepare(reader, engine, run_folder)
        raw = load_splits(reader, accelerator, prepared.sources)
        yield from _of_rows(reader, raw, fate)
        for kind, split in prepared.splits.items():
            yield from _of_lengths(kind, split, prepared.preprocessor)
        yield from _of_examples(prepared)
        yield from _of_steps(prepared, make_loop(prepared, engine, run_folder), accelerator)


def _of_rows(reader: Reader, raw: dict[str, datasets.Dataset], fate: str) -> Iterator[str]:
    """How many there are of each split, what they are labelled, which are invalid, and which come twice.

    Args:
        fate: What comes of rows that are invalid.
    """
    data = reader.recipe.data
    texts = [name for role in reader.text_roles() if (name := reader.column(role)) is not None]
    keys = {kind: row_keys(rows, texts) for kind, rows in raw.items()}
    for kind, rows in raw.items():
        where = split_name(data, getattr(data, f"{kind}_split"))
        yield f"{kind}: {len(rows):,} rows ({where.removesuffix(f' ({kind})')})"
        rows = reader.prepared(rows, where)
        if isinstance(reader, LabelledReader):
            yield f"  labels: {_balance(reader.label_counts(rows))}"
        invalid, place = [*_invalid(reader, rows)], row_place(data, rows, where)
        if invalid:
            yield f"  {len(invalid):,} invalid rows, {fate}"
            yield from (f"    {place(index)}: {problem}" for index, problem in invalid[:SHOWN])
        if twice := len(rows) - len(np.unique(keys[kind])):
            yield f"  {twice:,} rows whose text stands in a row before"
        for other in [other for other in raw if other != kind] if kind == "train" else []:
            if leaks := int(np.isin(keys[other], keys[kind]).sum()):
                share = leaks / len(keys[other])
                yield f"  {leaks:,} rows of {other} ({share:.1%}) have a text that is trained on: scores will be too good"


def _balance(counts: Counter[str]) -> str:
    more = f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else ""
    return (
        ", ".join(f"{name} {count:,} ({count / counts.total():.1%})" for name, count in counts.most_common(SHOWN))
        + more
    )


def _invalid(reader: Reader, rows: datasets.Dataset) -> Iterator[tuple[int, str]]:
    found = (problem for batch in reader.batches(rows) for problem in reader.problems(batch))
    return ((index, problem) for index, problem in enumerate(found) if problem is not None)


def _of_lengths(kind: str, split: Split, preprocessor: Preprocessor) -> Iterator[str]:
    lengths = preprocessor.lengths(split.examples)
    for side, of_side in zip(preprocessor.sides, lengths.T, strict=False):
        half, most, nearly_all = np.quantile(of_side, [0.5, 0.9, 0.99])
        yield (
            f"{kind}, {side}: {of_side.sum():,} tokens in {len(of_side):,} examples; half have at most {half:.0f}, 90% {most:.0f}, "
            f"99% {nearly_all:.0f}, the longest {of_side.max()}"
        )
    yield from split.remarks()


def _of_examples(prepared: Prepared) -> Iterator[str]:
    """Three of the first, as the model sees them."""
    preprocessor, tokenizer = prepared.preprocessor, prepared.preprocessor.tokenizer
    indices = np.arange(min(3, len(prepared.splits["train"].examples)))
    rows = preprocessor.randomize(prepared.splits["train"].examples[indices], indices, 0)
    batch = preprocessor.collate(rows)
    for row in indices:
        yield f"example {row + 1}, as the model sees it"
        for name in ("input_ids", *preprocessor.label_names):
            if name not in batch:
                continue
            values = batch[name][row]
            if name == "input_ids" or preprocessor.reader.predicts_tokens:
                here = (
                    batch["attention_mask"][row] > 0
                    if name == "input_ids" and "attention_mask" in batch
                    else values >= 0
                )
                # a token for itself: byte for byte, nobody reads Korean
                shown = "|".join(tokenizer.decode([number]) for number in values[here].tolist())
            else:
                shown = _labels(values, preprocessor)
            yield f"  {name}: {shortened(shown, 400)}"


def _labels(values: torch.Tensor, preprocessor: Preprocessor) -> str:
    names: list[str] = getattr(preprocessor, "labels", [])
    if values.is_floating_point() or not names:
        return str(values.tolist())
    return " ".join("-" if value < 0 else names[value] for value in values.reshape(-1).tolist())


def _of_steps(prepared: Prepared, loop: Any, accelerator: Accelerator) -> Iterator[str]:
    """The model's size, and the time and memory of its first steps."""
    model, training = prepared.model, prepared.preprocessor.recipe.training
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    yield f"{type(model).__name__}: {model.num_parameters():,} parameters, {trained:,} of them trained"
    steps = loop.data.steps(0, 0)
    found = [loop.step(micro_batches) | {"seconds": loop.elapsed} for micro_batches, _ in islice(steps, 1 + MEASURED)]
    seconds = statistics.median(one["seconds"] for one in found[1:] or found)
    tokens = statistics.mean(one["tokens"] for one in found)
    losses = [one["loss"] for one in found if "loss" in one]
    yield (
        f"steps of {tokens:,.0f} tokens, padding included, take {seconds:.2g} s: {tokens / seconds:,.0f} tokens a second "
        f"on {accelerator.device.type}" + (f"; the first loss is {losses[0]:.3g}" if losses else "")
    )
    planned = planned_steps(training, loop.data.steps_per_epoch, 0, 0)
    within = "" if training.max_minutes is None else f", ended after {duration(60 * training.max_minutes)}"
    if planned is not None:
        yield f"the run takes {planned:,} steps, about {duration(planned * seconds)}{within}; evaluation not counted"
    elif within:
        yield f"the run takes about {60 * (training.max_minutes or 0) / seconds:,.0f} steps{within}"
    yield f"memory with these steps: {_memory(accelerator)}"


def _memory(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB of the device"
    return f"{psutil.Process().memory_info().rss / 1e9:.2f} GB of this process"
