"""Data sets and the recipes that train on them, and the files that ours and its peers read alike."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from trefoil.configuration.errors import UserError
from trefoil.data.loading import load_split
from trefoil.data.whole_files import write_file
from trefoil.recipes.schema import Recipe, load_recipe
from trefoil.training.run import make_reader

SPLITS = ("train", "validation", "test")
# of a recipe that reads what was written here
AS_WRITTEN = (
    "data.name=null", "data.embedded=false", "data.embedded_sizes=null",
    *(f"data.{split}_split={split}" for split in SPLITS),
    "training.trackers=[]",
    "training.evaluate_every=null",  # as often as the Trainer
)  # fmt: skip


@dataclass(frozen=True)
class DataSet:
    """
    Attributes:
        name: In tables; in lower case, the option of the command line.
        recipe: One of the package's.
        changes: Of the recipe, `key.sub=value`.
        stock_changes: Further ones for a stock model, which has no n-grams to read characters by.
        label_of: Columns whose values together are the column `label`.
        has_closed_vocabulary: All words of the test split are in the training split, as where rare ones are `<unk>`.
    """

    name: str
    recipe: str
    changes: tuple[str, ...] = ()
    stock_changes: tuple[str, ...] = ()
    label_of: tuple[str, ...] = ()
    has_closed_vocabulary: bool = False

    @property
    def is_embedded(self) -> bool:
        return "-embedded" in self.recipe

    def recipe_of(self, folder: Path | None) -> Recipe:
        place = [] if folder is None else ["data.name=null", f"data.path={folder}"]
        return load_recipe(self.recipe, [*self.changes, *place])


IN_PIECES = "model.config={num_hidden_layers: 1, intermediate_size: 336, max_position_embeddings: 128, hidden_dropout: 0.3, classifier_pooling: mean}"
DATA = {
    each.name: each
    for each in (
        DataSet(
            "SST-2",
            "encoder-text-classification-sst2",
            stock_changes=("tokenizer={kind: wordpiece, vocab_size: 14000, lowercase: true}", IN_PIECES),
        ),
        DataSet("NSMC", "encoder-text-classification-nsmc", stock_changes=("tokenizer={vocab_size: 12000}", IN_PIECES)),
        DataSet(
            "StyleKQC",  # what a sentence is about, and what it asks for; paraphrases stand together, so the end has others
            "encoder-text-classification-nsmc",
            ("data.columns={text: ko}", "options.names={}", "data.train_split=train[:95%]",
             "data.validation_split=train[95%:]", "data.test_split=validation"),
            stock_changes=("tokenizer={vocab_size: 1000}", IN_PIECES),
            label_of=("topic", "act"),
        ),
        DataSet("embedded topics", "encoder-text-classification-embedded"),
        DataSet(
            "WNUT-17",
            "encoder-token-classification-wnut17",
            stock_changes=(
                "tokenizer={vocab_size: 6000}",
                "model.config={hidden_size: 192, intermediate_size: 512, num_hidden_layers: 4, max_position_embeddings: 128, hidden_dropout: 0.2}",
            ),
        ),
        DataSet("KLUE", "encoder-token-classification-klue"),
        DataSet("embedded entities", "encoder-token-classification-embedded"),
        DataSet("Multi30k", "encoder-decoder-translation-multi30k", ("data.test_split=test_2016_flickr",)),
        DataSet("embedded pairs", "encoder-decoder-translation-embedded-ko-en"),
        DataSet("WikiText-2", "decoder-causal-lm-wikitext2", has_closed_vocabulary=True),
        DataSet("TinyShakespeare", "decoder-causal-lm-tinyshakespeare"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Files:
    """A folder with a file for each split.

    Attributes:
        rows: Of the training split.
        content: A hash of all.
    """

    folder: Path
    rows: int
    content: str


def write_splits(data: DataSet, source: Path | None, output: Path, rows: int | None = None, seed: int = 0) -> Files:
    """The splits as JSON lines, for ours and for its peers.

    Args:
        source: A folder with the data. Default: embedded data.
        output: Where the files' folder is written.
        rows: So many training rows, the first of all as the seed shuffles them. Default: all in their order.

    Raises:
        UserError: A split that cannot be read, or rows that cannot be had.
    """
    recipe = data.recipe_of(source)
    if rows is not None and recipe.options.get("documents") == "stream":
        raise UserError(f"--rows: {data.name} is one running text, of which rows cannot be drawn; leave it out")
    reader = make_reader(recipe)
    wanted = [name for name in reader.columns() if not (data.label_of and name == "label")] + list(data.label_of)
    folder = output / "data" / (data.name.replace(" ", "-") + ("" if rows is None else f"-{rows}-{seed}"))
    content, count = hashlib.sha256(), 0
    for split in SPLITS:
        name = getattr(recipe.data, f"{split}_split")
        if name is None:
            raise UserError(f"{data.recipe}: data.{split}_split is null; a comparison needs all three splits")
        found = load_split(recipe.data, name, wanted, recipe.task, recipe.seed).select_columns(wanted)
        if not data.label_of:
            found = reader.prepared(found, name)
        if split == "train":
            if rows is not None and rows > len(found):
                raise UserError(f"--rows {rows}: {data.name} has {len(found)} training rows")
            if rows is not None:
                found = found.select(np.random.default_rng(seed).permutation(len(found))[:rows])
            count = len(found)
        lines = "".join(_lines(found, data.label_of)).encode()
        content.update(lines)
        file = folder / f"{split}.jsonl"
        if not file.is_file() or file.read_bytes() != lines:
            write_file(file, lines)
    return Files(folder, count, content.hexdigest()[:16])


def _lines(rows: datasets.Dataset, label_of: tuple[str, ...]) -> Iterator[str]:
    for row in rows:
        if label_of:
            row["label"] = " ".join(f"{name}={row.pop(name)}" for name in label_of)
        yield json.dumps(row, ensure_ascii=False) + "\n"
