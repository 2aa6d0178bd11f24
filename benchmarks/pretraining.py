"""What pretraining gives: the three families by their objectives, and every task from each of them and from nothing.

    python -m benchmarks.pretraining --texts FOLDER COLUMN … --classification FOLDER --entities FOLDER --summaries FOLDER
    python -m benchmarks.pretraining …  --minutes 8 --task-minutes 3 --language ko

One corpus, joined of the columns of `--texts` (of plain text `text`), with one tokenizer, and one size for all models. An encoder
guesses hidden words, a decoder next ones, an encoder-decoder writes the text that holes were made in; each for `--minutes`. Then
each learns the tasks for `--task-minutes`; an encoder-decoder may also be joined of the encoder and the decoder (Rothe et al. 2020).
Runs lie in `--output`; one that has ended is not done again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.report import table
from trefoil.recipes.reading import write_yaml

SIZE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "max_position_embeddings": 384}
NOTHING, JOINED = "nothing", "encoder + decoder"
# family -> its task of pretraining
OBJECTIVES = {
    "encoder": ("masked-lm", {}),
    "decoder": ("causal-lm", {}),
    "encoder-decoder": ("denoising", {"objective": "infilling"}),
}


@dataclass(frozen=True)
class Downstream:
    """A task to learn.

    Attributes:
        task: The recipe's.
        metrics: Of the test split, as `results.json` names them.
        families: That can learn it.
        changes: Of the recipe, a section each.
    """

    task: str
    metrics: tuple[str, ...]
    families: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)


DOWNSTREAM = {
    "classification": Downstream(
        "text-classification", ("accuracy",), ("encoder", "decoder"), {"batches": {"tokens_per_batch": 1024}}
    ),
    "entities": Downstream(
        "token-classification", ("f1",), ("encoder", "decoder"),
        {"data": {"columns": {"tags": "ner_tags"}}, "options": {"label_all_subwords": True}, "batches": {"tokens_per_batch": 1024}},
    ),
    "summaries": Downstream(
        "summarization", ("rouge1", "rouge2", "rougeL"), ("encoder-decoder",),
        {"options": {"references": "references"}, "optimization": {"label_smoothing": 0.1}},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """
    Attributes:
        start: What it starts from, as the table says it.
    """

    name: str
    family: str
    start: str
    recipe: dict[str, Any]


def recipe_of(arguments: argparse.Namespace, name: str, task: str, minutes: float, *changes: dict) -> dict[str, Any]:
    """What all runs have in common, with the changes of one."""
    recipe: dict[str, Any] = {
        "task": task,
        "language": [arguments.language],
        "output_dir": str(arguments.output / name),
        "options": {},
        "data": {"invalid_examples": "skip"},
        "tokenizer": {},
        "model": {"attn_implementation": "eager"},
        "batches": {"tokens_per_batch": 2048, "truncate": True},
        "optimization": {"optimizer": "muon", "learning_rate": 4e-3, "schedule": "linear", "warmup_steps": 100},
        "training": {"max_minutes": minutes, "trackers": []},
        "evaluation": {"max_examples": 500},
    }
    for change in changes:
        for section, content in change.items():
            recipe[section] = recipe[section] | content
    return recipe


def encoders_tokenizer(output: Path) -> dict[str, str]:
    """That of the first run, which all others take."""
    return {"path": str(output / "encoder/tokenizer")}


def pretraining(arguments: argparse.Namespace) -> Iterator[Training]:
    sources = [{"path": folder, "columns": {"text": column}} for folder, column in arguments.texts]
    for family, (task, options) in OBJECTIVES.items():
        tokenizer = {"vocab_size": 8000} if family == "encoder" else encoders_tokenizer(arguments.output)
        data = {"sources": sources, "validation_split": "validation[:200]", "test_split": None}
        change = {"data": data, "tokenizer": tokenizer, "options": options}
        model = {"model": {"preset": f"{family}-tiny", "config": SIZE}}
        yield Training(family, family, NOTHING, recipe_of(arguments, family, task, arguments.minutes, change, model))


def starts_of(family: str, output: Path) -> Iterator[tuple[str, str | dict[str, str] | None]]:
    """What a model of a family can start from: its name in the table, and the recipe's `model.init_from`."""
    yield NOTHING, None
    yield f"{family}, {OBJECTIVES[family][0]}", str(output / family)
    if family == "encoder-decoder":
        yield JOINED, {half: str(output / half) for half in ("encoder", "decoder")}


def downstream(arguments: argparse.Namespace, kind: str) -> Iterator[Training]:
    wanted = DOWNSTREAM[kind]
    for family in wanted.families:
        for start, places in starts_of(family, arguments.output):
            config: dict[str, Any] = {"hidden_dropout": 0.2}
            if family == "encoder" and wanted.task == "text-classification":
                config["classifier_pooling"] = "mean"
            model: dict[str, Any] = {"config": config, "init_from": places}
            tokenizer: dict[str, str] = {}
            if places is None:
                model = {"config": SIZE | config, "preset": f"{family}-tiny"}
                tokenizer = encoders_tokenizer(arguments.output)
            name = f"{kind}-{family}-{start.replace(' ', '')}"
            change = {"data": {"path": getattr(arguments, kind)}, "model": model, "tokenizer": tokenizer}
            rate = {"optimization": {"learning_rate": 1e-3 if wanted.task.endswith("classification") else 4e-3}}
            recipe = recipe_of(arguments, name, wanted.task, arguments.task_minutes, change, rate, wanted.changes)
            yield Training(name, family, start, recipe)


def train(training: Training) -> dict[str, Any]:
    """The content of `results.json`, of this run or of an earlier one."""
    folder = Path(training.recipe["output_dir"])
    results = folder / "best" / "results.json"
    if not results.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        recipe = folder.with_suffix(".yaml")
        recipe.write_text(write_yaml(training.recipe), encoding="utf-8")
        with folder.with_suffix(".log").open("w", encoding="utf-8") as log:
            command = [sys.executable, "-m", "trefoil", "train", str(recipe)]
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode != 0:
                sys.exit(f"error: {training.name} failed; see {log.name}")
    return json.loads(results.read_text(encoding="utf-8"))


def line_of(training: Training, results: dict[str, Any], metrics: tuple[str, ...]) -> str:
    scores = ", ".join(f"{results['test'][metric]:.1f}" for metric in metrics)
    minutes = results["training_seconds"] / 60
    return f"| {training.family} | {training.start} | {scores} | {results['steps']} | {minutes:.1f} |"


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs=2, action="append", metavar=("FOLDER", "COLUMN"), required=True)
    for kind, wanted in DOWNSTREAM.items():
        parser.add_argument(f"--{kind}", metavar="FOLDER", help=f"for {wanted.task}")
    parser.add_argument("--language", default="en", metavar="CODE", help="default: en")
    parser.add_argument("--minutes", type=float, default=8, metavar="N", help="of pretraining (default: 8)")
    parser.add_argument("--task-minutes", type=float, default=3, metavar="N", help="of a task (default: 3)")
    parser.add_argument("--output", type=Path, default=Path("runs/pretraining"), metavar="FOLDER", help="of the runs")
    return parser.parse_args(words)


def main() -> None:
    arguments = parsed()
    for training in pretraining(arguments):
        results = train(training)
        print(f"{training.name}: {results['steps']} steps, validation {results['validation']}", flush=True)
    for kind, wanted in DOWNSTREAM.items():
        if getattr(arguments, kind) is None:
            continue
        lines = []
        for training in downstream(arguments, kind):
            lines.append(line_of(training, train(training), wanted.metrics))
            print(lines[-1], flush=True)
        header = f"| {kind} | from | {', '.join(wanted.metrics)} | steps | minutes |"
        print(table(header, lines), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
