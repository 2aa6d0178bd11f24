"""What reads raw rows: which columns they have, what is wrong with them, and what they tell a model."""

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import datasets
from transformers import PreTrainedConfig

from ..configuration.errors import UserError
from ..data.tokenizer import BIDIRECTIONAL, Template
from ..recipes.schema import Recipe, build, nearest
from .task import Task

LONGEST = 100_000  # characters that are tokenized of a text that must be short

Rows = dict[str, list]
"""Columns, under the task's names for them."""

Example = dict[str, str]
"""What a model is asked, by the names that `trefoil.load` gives its inputs."""


class Reader:
    """Knows the recipe, and nothing yet of a tokenizer or a model.

    Raises:
        UserError: The recipe names a column, an option or a metric that the task does not have.
    """

    template: Template = BIDIRECTIONAL  # of a tokenizer that is trained for this task
    can_stream: ClassVar[bool] = False  # whether rows say all by themselves, so that no one has to see them all before
    predicts_tokens: ClassVar[bool] = False  # of a vocabulary, rather than labels
    source_keys: ClassVar[tuple[str, ...]] = ()  # what a source may say of its rows beside their columns
    needed_tokens: tuple[str, ...] = ()  # special tokens that a tokenizer must have, or what stands in for them

    def __init__(self, task: Task, recipe: Recipe) -> None:
        self.task, self.recipe = task, recipe
        self.options: Any = build(task.options, recipe.options, f"task {task.name}", "options.")
        roles = (*self.roles, *task.optional_roles)
        for role in recipe.data.columns:
            if role not in roles:
                raise UserError(f"data.columns.{role}: the task {task.name} has no such column{nearest(role, roles)}")
        # what stands before the texts of each source
        self.source_tags = [f"<{source.tag}>" if source.tag else "" for source in recipe.data.sources]
        for number, source in enumerate(recipe.data.sources):
            for key in {"tag", "directions"} - {*self.source_keys}:
                if getattr(source, key) is not None:
                    raise UserError(f"data.sources[{number}].{key}: the task {task.name} has none; leave it out")
        self.require_metric(task.metrics)
        if recipe.optimization.z_loss and not self.predicts_tokens:
            raise UserError(
                f"optimization.z_loss: the task {task.name} predicts labels, whose logits do not drift; leave it out"
            )
        if recipe.data.streaming and not self.can_stream:
            raise UserError(
                f"data.streaming: the task {task.name} looks at its whole training split before the first step; leave it out"
            )

    def require_metric(self, metrics: tuple[str, ...]) -> None:
        """
        Raises:
            UserError: The recipe's metric is none of these.
        """
        if (metric := self.recipe.evaluation.metric) and metric not in metrics:
            raise UserError(
                f"evaluation.metric={metric!r}: the task {self.task.name} has no such metric; "
                f"there are {', '.join(metrics)}"
            )

    @property
    def tags(self) -> tuple[str, ...]:
        """Special tokens that stand before texts, which a tokenizer must have."""
        return tuple(dict.fromkeys(filter(None, self.source_tags)))

    @property
    def roles(self) -> tuple[str, ...]:
        """Columns that every split must have, named by what they are for."""
        return self.task.roles

    def column(self, role: str) -> str | None:
        """The column that holds what the task calls `role`; None for an optional one that the recipe does not name."""
        return self.recipe.data.columns.get(role, role if role in self.roles else None)

    def columns(self) -> list[str]:
        """Columns that every split must have."""
        return list(self.column_names().values())

    def by_role(self, rows: dict[str, list]) -> Rows:
        return {role: rows[name] for role, name in self.column_names().items()}

    def column_names(self) -> dict[str, str]:
        """The role of each column that is read, and its name."""
        roles = (*self.roles, *self.task.optional_roles)
        return {role: name for role in roles if (name := self.column(role)) is not None}

    def batches(self, examples: datasets.Dataset, size: int = 1000) -> Iterator[Rows]:
        """The rows of a split, so many at a time."""
        for rows in examples.select_columns(self.columns()).iter(batch_size=size):
            yield self.by_role(rows)

    def prepared(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        """The split as it is read from here on.

        Raises:
            UserError: A column is of a kind that cannot be read.
        """
        return examples

    def learn(self, train: datasets.Dataset) -> dict[str, Any]:
        """Fields of a model's configuration that only the raw training split knows, such as the labels that there are.

        Raises:
            UserError: The split does not say.
        """
        return {}

    def head_is_new(self, config: PreTrainedConfig, learned: dict[str, Any]) -> bool:
        """Whether the head of a model with this configuration is of no use for what was learned of the data."""
        return False

    def text_roles(self) -> tuple[str, ...]:
        """The roles whose columns hold texts."""
        return self.roles

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        """Texts to train a tokenizer on, in lists: those of the text columns, if not said otherwise."""
        names = [name for role in self.text_roles() if (name := self.column(role)) is not None]
        for batch in examples.select_columns(names).iter(batch_size=1000):
            for name in names:
                yield [text for text in batch[name] if isinstance(text, str)]

    def problems(self, rows: Rows) -> list[str | None]:
        """What is wrong with each row, whatever the tokenizer and the model; here, with the texts."""
        found = [[self.text_problem(role, text) for text in rows[role]] for role in self.text_roles() if role in rows]
        return [next(filter(None, of_row), None) for of_row in zip(*found, strict=True)]

    def text_problem(self, role: str, text: Any) -> str | None:
        """Why a value is no text to learn from."""
        if not isinstance(text, str):
            return f"column {self.column(role)!r} holds {shortened(repr(text))}, not a text"
        return None if text.strip() else f"column {self.column(role)!r} is empty"

    def mistakes(self, examples: datasets.Dataset, place: Callable[[int], str]) -> dict[str, tuple[str, int]]:
        """What is wrong with rows, whatever the tokenizer and the model: of each kind the first, and how many there are.

        Args:
            examples: As `prepared`.
            place: What a row is called in messages, by its index.
        """
        found: dict[str, tuple[str, int]] = {}
        index = 0
        for rows in self.batches(examples):
            for problem in self.problems(rows):
                if problem is not None:
                    # of one kind are those that differ in a value that is shown
                    kind = re.sub(r"(column '[^']*')|'[^']*'|\d+", lambda match: match[1] or "…", problem)
                    first, count = found.get(kind, (f"{place(index)}: {problem}", 0))
                    found[kind] = first, count + 1
                index += 1
        return found

    def asked(self, rows: Rows) -> list[Example]:
        """Of valid rows, what a model is asked; nothing where these are no texts."""
        roles = [role for role in self.task.asked if role in rows]
        names = roles if len(roles) > 1 else ["text"] * len(roles)
        return [dict(zip(names, texts, strict=True)) for texts in zip(*(rows[role] for role in roles), strict=True)]

    def shown(self, row: dict[str, Any]) -> dict[str, Any]:
        """A raw row as it is written beside the prediction, in JSON."""
        return row


def beginning(text: Any, tokens: int) -> str:
    """A text, or of one that is too long for so many tokens by far a part that is too long too: megabytes in one line
    would take gigabytes to tokenize."""
    return text[: max(LONGEST, 100 * tokens)] if isinstance(text, str) else ""


def first_words(text: str, length: int) -> str:
    """So many characters at most, in whole words where there are spaces between them."""
    return text if len(text) <= length else text[: max(text.rfind(" ", 0, length + 1), 0) or length]


def shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
