"""What makes batches of rows: token ids, which are made once and lie on the disk, and tensors."""

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..data.encoded import (
    NOTES,
    PROBLEM,
    Examples,
    count_in_lists,
    encode_now,
    encode_once,
    first_problem,
    list_lengths,
    sum_notes,
)
from ..data.loading import row_place
from ..data.packing import FlatColumn
from ..data.tokenizer import model_token_ids, padding_id, require_tokens, unknown_id
from ..recipes.schema import Recipe
from .reader import Reader, Rows

INT, FLOAT, INTS = datasets.Value("int32"), datasets.Value("float32"), datasets.List(datasets.Value("int32"))

CHARACTERS = 2**20  # that are tokenized at once of a stream
CUT = "cut {} texts that were too long"


@dataclass
class EncodedRow:
    """What a raw row becomes: examples, several where it is cut into windows, and what there is to say of it, each with
    `{}` for how often."""

    examples: list[dict[str, Any]]
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Split:
    """A part of the data, raw and encoded.

    Args:
        name: What it is called in messages: its file, or its name on the Hub.
        rows: The raw rows that are valid, in their order.
        examples: What they became, in their order.
        skipped, first_skipped: Of invalid rows, how many there were and what was wrong with the first.
        notes: What else there is to say, with `{}` for how often.
        is_scored: It is for scores.
    """

    name: str
    rows: datasets.Dataset
    examples: Examples
    skipped: int = 0
    first_skipped: str | None = None
    notes: Counter[str] = field(default_factory=Counter)
    is_scored: bool = False

    @property
    def why_empty(self) -> str:
        return self.first_skipped or "the text is too short: there is nothing to predict"

    def remarks(self) -> list[str]:
        """Lines for the user."""
        skipped = f"skipped {self.skipped:,} invalid examples; the first: {self.first_skipped}"
        notes = [note.format(f"{count:,}") for note, count in self.notes.items()]
        return [f"{self.name}: {line}" for line in [skipped] * bool(self.skipped) + notes]


class Preprocessor:
    """Knows what was learned from the data, as the model's configuration says it, and the tokenizer.

    Args:
        reader: Of the raw rows.
        tokenizer: Of the texts.
        config: The model's, told of `model_fields`.

    Raises:
        UserError: Tokenizer, model and recipe do not go together.
    """

    features: dict[str, Any]  # columns of encoded examples
    sides: ClassVar[tuple[str, ...]] = ("input_ids",)  # those whose lengths count in a batch
    label_names: ClassVar[tuple[str, ...]] = ("labels",)  # those of a batch that count for the loss
    hides_tokens: ClassVar[bool] = True  # whether batches.token_dropout makes sense
    needs_places: ClassVar[bool] = False  # whether the tokenizer must know where in a text its tokens stand

    def __init__(self, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        self.reader, self.tokenizer = reader, tokenizer
        self.recipe: Recipe = reader.recipe
        self.options: Any = reader.options
        if self.needs_places and not tokenizer.is_fast:
            raise UserError(
                f"{type(tokenizer).__name__} does not say where in a text its tokens stand; "
                f"the task {reader.task.name} needs a fast tokenizer"
            )
        vocabulary = tokenizer.get_vocab() if reader.tags else {}
        if missing := [tag for tag in reader.tags if tag not in vocabulary]:
            raise UserError(
                f"{tokenizer.name_or_path or 'the tokenizer'}: has no {missing[0]}, which stands before texts of the recipe's; take "
                f"one that has it, such as one trained with tokenizer.special_tokens=[{', '.join(reader.tags)}]"
            )
        batches, limit = self.recipe.batches, tokenizer.model_max_length  # of a stock model that says no positions
        positions = [getattr(part, "max_position_embeddings", limit) for part in text_configs(config)]
        self.max_source_length = min(batches.max_source_length or positions[0], positions[0])
        self.max_target_length = min(batches.max_target_length or positions[-1], positions[-1])
        tokenizer.model_max_length = self.max_source_length
        self.hidden = self._hidden_token() if batches.token_dropout else None
        self.special = tokenizer.all_special_ids

    def _hidden_token(self) -> int:
        """What stands for a token that `batches.token_dropout` hides.

        Raises:
            UserError: Nothing can.
        """
        if not self.hides_tokens:
            raise UserError(f"batches.token_dropout is not for the task {self.reader.task.name}; leave it out")
        hidden = self.tokenizer.mask_token_id
        hidden = unknown_id(self.tokenizer) if hidden is None else hidden
        if hidden is None:
            raise UserError(
                "batches.token_dropout needs a mask or an unknown token, and this tokenizer has neither; leave it out, or "
                "train a tokenizer that has one (tokenizer.kind=unigram)"
            )
        return hidden

    @classmethod
    def model_fields(
        cls, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, learned: dict[str, Any]
    ) -> dict[str, Any]:
        """What the model is told: the ids of special tokens, and what was learned from the data.

        Raises:
            UserError: The tokenizer lacks a token that the task needs.
        """
        require_tokens(tokenizer, reader.needed_tokens, reader.task.name)
        return model_token_ids(tokenizer, config, reader.needed_tokens) | learned

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        """Rows as encoded examples with the columns of `features`, or what is wrong with them.

        Args:
            is_scored: The examples are for scores, which a row is not spared for being long.
        """
        raise NotImplementedError

    def stored_features(self, is_scored: bool) -> dict[str, Any]:
        """The columns of `encode_rows`."""
        return self.features

    def encode(self, raw: datasets.Dataset, where: str, is_scored: bool = False) -> Split:
        """A split, its rows made into token ids, once for all runs that would make the same.

        Args:
            raw: The rows as they were loaded.
            where: What they are called in messages.
            is_scored: They are for scores.

        Raises:
            UserError: A row that cannot be encoded, unless the recipe says to skip it; names the row. None is left.
        """
        raw = self.reader.prepared(raw, where)
        place = row_place(self.recipe.data, raw, where)

        def encode_batch(rows: dict[str, list], indices: list[int]) -> dict[str, list]:
            return self._encoded(rows, indices, place, is_scored)

        features, workers = self.stored_features(is_scored), self.recipe.batches.workers
        encoded = encode_once(raw, encode_batch, features, self._identity(is_scored), where, workers)
        split = self._split(where, raw, encoded, place, is_scored)
        if not len(split.examples):
            raise UserError(f"{where}: no valid example is left of {len(raw)}; {split.why_empty}")
        return split

    def encode_block(self, rows: dict[str, list], where: str, place: Callable[[int], str]) -> tuple[Split, np.ndarray]:
        """The same of rows to train on that are in memory, as a part of a stream is, and how many tokens each became; there may
        be none that is valid.

        Args:
            place: What a row is called in messages, by its index.
        """
        indices = list(range(len(next(iter(rows.values())))))
        # a tokenizer takes a hundred times the memory of its ids, so few texts at a time
        characters = np.sum([[len(str(value)) for value in column] for column in rows.values()], axis=0)
        parts = np.split(indices, np.flatnonzero(np.diff(np.cumsum(characters) // CHARACTERS)) + 1)
        batches = (
            self._encoded(
                {name: [values[at] for at in part] for name, values in rows.items()}, part.tolist(), place, False
            )
            for part in parts
        )
        encoded = encode_now(batches, self.stored_features(is_scored=False))
        tokens = np.zeros(len(indices), dtype=np.int64)
        for side in self.sides:
            np.add.at(tokens, encoded.data.column("example").to_numpy(), FlatColumn(encoded, side).lengths)
        return self._split(where, datasets.Dataset.from_dict({"row": indices}), encoded, place, is_scored=False), tokens

    def _encoded(
        self, rows: dict[str, list], indices: list[int], place: Callable[[int], str], is_scored: bool
    ) -> dict[str, list]:
        """The columns of `encode_once`."""
        features = self.stored_features(is_scored)
        columns: dict[str, list] = {name: [] for name in (*features, "example", PROBLEM, NOTES)}
        found = self.encode_rows(self.reader.by_role(rows), is_scored)
        for index, row in zip(indices, found, strict=True):
            if isinstance(row, str) and self.is_strict:
                raise invalid(place(index), row)
            problem, row = (row, EncodedRow([{}])) if isinstance(row, str) else (None, row)
            for number, example in enumerate(row.examples):
                for name in features:
                    columns[name].append(example.get(name))
                columns["example"].append(index)
                columns[PROBLEM].append(problem)
                columns[NOTES].append(dict(row.notes) if row.notes and number == 0 else None)
        return columns

    @property
    def is_strict(self) -> bool:
        return self.recipe.data.invalid_examples == "error"

    def _split(
        self,
        where: str,
        raw: datasets.Dataset,
        encoded: datasets.Dataset,
        place: Callable[[int], str],
        is_scored: bool,
    ) -> Split:
        skipped, first = first_problem(encoded)
        if first is not None and self.is_strict:  # found by a run that skips
            raise invalid(place(first[0]), first[1])
        told = None if first is None else f"{place(first[0]).removeprefix(where).strip()}, {first[1]}"
        valid = encoded
        if skipped:
            is_valid = encoded.data.column(PROBLEM).is_null().to_numpy()
            valid = encoded.select(np.flatnonzero(is_valid))
            raw = raw.select(np.unique(encoded.data.column("example").to_numpy()[is_valid]))
        split = Split(where, raw, valid.remove_columns([PROBLEM, NOTES]), skipped, told, sum_notes(encoded), is_scored)
        return self.finished(split, encoded) if len(valid) else split

    def finished(self, split: Split, encoded: datasets.Dataset) -> Split:
        """The split as it is batched and scored.

        Args:
            encoded: All rows as they lie on the disk, invalid ones too.
        """
        return split

    def _identity(self, is_scored: bool) -> list[Any]:
        """All that the token ids depend on, beside the rows."""
        sources = [Path(inspect.getfile(kind)).read_bytes() for kind in type(self).__mro__[:-1]]
        tokenizer = self.tokenizer
        pieces = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
        lengths = [self.max_source_length, self.max_target_length, self.recipe.batches.truncate]
        names = [
            self.recipe.data.columns,
            self.recipe.options,
            tokenizer.special_tokens_map,
            tokenizer.model_input_names,
        ]
        return [sources, pieces, lengths, names, is_scored, self.recipe.data.invalid_examples]

    def lengths(self, examples: Examples) -> np.ndarray:
        """`(examples, sides)`: the tokens of each side."""
        return np.stack([list_lengths(examples, side) for side in self.sides], axis=1)

    def token_count(self, examples: Examples) -> int:
        """The tokens of all sides."""
        return sum(int(list_lengths(examples, side).sum()) for side in self.sides)

    def unknown_share(self, examples: Examples) -> float:
        """Of the tokens, those of which the tokenizer knows nothing but that they are there."""
        unknown = unknown_id(self.tokenizer)
        if unknown is None:
            return 0.0
        return sum(count_in_lists(examples, side, unknown) for side in self.sides) / self.token_count(examples)

    def randomize(self, rows: Rows, indices: np.ndarray, epoch: int) -> Rows:
        """Encoded rows, changed at random for training; a function of (seed, epoch, index) alone.

        Tokens of the source are hidden, as Iyyer et al. 2015, §3.1, drop words; special ones never.
        """
        if self.hidden is None:
            return rows
        sources = []
        for ids, index in zip(rows["input_ids"], indices, strict=True):
            random, ids = np.random.default_rng([self.recipe.seed, epoch, int(index)]), np.asarray(ids)
            chosen = random.random(len(ids)) < self.recipe.batches.token_dropout
            chosen &= ~np.isin(ids, self.special)
            sources.append(np.where(chosen, self.hidden, ids))
        return {**rows, "input_ids": sources}

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        """Encoded rows, column by column, as a batch of tensors with those of `label_names`."""
        raise NotImplementedError

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        """Tokens that a batch holds, padding included."""
        return batch["input_ids"].numel()

    def padded(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        """Token ids as `input_ids` and `attention_mask`, both `(rows, longest)`."""
        return {
            "input_ids": pad(rows, padding_id(self.tokenizer)),
            "attention_mask": pad([[1] * len(ids) for ids in rows], 0),
        }

    def generation_config(self, config: PreTrainedConfig, train: Split | None = None) -> GenerationConfig:
        """How a model of this task generates unless told otherwise; only asked of models that can.

        Args:
            train: What it was trained on.
        """
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write, beside a model, what makes its inputs."""
        self.tokenizer.save_pretrained(folder)


def invalid(place: str, problem: str) -> UserError:
    return UserError(f"{place}: {problem}; mend it or set data.invalid_examples=skip")


def text_configs(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """The configurations of what reads or writes tokens: halves, without one that sees, or the whole."""
    halves = [getattr(config, name) for name in config.sub_configs]
    return [half for half in halves if hasattr(half, "max_position_embeddings")] or [config]


def tell_model(config: PreTrainedConfig, fields: dict[str, Any]) -> None:
    """Set what a task tells a model; ids of special tokens also of the halves that read or write tokens."""
    for part in (*text_configs(config), config):
        for name, value in fields.items():
            if part is config or name in ("pad_token_id", "bos_token_id", "eos_token_id"):
                setattr(part, name, value)


def special_token_ids(config: PreTrainedConfig) -> dict[str, Any]:
    """What generation needs to know of a model's special tokens, as the fields of a `GenerationConfig`."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    return {name: getattr(config, name, None) for name in names}


def pad(rows: Sequence[Sequence[int] | np.ndarray], value: int) -> torch.Tensor:
    """Rows of ids as `(rows, longest)`, filled up on the right."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)
