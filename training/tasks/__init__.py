"""Tasks: one file each; a task turns rows into batches and a trained model into scores."""

from ...configuration.errors import UserError
from .base import Task
from .translation import TranslationTask

TASKS: dict[str, type[Task]] = {"translation": TranslationTask}


def get_task(name: str) -> type[Task]:
    """The task class of a recipe's `task`.

    Raises:
        UserError: Unknown; lists what there is.
    """
    if name not in TASKS:
        raise UserError(f"task={name!r}: unknown task; there are {', '.join(TASKS)}")
    return TASKS[name]
