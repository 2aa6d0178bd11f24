"""Tasks: one file each; a task turns rows into batches and a trained model into scores."""

from .causal_lm import CAUSAL_LM
from .denoising import DENOISING
from .image_captioning import IMAGE_CAPTIONING
from .masked_lm import MASKED_LM
from .question_answering import QUESTION_ANSWERING
from .summarization import SUMMARIZATION
from .task import TASKS as TASKS
from .task import Task as Task
from .task import get_task as get_task
from .task import register_task as register_task
from .text_classification import TEXT_CLASSIFICATION
from .token_classification import TOKEN_CLASSIFICATION
from .translation import TRANSLATION

for _task in (
    MASKED_LM,
    CAUSAL_LM,
    DENOISING,
    TEXT_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    QUESTION_ANSWERING,
    TRANSLATION,
    SUMMARIZATION,
    IMAGE_CAPTIONING,
):
    register_task(_task)
