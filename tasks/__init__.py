"""Tasks: one file each; a task turns rows into batches and a trained model into scores."""

from ..configuration.errors import UserError
from .base import Task
from .causal_lm import CausalLMTask
from .image_captioning import ImageCaptioningTask
from .masked_lm import MaskedLMTask
from .question_answering import QuestionAnsweringTask
from .summarization import SummarizationTask
from .text_classification import TextClassificationTask
from .token_classification import TokenClassificationTask
from .translation import TranslationTask

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        MaskedLMTask,
        CausalLMTask,
        TextClassificationTask,
        TokenClassificationTask,
        QuestionAnsweringTask,
        TranslationTask,
        SummarizationTask,
        ImageCaptioningTask,
    )
}


def get_task(name: str) -> type[Task]:
    """The task class of a recipe's `task`.

    Raises:
        UserError: Unknown; lists what there is.
    """
    if name not in TASKS:
        raise UserError(f"task={name!r}: unknown task; there are {', '.join(TASKS)}")
    return TASKS[name]
