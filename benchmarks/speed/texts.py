"""Texts of real lengths: a training step of ours against transformers' Trainer, and whole data sets through pipelines."""

import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, pipeline
from transformers.trainer_callback import PrinterCallback

from trefoil.pipelines.by_length import predict_by_length

from ..step_time import made_ready
from .contest import Contest, Done, Run

# data set -> the recipe that trains on it, and how it differs
RECIPES = {
    "SST-2": ("encoder-text-classification-sst2", ["data.train_split=train[:6000]"]),
    "WNUT-17": ("encoder-token-classification-wnut17", []),
    "Multi30k": (
        "encoder-decoder-translation-multi30k",
        ["data.name=null", "data.train_split=train[:6000]", "data.test_split=test_2016_flickr"],
    ),
    "KorQuAD": ("encoder-question-answering-korquad", []),
}
STEPS = 8  # of ours in a run
OF_TRAINER = 40


@lru_cache
def prepared(name: str, folder: Path) -> tuple[Any, Any]:
    """The recipe of a data set made ready, in float32, and its training loop."""
    recipe, changes = RECIPES[name]
    changes = [
        *changes, f"data.path={folder}", "training.mixed_precision=no", "training.max_epochs=null",
        "training.max_steps=100000", "optimization.warmup_steps=0", "model.attn_implementation=sdpa",
    ]  # fmt: skip
    return made_ready(recipe, changes, tempfile.mkdtemp(prefix="trefoil-speed-"))


class Clock(TrainerCallback):
    """Seconds from the second step on: the first one waits for what is made once."""

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        if state.global_step == 1:
            self.started, self.tokens = time.perf_counter(), 0
        self.ended = time.perf_counter()


def trainers(name: str, folder: Path, sampling: str, rows: int) -> Run:
    """transformers' Trainer with the same model class and the same encoded examples."""
    ready, _ = prepared(name, folder)
    preprocessor, examples = ready.preprocessor, ready.splits["train"].examples
    lengths = preprocessor.lengths(examples).sum(axis=1)
    numbered = datasets.Dataset.from_dict({"index": range(len(examples)), "length": lengths})
    clock = Clock()

    def collate(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        indices = [row["index"] for row in rows]
        clock.tokens = getattr(clock, "tokens", 0) + int(lengths[indices].sum())
        batch = preprocessor.collate(preprocessor.randomize(examples[indices], indices, 0))
        return {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}

    model = type(ready.model)(ready.model.config)
    model.set_attn_implementation("sdpa")

    def run() -> Done:
        options = TrainingArguments(
            tempfile.mkdtemp(prefix="trefoil-speed-"), per_device_train_batch_size=rows, max_steps=OF_TRAINER + 1,
            train_sampling_strategy=sampling, remove_unused_columns=False, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = Trainer(model, options, data_collator=collate, train_dataset=numbered, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return Done(clock.tokens, clock.ended - clock.started)

    return run


def ours(name: str, folder: Path) -> Run:
    ready, loop = prepared(name, folder)
    examples = ready.splits["train"].examples
    lengths = ready.preprocessor.lengths(examples).sum(axis=1)
    plans = chain.from_iterable(loop.data.plan(epoch) for epoch in count())
    steps = loop.data.steps(epoch=0, batch=0)

    def run() -> Done:
        tokens, started = 0, time.perf_counter()
        for _ in range(STEPS):
            batch, _ = next(steps)
            loop.step(batch)
            tokens += int(lengths[next(plans)].sum())
        return Done(tokens, time.perf_counter() - started)

    return run


def training(folders: dict[str, Path]) -> Iterator[Contest]:
    """Of the data sets that there are."""
    # rows of Trainer's batches; 8 are its default
    peers = {"Trainer's defaults": ("random", 8, 3.0), "Trainer by length": ("group_by_length", 8, 1.4),
             "Trainer by length, 64 rows": ("group_by_length", 64, 1.0)}  # fmt: skip
    for name, folder in folders.items():
        for peer, (sampling, rows, target) in peers.items():

            def make(device: torch.device, name=name, folder=folder, sampling=sampling, rows=rows) -> Any:
                return ours(name, folder), trainers(name, folder, sampling, rows), 0

            yield Contest(f"training on {name}", peer, make, target)


# --- pipelines

TASKS = {"SST-2": ("text-classification", "text"), "WNUT-17": ("token-classification", "tokens"),
         "Multi30k": ("translation", "en")}  # fmt: skip
TEXTS = 2000


def pipelines(folders: dict[str, Path]) -> Iterator[Contest]:
    for name, (task, column) in TASKS.items():
        if name not in folders:
            continue
        for peer, rows, target in (
            ("pipeline()", 1, 2.5),
            *((f"pipeline(batch_size={n})", n, 1.2) for n in (8, 32, 128)),
        ):

            def make(device: torch.device, name=name, task=task, column=column, rows=rows) -> Any:
                ready, _ = prepared(name, folders[name])
                model = ready.model.eval()
                if task == "translation":  # an untrained model would go on to the end
                    model.generation_config.update(max_new_tokens=16, min_new_tokens=16, num_beams=1)
                pipe = pipeline(task, model=model, tokenizer=ready.preprocessor.tokenizer, device=device)
                texts = list(ready.splits["test"].rows[column])[:TEXTS]
                texts = [text if isinstance(text, str) else " ".join(text) for text in texts]
                tokens = sum(map(len, ready.preprocessor.tokenizer(texts)["input_ids"]))
                same(predict_by_length(pipe, texts[:64]), pipe(texts[:64], batch_size=rows))
                return lambda: predict_by_length(pipe, texts), lambda: pipe(texts, batch_size=rows), tokens

            yield Contest(f"{task} of {name}", peer, make, target)


def same(ours: list[Any], theirs: list[Any]) -> None:
    """
    Raises:
        ValueError: The outputs differ, numbers by more than a thousandth.
    """

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(each) for key, each in value.items()}
        if isinstance(value, list):
            return [rounded(each) for each in value]
        return round(float(value), 3) if not isinstance(value, str | int | type(None)) else value

    if rounded(ours) != rounded(theirs):
        raise ValueError(f"the outputs differ: {ours[:2]} and {theirs[:2]}")
