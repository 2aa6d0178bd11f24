"""Registration of pipelines with transformers, by importing this module: `pipeline("translation", ...)` works wherever `trefoil` is
imported, without running a folder's own code."""

from typing import Any

from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, pipelines
from transformers.pipelines import PIPELINE_REGISTRY

from .question_answering import QuestionAnsweringPipeline
from .summarization import SummarizationPipeline
from .translation import TranslationPipeline, languages_of_task

# task -> pipeline class, Auto class; the publisher's `custom_pipelines` comes from here too
PIPELINES: dict[str, tuple[Any, type]] = {
    "translation": (TranslationPipeline, AutoModelForSeq2SeqLM),
    "summarization": (SummarizationPipeline, AutoModelForSeq2SeqLM),
    "question-answering": (QuestionAnsweringPipeline, AutoModelForQuestionAnswering),
}


class _TranslationPairs(dict):
    """transformers' task aliases, with `translation_xx_to_yy` standing for `translation` as in transformers 4."""

    def __contains__(self, task: object) -> bool:
        return super().__contains__(task) or (isinstance(task, str) and languages_of_task(task) != (None, None))

    def __missing__(self, task: str) -> str:
        return "translation"


def _register() -> None:
    """Newer transformers refuse the names of removed tasks before they look them up, so these are taken off that list."""
    removed_tasks = getattr(pipelines, "REMOVED_TASKS", {})
    for task, (pipeline_class, auto_class) in PIPELINES.items():
        removed_tasks.pop(task, None)
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, pt_model=auto_class, type="text")
        # Left in place, it makes `pipe.save_pretrained` copy this package's file and name it as the folder's own code.
        del pipeline_class._registered_impl
    PIPELINE_REGISTRY.task_aliases = _TranslationPairs(PIPELINE_REGISTRY.task_aliases)


_register()
