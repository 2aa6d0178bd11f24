"""What a task is to the loop."""

from collections.abc import Iterator
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...configuration.errors import UserError
from ..data import list_lengths
from ..recipe import Recipe


class Task:
    """The loop asks a task for columns, encoded examples, batches and scores, and knows nothing else of it.

    Args:
        recipe: The run's recipe.
        tokenizer: The run's tokenizer; None until one is trained.

    Raises:
        UserError: The recipe's metric is none of this task's.
    """

    name: ClassVar[str]
    auto_class: ClassVar[Any]  # which head to load
    family: ClassVar[tuple[str, ...]]  # model types that can do this
    sides: ClassVar[tuple[str, ...]]  # encoded columns whose lengths count in a batch
    metrics: ClassVar[tuple[str, ...]]  # scores by which models can be chosen; higher is better

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        if recipe.evaluation.metric not in self.metrics:
            raise UserError(
                f"evaluation.metric={recipe.evaluation.metric!r}: the task {self.name} has no such metric; "
                f"there are {', '.join(self.metrics)}"
            )
        self.recipe = recipe
        self.tokenizer: Any = tokenizer

    def columns(self) -> list[str]:
        """Columns that every split must have."""
        raise NotImplementedError

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        """Texts to train a tokenizer on, in lists."""
        raise NotImplementedError

    def encode(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        """Rows as token ids, with the columns of `sides`.

        Raises:
            UserError: A row that cannot be encoded; names the row.
        """
        raise NotImplementedError

    def scorable(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        """The rows that `evaluate` can score.

        Raises:
            UserError: A row that cannot be scored, unless the recipe says to skip it; names the row.
        """
        raise NotImplementedError

    def lengths(self, encoded: datasets.Dataset) -> np.ndarray:
        """`(examples, sides)`: the tokens of each side."""
        return np.stack([list_lengths(encoded, side) for side in self.sides], axis=1)

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        """Encoded rows, column by column, as a batch of tensors with `labels`."""
        raise NotImplementedError

    def prepare_config(self, config: PreTrainedConfig) -> None:
        """Tell the model what the task knows (token ids, labels) and learn what it can take (lengths)."""

    def generation_config(self, config: PreTrainedConfig) -> GenerationConfig:
        """How a model of this task generates unless told otherwise; only asked of models that can."""
        raise NotImplementedError

    def evaluate(self, model: PreTrainedModel, examples: Any, accelerator: Any, final: bool) -> dict[str, Any]:
        """Scores of raw `examples` and, under `predictions`, what the model said, in the order of the examples."""
        raise NotImplementedError
