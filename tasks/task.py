"""What a task is: a frozen description, and the table of those that there are."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict

from ..configuration.errors import UserError
from ..modeling.encoder_decoder import TrefoilEncoderDecoderForConditionalGeneration
from ..recipes.schema import nearest
from .metrics.paired import Measure

if TYPE_CHECKING:
    from .evaluator import Evaluator
    from .preprocessor import Preprocessor
    from .reader import Reader
    from .sentence_scorer import SentenceScorer


@strict
@dataclass
class NoOptions:
    """A task without options of its own."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What neither the data nor a model can change.

    Args:
        name: As in a recipe's `task`.
        also_called: What else people call it, in lower case; a recipe does not.
        pipeline_tag: What the Hub and `pipeline` call it.
        auto_class: The class that loads a model with the head.
        families: Model types that can do this.
        roles: Columns that every split must have, named by what they are for.
        optional_roles: Columns that are read only where `data.columns` names them.
        options: The dataclass of the recipe's `options`.
        metrics: Scores by which models can be chosen, the usual one first.
        minimized: Those of which less is better.
        asked: Roles of what a model is given, by whose length scores are divided.
        measure: A score that is a sum over examples, given the references and the language that they are in; None for what
            says nothing of examples.
        scorer: What says how likely a model finds a sentence; None for what is no language model.
        reader, preprocessor, evaluator: What reads raw rows, what makes batches of them, and what scores a model.
        joined_class: The class of a model whose halves were trained apart.
        text_halves: Those of the halves that have a tokenizer.
    """

    name: str
    also_called: tuple[str, ...] = ()
    pipeline_tag: str
    auto_class: Any
    families: tuple[str, ...]
    roles: tuple[str, ...]
    optional_roles: tuple[str, ...] = ()
    options: type = NoOptions
    metrics: tuple[str, ...]
    minimized: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    measure: Callable[[Sequence[Any], str | None], Measure] | None = None
    reader: type["Reader"]
    preprocessor: type["Preprocessor"]
    evaluator: type["Evaluator"]
    scorer: type["SentenceScorer"] | None = None
    joined_class: Any = TrefoilEncoderDecoderForConditionalGeneration
    text_halves: tuple[str, ...] = ("encoder", "decoder")


TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Add a task to those that a recipe can name.

    Raises:
        ValueError: There is another one of that name.
    """
    if TASKS.setdefault(task.name, task) is not task:
        raise ValueError(f"the task {task.name!r} is registered already")
    return task


def get_task(name: str) -> Task:
    """The task of a recipe.

    Raises:
        UserError: Unknown; names the nearest one.
    """
    if name not in TASKS:
        called = [other for task in TASKS.values() for other in task.also_called]
        alike = difflib.get_close_matches(name.lower(), called, n=1, cutoff=0.75)
        own = usual_name(name) or (usual_name(alike[0]) if alike else None)
        meant = f"; did you mean {own}?" if own else nearest(name, list(TASKS))
        raise UserError(f"task={name!r}: unknown task{meant}")
    return TASKS[name]


def usual_name(called: str) -> str | None:
    """What a recipe calls a task, by that name or one of those that it is also called."""
    called = called.lower().replace("_", "-").replace(" ", "-")
    return next((name for name, task in TASKS.items() if called in (name, *task.also_called)), None)
