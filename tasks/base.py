"""What a task is to the loop, and what tasks have in common."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, send_to_device
from huggingface_hub.dataclasses import strict
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..data.batching import plan_in_order
from ..data.loading import count_in_lists, list_lengths
from ..data.progress import progress_bar
from ..data.tokenizer import BIDIRECTIONAL, Template
from ..modeling.encoder_decoder import TrefoilEncoderDecoderForConditionalGeneration
from ..recipes.schema import Recipe, build, nearest

INT, FLOAT, INTS = datasets.Value("int32"), datasets.Value("float32"), datasets.List(datasets.Value("int32"))
LONGEST = 100_000  # characters that are tokenized of a text that must be short
IN_MEMORY = 1_000_000  # examples; of more, the encoded ones lie on the disk

Encoded = list[dict[str, Any]] | str
"""What a raw row becomes: its encoded examples (several where it is cut into windows), or what is wrong with it."""


@strict
@dataclass
class NoOptions:
    """A task without options of its own."""


@dataclass
class Problems:
    """What was wrong with the rows of a split: how many there are, and the first."""

    count: int = 0
    first: str | None = None
    cut: int = 0  # texts that were cut to the longest length
    notes: Counter[str] = field(default_factory=Counter)  # what else there is to say, {} for how often


class Task:
    """The loop asks a task for columns, encoded examples, batches and scores, and knows nothing else of it.

    Args:
        recipe: The run's recipe.
        tokenizer: The run's tokenizer; None until there is one.

    Raises:
        UserError: The recipe names a column, an option or a metric that this task does not have.
    """

    name: ClassVar[str]
    auto_class: ClassVar[Any]  # which head to load
    joined_class: ClassVar[Any] = TrefoilEncoderDecoderForConditionalGeneration  # of two halves that were trained apart
    text_halves: ClassVar[tuple[str, ...]] = ("encoder", "decoder")  # those of them that have a tokenizer
    family: ClassVar[tuple[str, ...]]  # model types that can do this
    roles: ClassVar[tuple[str, ...]]  # columns that every split must have, named by what they are for
    optional_roles: ClassVar[tuple[str, ...]] = ()  # read only where `data.columns` names them
    options_class: ClassVar[type] = NoOptions
    features: ClassVar[dict[str, Any]]  # columns of encoded examples
    sides: ClassVar[tuple[str, ...]] = ("input_ids",)  # those whose lengths count in a batch
    label_names: ClassVar[tuple[str, ...]] = ("labels",)  # those of a batch that count for the loss
    metrics: tuple[str, ...]  # scores by which models can be chosen, the usual one first
    minimized: ClassVar[tuple[str, ...]] = ()  # those of which less is better
    template: Template = BIDIRECTIONAL  # of a tokenizer that is trained for this task

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        self.recipe = recipe
        self.tokenizer: Any = tokenizer
        self.problems: dict[str, Problems] = {}
        self.cut_texts = 0  # so many have been cut so far
        roles = (*self.roles, *self.optional_roles)
        for role in recipe.data.columns:
            if role not in roles:
                raise UserError(f"data.columns.{role}: the task {self.name} has no such column{nearest(role, roles)}")
        self.options: Any = build(self.options_class, recipe.options, f"task {self.name}", "options.")
        self.check_metric()

    def check_metric(self) -> None:
        """
        Raises:
            UserError: The recipe's metric is none of this task's.
        """
        if (recipe_metric := self.recipe.evaluation.metric) and recipe_metric not in self.metrics:
            raise UserError(
                f"evaluation.metric={recipe_metric!r}: the task {self.name} has no such metric; "
                f"there are {', '.join(self.metrics)}"
            )

    @property
    def metric(self) -> str:
        """The score by which the best model is chosen."""
        return self.recipe.evaluation.metric or self.metrics[0]

    def is_better(self, score: float, other: float | None) -> bool:
        """Whether a score of `metric` is better than another; anything is better than none."""
        return other is None or (score < other if self.metric in self.minimized else score > other)

    def column(self, role: str) -> str | None:
        """The column that holds what the task calls `role`; None for an optional one that the recipe does not name."""
        return self.recipe.data.columns.get(role, role if role in self.roles else None)

    def columns(self) -> list[str]:
        """Columns that every split must have."""
        return [name for role in (*self.roles, *self.optional_roles) if (name := self.column(role)) is not None]

    def by_role(self, rows: dict[str, list]) -> dict[str, list]:
        """Columns under the task's names for them."""
        names = {role: self.column(role) for role in (*self.roles, *self.optional_roles)}
        return {role: rows[name] for role, name in names.items() if name is not None}

    def learn(self, train: datasets.Dataset) -> None:
        """Take from the raw training split what the model must know, such as the labels that there are.

        Raises:
            UserError: The split does not say.
        """

    def head_is_new(self, config: PreTrainedConfig) -> bool:
        """Whether the head of a model with this configuration is of no use for what was learned of the data."""
        return False

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        """Texts to train a tokenizer on, in lists: those of the text columns, if not said otherwise."""
        names = [name for role in self.text_roles() if (name := self.column(role)) is not None]
        for batch in examples.select_columns(names).iter(batch_size=1000):
            for name in names:
                yield [text for text in batch[name] if isinstance(text, str)]

    def text_roles(self) -> tuple[str, ...]:
        """The roles whose columns hold texts."""
        return self.roles

    def prepare_config(self, config: PreTrainedConfig) -> None:
        """Tell the model what the task knows (token ids, labels) and learn what it can take (lengths)."""
        parts = text_configs(config)
        for part in (config, *parts):
            part.pad_token_id = self.tokenizer.pad_token_id
            part.eos_token_id = self.tokenizer.eos_token_id
            part.bos_token_id = self.tokenizer.bos_token_id
        self.positions = [part.max_position_embeddings for part in parts]
        self.tokenizer.model_max_length = self.max_lengths()[0]

    def max_lengths(self) -> tuple[int, int]:
        """Longest source (or only text) and target in tokens, special tokens included."""
        batches = self.recipe.batches
        source, target = self.positions[0], self.positions[-1]
        return min(batches.max_source_length or source, source), min(batches.max_target_length or target, target)

    def encode_rows(self, rows: dict[str, list]) -> list[Encoded]:
        """Raw rows, by role, as encoded examples with the columns of `features`, or what is wrong with them."""
        raise NotImplementedError

    def scoring_problems(self, rows: dict[str, list]) -> list[str | None]:
        """What keeps each raw row from being scored."""
        return [encoded if isinstance(encoded, str) else None for encoded in self.encode_rows(rows)]

    def encode(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        """Rows as token ids: the columns of `features`, and `example`, the position of the raw row.

        Raises:
            UserError: A row that cannot be encoded, unless the recipe says to skip it; names the row.
        """

        def encode_batch(rows: dict[str, list], indices: list[int]) -> dict[str, list]:
            kept: dict[str, list] = {name: [] for name in (*self.features, "example")}
            for index, encoded in zip(indices, self.encode_rows(self.by_role(rows)), strict=True):
                if isinstance(encoded, str):
                    self.report(where, index, encoded)
                    continue
                for example in encoded:
                    for name in self.features:
                        kept[name].append(example[name])
                    kept["example"].append(index)
            return kept

        return self.map_rows(examples, where, encode_batch, {**self.features, "example": INT})

    def map_rows(
        self, examples: datasets.Dataset, where: str, encode_batch: Callable, features: dict[str, Any]
    ) -> datasets.Dataset:
        """`examples.map` of a function of rows and their indices."""
        problems, cut_before = self.problems.setdefault(where, Problems()), self.cut_texts
        in_memory = len(examples) < IN_MEMORY
        encoded = examples.map(
            encode_batch,
            batched=True,
            with_indices=True,
            remove_columns=examples.column_names,
            features=datasets.Features(features),
            keep_in_memory=in_memory,
            # a large split is encoded by one process, which counts what is wrong with it, and read by the others
            load_from_cache_file=not in_memory and not PartialState().is_main_process,
            desc=f"encoding {where}",
        )
        if len(encoded) == 0:
            raise self._none_left(examples, where)
        problems.cut += self.cut_texts - cut_before
        return encoded

    def _none_left(self, examples: datasets.Dataset, where: str) -> UserError:
        first = self.problems[where].first
        return UserError(f"{where}: no valid example is left of {len(examples)}" + (f"; {first}" if first else ""))

    def report(self, where: str, index: int, problem: str) -> None:
        """Count an invalid row.

        Raises:
            UserError: The recipe does not say to skip it.
        """
        if self.recipe.data.invalid_examples == "error":
            raise UserError(f"{where} example {index + 1}: {problem}; mend it or set data.invalid_examples=skip")
        problems = self.problems[where]
        problems.count += 1
        problems.first = problems.first or f"example {index + 1}, {problem}"

    def scorable(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        """The rows that `evaluate` can score.

        Raises:
            UserError: A row that cannot be scored, unless the recipe says to skip it; names the row.
        """
        self.problems.setdefault(where, Problems())
        keep, start = [], 0
        for rows in examples.select_columns(self.columns()).iter(batch_size=1000):
            found = self.scoring_problems(self.by_role(rows))
            for index, problem in enumerate(found, start=start):
                if problem is None:
                    keep.append(index)
                else:
                    self.report(where, index, problem)
            start += len(found)
        if not keep:
            raise self._none_left(examples, where)
        return examples if len(keep) == len(examples) else examples.select(keep)

    def lengths(self, encoded: datasets.Dataset) -> np.ndarray:
        """`(examples, sides)`: the tokens of each side."""
        return np.stack([list_lengths(encoded, side) for side in self.sides], axis=1)

    def unknown_share(self, encoded: datasets.Dataset) -> float:
        """Of the tokens, those of which the tokenizer knows nothing but that they are there."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return 0.0
        return sum(count_in_lists(encoded, side, unknown) for side in self.sides) / self.token_count(encoded)

    def token_count(self, encoded: datasets.Dataset) -> int:
        """The tokens of all sides."""
        return sum(int(list_lengths(encoded, side).sum()) for side in self.sides)

    def randomize(self, rows: dict[str, list], indices: np.ndarray, epoch: int) -> dict[str, list]:
        """Encoded rows, changed at random for training; a function of (seed, epoch, index) alone."""
        return rows

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        """Encoded rows, column by column, as a batch of tensors with those of `label_names`."""
        raise NotImplementedError

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        """Tokens that a batch holds, padding included."""
        return batch["input_ids"].numel()

    def padded(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        """Token ids as `input_ids` and `attention_mask`, both `(rows, longest)`."""
        return {
            "input_ids": pad(rows, self.tokenizer.pad_token_id),
            "attention_mask": pad([[1] * len(ids) for ids in rows], 0),
        }

    def save_preprocessing(self, folder: Path) -> None:
        """Write, beside a model, what makes its inputs."""
        self.tokenizer.save_pretrained(folder)

    def shown(self, row: dict[str, Any]) -> dict[str, Any]:
        """A raw row as it is written beside the prediction, in JSON."""
        return row

    def generation_config(self, config: PreTrainedConfig) -> GenerationConfig:
        """How a model of this task generates unless told otherwise; only asked of models that can."""
        raise NotImplementedError

    @torch.no_grad()
    def outputs(
        self,
        model: PreTrainedModel,
        encoded: datasets.Dataset,
        accelerator: Any,
        change: Callable[[dict[str, list], np.ndarray], dict[str, list]] | None = None,
    ) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor], Any]]:
        """This process's batches of encoded examples: their indices, the batch, and what the model makes of it, with the
        summed loss.

        Args:
            change: Makes of rows and their indices those that are batched.
        """
        plan = plan_in_order(self.lengths(encoded), self.recipe.evaluation.tokens_per_batch)
        mine = plan[accelerator.process_index :: accelerator.num_processes]
        for indices in progress_bar(mine, "evaluating", accelerator.is_main_process):
            rows = encoded[indices] if change is None else change(encoded[indices], indices)
            batch = send_to_device(self.collate(rows), model.device)
            yield indices, batch, model(**batch, num_items_in_batch=1)

    def evaluate(self, model: PreTrainedModel, examples: Any, accelerator: Any, final: bool) -> dict[str, Any]:
        """Scores of raw `examples` and, under `predictions`, what the model said, in the order of the examples.

        A task that sees the labels on the way also gives `loss`, the mean over labels.
        """
        raise NotImplementedError


def text_configs(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """The configurations of what reads or writes tokens: halves, without one that sees, or the whole."""
    halves = [getattr(config, name) for name in config.sub_configs]
    return [half for half in halves if hasattr(half, "max_position_embeddings")] or [config]


def gathered(items: list, accelerator: Any) -> list:
    """What all processes found, sorted; each item begins with its number."""
    if accelerator.num_processes > 1:
        items = gather_object(items)
    return sorted(items, key=lambda item: item[0])


def text_problem(column: str | None, text: Any) -> str | None:
    """Why a value is no text to learn from."""
    if not isinstance(text, str):
        return f"column {column!r} holds {shortened(repr(text))}, not a text"
    return None if text.strip() else f"column {column!r} is empty"


def beginning(text: Any, tokens: int) -> str:
    """A text, or of one that is too long for so many tokens by far a part that is too long too: megabytes in one line
    would take gigabytes to tokenize."""
    return text[: max(LONGEST, 100 * tokens)] if isinstance(text, str) else ""


def shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def pad(rows: Sequence[Sequence[int] | np.ndarray], value: int) -> torch.Tensor:
    """Rows of ids as `(rows, longest)`, filled up on the right."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)
