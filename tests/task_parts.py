"""A task's parts, put together as a run does it."""

from typing import Any

import datasets
from accelerate import Accelerator
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from trefoil.recipes.schema import Recipe
from trefoil.tasks import get_task
from trefoil.tasks.evaluator import Evaluator
from trefoil.tasks.preprocessor import Preprocessor, tell_model
from trefoil.tasks.reader import Reader


def reader_for(recipe: Recipe) -> Reader:
    task = get_task(recipe.task)
    return task.reader(task, recipe)


def preprocessor_for(
    recipe: Recipe, train: datasets.Dataset | None, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
) -> Preprocessor:
    """For a model with this configuration, which is told what there is to learn of the rows; None for a trained model."""
    reader = reader_for(recipe)
    kind, learned = reader.task.preprocessor, {} if train is None else reader.learn(train)
    tell_model(config, kind.model_fields(reader, tokenizer, config, learned))
    return kind(reader, tokenizer, config)


def evaluator_for(preprocessor: Preprocessor, rows: datasets.Dataset, accelerator: Any = None) -> Evaluator:
    split = preprocessor.encode(rows, "test", is_scored=True)
    return preprocessor.reader.task.evaluator(preprocessor, split, accelerator or Accelerator())


def scores_of(model: PreTrainedModel, preprocessor: Preprocessor, rows: datasets.Dataset) -> dict[str, Any]:
    """Of a finished model on these rows."""
    return evaluator_for(preprocessor, rows).evaluate(model, final=True)
