"""One run: ours by `trefoil train`, or a peer; its score, and what the score is made of, in its folder.

python -m benchmarks.quality.worker RUN FOLDER     # RUN as JSON; benchmarks/quality/runs.py starts it
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from trefoil.configuration.errors import UserError
from trefoil.data.loading import load_split
from trefoil.data.whole_files import write_file
from trefoil.recipes.schema import load_recipe
from trefoil.tasks.causal_lm import CausalLMEvaluator
from trefoil.training.run import Prepared, make_reader
from trefoil.training.run_folder import RunFolder

from ..step_time import made_ready
from . import crf, linear, stock
from .data import SPLITS
from .ngrams import ORDER, KneserNey
from .runs import Run
from .scores import MEASURES


@dataclass(frozen=True)
class Answer:
    """
    Attributes:
        parts: As `Measure.parts` gives them.
        seconds: Of training, and of choosing what a peer chooses on the validation split.
        how: What it chose.
    """

    parts: np.ndarray
    seconds: float
    how: str = ""


# --- rows, for those who read no token ids


def rows_of(run: Run) -> tuple[Any, dict[str, dict[str, list]]]:
    """The reader of the recipe, and the columns of each split."""
    reader = make_reader(load_recipe(run.recipe, run.overrides))
    recipe = reader.recipe
    splits = {
        split: reader.by_role(load_split(recipe.data, split, reader.columns(), recipe.task, recipe.seed)[:])
        for split in SPLITS
    }
    return reader, splits


def references(reader: Any, rows: dict[str, list]) -> list[Any]:
    """What is to be predicted, as `predictions.jsonl` has it."""
    if reader.task.name == "text-classification":
        return [str(reader.name_of(label)) for label in rows["label"]]
    if reader.task.name == "token-classification":
        return [row.tags for row in reader.read(rows)]
    return rows["target"]


def by_tfidf(features: str, strengths: tuple[float, ...], run: Run, folder: Path) -> Answer:
    reader, splits = rows_of(run)
    labels = {split: references(reader, rows) for split, rows in splits.items()}
    started = time.perf_counter()
    train, validation = ((splits[split]["text"], labels[split]) for split in ("train", "validation"))
    found, strength = linear.classify(train, validation, splits["test"]["text"], features, strengths)
    parts = MEASURES[run.task].parts(labels["test"], found)
    return Answer(parts, time.perf_counter() - started, f"C={strength:g}")


def by_crf(run: Run, folder: Path) -> Answer:
    reader, splits = rows_of(run)
    tags = {split: references(reader, rows) for split, rows in splits.items()}
    measure = MEASURES[run.task]
    started = time.perf_counter()
    found, (c1, c2) = crf.tag(
        *((splits[split]["tokens"], tags[split]) for split in ("train", "validation")), splits["test"]["tokens"],
        are_characters=reader.options.delimiter == "",
        score=lambda true, predicted: measure.of(measure.parts(true, predicted)),
    )  # fmt: skip
    return Answer(measure.parts(tags["test"], found), time.perf_counter() - started, f"c1={c1:g}, c2={c2:g}")


# --- language models, whose test text is scored block by block


class BlockEvaluator(CausalLMEvaluator):
    """Keeps what it found of each batch: nats and tokens."""

    def scores(self, found: list[tuple[int, float, int]], tokens: int | None = None) -> dict[str, Any]:
        self.blocks = np.array([[nats, count] for _, nats, count in sorted(found)])
        return super().scores(found, tokens)


def nats_of_blocks(ready: Prepared, model: Any) -> np.ndarray:
    """Nats and words of each batch of the test split, which are as many of each model `(blocks, 2)`; words go by tokens."""
    evaluator = BlockEvaluator(*(getattr(ready.evaluators["test"], name) for name in ("preprocessor", "split", "accelerator")))  # fmt: skip
    evaluator.evaluate(model, final=True)
    nats, tokens = evaluator.blocks.T
    return np.stack([nats, tokens * (words_in(ready, "test") / tokens.sum())], axis=1)


def words_in(ready: Prepared, split: str) -> int:
    """As our perplexity counts them: an end for each row too."""
    return sum(len(text.split()) + 1 for text in ready.splits[split].rows[ready.preprocessor.reader.column("text")])


class Uniform(torch.nn.Module):
    """Any model, where only the sizes of the blocks are asked for."""

    def forward(self, **batch: Any) -> Any:
        return transformers.modeling_outputs.CausalLMOutput(loss=torch.zeros(()))


def by_ngrams(units: str, run: Run, folder: Path) -> Answer:
    ready = made_ready(run.recipe, run.overrides, folder)[0]
    documents, vocabulary = (token_documents if units == "tokens" else word_documents)(ready)
    started = time.perf_counter()
    model = KneserNey(documents["train"], vocabulary)
    # as ours: the first token of a document is given
    nats = np.concatenate([-np.log(model.probabilities(document)[1:]) for document in documents["test"]])
    seconds = time.perf_counter() - started
    shares = np.cumsum(nats_of_blocks(ready, Uniform())[:, 1])
    # of the same blocks of the text, to a word or two where units are others
    ends = np.round(shares / shares[-1] * len(nats)).astype(int)
    blocks = [part.sum() for part in np.split(nats, ends[:-1])]
    return Answer(np.stack([blocks, np.diff(shares, prepend=0)], axis=1), seconds, f"order {ORDER}")


def token_documents(ready: Prepared) -> tuple[dict[str, list[np.ndarray]], int]:
    found = {}
    for split in ("train", "test"):
        lists = [np.array(ids) for ids in ready.splits[split].examples.encoded["input_ids"] if ids]
        found[split] = [np.concatenate(lists)] if ready.preprocessor.reader.is_stream else lists
    return found, len(ready.preprocessor.tokenizer)


def word_documents(ready: Prepared) -> tuple[dict[str, list[np.ndarray]], int]:
    """Words of a running text, and the ends of lines.

    Raises:
        UserError: The test split has a word that training has not, to which no probability compares with ours.
    """
    words = {
        split: [word for text in ready.splits[split].rows["text"] for word in [*text.split(), "\n"]]
        for split in ("train", "test")
    }
    ids = {word: number for number, word in enumerate(dict.fromkeys(words["train"]))}
    if unknown := next((word for word in words["test"] if word not in ids), None):
        raise UserError(
            f"the test split has the word {unknown!r}, which training has not; n-grams of words know theirs only"
        )
    return {split: [np.array([ids[word] for word in each])] for split, each in words.items()}, len(ids)


# --- transformers


def timed(run: Run) -> list[str]:
    """What the recipe is told of a run that ends when its minutes are over."""
    ends = ["training.max_steps=null", "training.max_epochs=null", f"training.max_minutes={run.minutes}"]
    return [*run.overrides, *ends, f"seed={run.seed}"]


def ours(run: Run, folder: Path) -> Answer:
    run_folder = RunFolder(folder / "run")
    overrides = [*timed(run), f"output_dir={run_folder}"]
    code = subprocess.run([sys.executable, "-m", "trefoil", "train", run.recipe, *overrides], check=False).returncode
    if code != 0:
        sys.exit(code)  # it has said why
    seconds = run_folder.best.read_results()["training_seconds"]
    if run.task == "causal-lm":
        ready = made_ready(run.recipe, overrides, run_folder.path)[0]
        model = transformers.AutoModelForCausalLM.from_pretrained(run_folder.best.path)
        return Answer(nats_of_blocks(ready, model.to(ready.model.device).eval()), seconds)
    reader, splits = rows_of(run)
    lines = run_folder.predictions.read_bytes().splitlines()  # of bytes: a text may hold what ends lines for `str`
    found = [json.loads(line)["prediction"] for line in lines]
    return Answer(MEASURES[run.task].parts(references(reader, splits["test"]), found), seconds)


def by_trainer(has_defaults: bool, run: Run, folder: Path) -> Answer:
    ready = made_ready(run.recipe, timed(run), folder)[0]
    model, seconds = stock.train(ready, run.minutes, run.seed, has_defaults)
    how = stock.settings(run.task, ready.model.config.hidden_size, has_defaults)
    if run.task == "causal-lm":
        return Answer(nats_of_blocks(ready, model), seconds, how)
    predictions = ready.evaluators["test"].evaluate(model, final=True)["predictions"]
    reader, splits = rows_of(run)
    return Answer(MEASURES[run.task].parts(references(reader, splits["test"]), predictions), seconds, how)


# --- who there is


@dataclass(frozen=True)
class Model:
    """
    Attributes:
        is_timed: It trains for the minutes that it is given, and seeds change it; else it ends by itself, always alike.
        is_stock: A class of transformers, which reads what the data set says for such.
        package: That it needs, as it is imported and as pip calls it.
        wants_closed_vocabulary: It is for such data sets only.
    """

    answer: Callable[[Run, Path], Answer]
    is_timed: bool = False
    is_stock: bool = False
    package: tuple[str, str] | None = None
    wants_closed_vocabulary: bool = False

    @property
    def is_installed(self) -> bool:
        return self.package is None or find_spec(self.package[0]) is not None


TRAINED = {"ours": Model(ours, is_timed=True)}
TRAINER = {
    "Trainer": Model(partial(by_trainer, False), is_timed=True, is_stock=True),
    "Trainer's defaults": Model(partial(by_trainer, True), is_timed=True, is_stock=True),
}
# by task; of the peers, the first is the one that learning curves show beside ours
MODELS: dict[str, dict[str, Model]] = {
    "text-classification": TRAINED
    | {f"TF-IDF, {name}": Model(partial(by_tfidf, name, linear.STRENGTHS)) for name in reversed(linear.FEATURES)}
    | {"TF-IDF, words, C=1": Model(partial(by_tfidf, "words", (1.0,)))}
    | TRAINER,
    "token-classification": TRAINED | {"CRF": Model(by_crf, package=("sklearn_crfsuite", "sklearn-crfsuite"))} | TRAINER,
    "translation": TRAINED | TRAINER,
    "causal-lm": TRAINED
    | {"n-grams of tokens": Model(partial(by_ngrams, "tokens"))}
    | {"n-grams of words": Model(partial(by_ngrams, "words"), wants_closed_vocabulary=True)}
    | TRAINER,
}  # fmt: skip


def main() -> None:
    run, folder = Run.from_json(json.loads(sys.argv[1])), Path(sys.argv[2])
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(run.threads)
    answer = MODELS[run.task][run.model].answer(run, folder)
    content = BytesIO()
    np.save(content, answer.parts)
    write_file(folder / "parts.npy", content.getvalue())
    score = MEASURES[run.task].of(answer.parts)
    line = {"run": asdict(run), "score": score, "seconds": round(answer.seconds, 1), "how": answer.how}
    write_file(folder / "outcome.json", json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
