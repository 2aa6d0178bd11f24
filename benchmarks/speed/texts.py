"""Texts of real lengths: training by recipes against stock models under transformers' Trainer, and data sets through pipelines."""

import atexit
import inspect
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, pipeline
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from trefoil.pipelines.by_length import predict_by_length

from ..step_time import made_ready
from .contest import Contest, Done, Run
from .models import counterpart

# data set -> the recipe that trains on it, and how it differs
RECIPES = {
    "SST-2": (
        "encoder-text-classification-sst2",
        # of three layers, in pieces of words, and by AdamW, as Trainer does
        [
            "data.train_split=train[:6000]",
            "tokenizer={vocab_size: 4000}",
            "batches.tokens_per_batch=4096",
            "model.config={hidden_size: 192, intermediate_size: 512, max_position_embeddings: 128, hidden_dropout: 0.2, "
            "classifier_pooling: mean}",
            "optimization.optimizer=adamw",
            "optimization.learning_rate=5e-4",
        ],
    ),
    "WNUT-17": (
        "encoder-token-classification-wnut17",
        # of four layers, in pieces of words, and by AdamW, as Trainer does
        [
            "tokenizer={vocab_size: 6000}",
            "model.config={hidden_size: 192, intermediate_size: 512, num_hidden_layers: 4, max_position_embeddings: 128, "
            "hidden_dropout: 0.2}",
            "batches.tokens_per_batch=1536",
            "batches.token_dropout=0",
            "optimization.optimizer=adamw",
            "optimization.learning_rate=7e-4",
        ],
    ),
    "Multi30k": (
        "encoder-decoder-translation-multi30k",
        # wider, in larger steps, and by AdamW, as Trainer does
        [
            "data.name=null",
            "data.train_split=train[:6000]",
            "data.test_split=test_2016_flickr",
            "batches.tokens_per_batch=6000",
            "model.config={hidden_size: 192, intermediate_size: 512, hidden_dropout: 0.2}",
            "optimization.optimizer=adamw",
            "optimization.learning_rate=2e-3",
        ],
    ),
    "KorQuAD": (
        "encoder-question-answering-korquad",
        # of four layers, without n-grams, and by AdamW, as Trainer does
        [
            "data.train_split=KorQuAD_v1.0_dev[:3000]",
            "model.config={hidden_size: 192, intermediate_size: 512, max_position_embeddings: 384, hidden_dropout: 0.1}",
            "optimization.optimizer=adamw",
        ],
    ),
}
STEPS = 8  # of ours in a run
# of the Trainer's in a run: what comes first
OF_TRAINER = {"rows": 640, "tokens": 24_000}

# how the Trainer samples, rows of its batches, and what we are after; 8 random ones are its default
PEERS = {
    "Trainer's defaults": ("random", 8, 3.0),
    "Trainer's defaults, 128 rows": ("random", 128, 3.0),
    "Trainer by length": ("group_by_length", 8, 1.4),
    "Trainer by length, 64 rows": ("group_by_length", 64, 1.0),
}


@lru_cache
def prepared(name: str, folder: Path) -> tuple[Any, Any]:
    """The recipe of a data set made ready, in float32, and its training loop."""
    recipe, changes = RECIPES[name]
    changes = [
        *changes, f"data.path={folder}", "training.mixed_precision=no", "training.max_epochs=null",
        "training.max_steps=100000", "optimization.warmup_steps=0", "model.attn_implementation=sdpa",
    ]  # fmt: skip
    folder_of_run = tempfile.mkdtemp(prefix="trefoil-speed-")
    atexit.register(shutil.rmtree, folder_of_run, ignore_errors=True)
    return made_ready(recipe, changes, folder_of_run)


class Clock(TrainerCallback):
    """Seconds from the second step on: the first one waits for what is made once."""

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        if state.global_step == 1:
            self.started = time.perf_counter()
        self.ended = time.perf_counter()


def batches_of_trainer(lengths: np.ndarray, sampling: str, rows: int, generator: torch.Generator) -> list[np.ndarray]:
    """Indices of the Trainer's batches of an epoch, in its order.

    Args:
        lengths: Of the examples, in tokens `(examples,)`.
    """
    if sampling == "random":
        order = torch.randperm(len(lengths), generator=generator).numpy()
    else:
        order = np.array(get_length_grouped_indices(lengths.tolist(), rows, generator=generator))
    return [order[at : at + rows] for at in range(0, len(order), rows)]


def some(batches: list[np.ndarray], lengths: np.ndarray, generator: torch.Generator) -> list[np.ndarray]:
    """Full batches for one run, drawn from all: by length, those that follow each other are alike, and the longest come first."""
    rows = len(batches[0])
    full = [batch for batch in batches if len(batch) == rows]
    steps = min(OF_TRAINER["rows"] // rows, int(OF_TRAINER["tokens"] / (rows * lengths.mean())))
    drawn = torch.randperm(len(full), generator=generator)[: 1 + max(1, steps)]
    return [full[number] for number in drawn]


def collator(preprocessor: Any, examples: Any) -> Callable[[list[dict[str, int]]], dict[str, torch.Tensor]]:
    """Makes our batches of the Trainer's rows, which are numbers of encoded examples."""

    def collate(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        indices = [row["index"] for row in rows]
        return preprocessor.collate(preprocessor.randomize(examples[indices], indices, 0))

    return collate


def trainers(name: str, folder: Path, sampling: str, rows: int) -> Run:
    """transformers' Trainer with the stock model of the same size and the same encoded examples."""
    ready, _ = prepared(name, folder)
    preprocessor, examples = ready.preprocessor, ready.splits["train"].examples
    lengths = preprocessor.lengths(examples).sum(axis=1)
    model = counterpart(preprocessor.reader.task.name, ready.model.config)
    known = inspect.signature(model.forward).parameters
    generator, whole = torch.Generator().manual_seed(0), collator(preprocessor, examples)

    def collate(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        return {key: value for key, value in whole(rows).items() if key in known}

    def run() -> Done:
        batches = some(batches_of_trainer(lengths, sampling, rows, generator), lengths, generator)
        numbered, clock = datasets.Dataset.from_dict({"index": np.concatenate(batches)}), Clock()
        with tempfile.TemporaryDirectory(prefix="trefoil-speed-") as output:
            options = TrainingArguments(
                output, per_device_train_batch_size=rows, max_steps=len(batches), train_sampling_strategy="sequential",
                remove_unused_columns=False, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
            )  # fmt: skip
            trainer = Trainer(model, options, data_collator=collate, train_dataset=numbered, callbacks=[clock])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return Done(int(lengths[np.concatenate(batches[1:])].sum()), clock.ended - clock.started)

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
    for name, folder in folders.items():
        for peer, (sampling, rows, target) in PEERS.items():

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
