"""Summarization: documents and their summaries, ROUGE."""

from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForSeq2SeqLM

from ..configuration.errors import UserError
from .metrics.paired import ROUGE_L
from .metrics.summarization import SummaryQuality
from .preprocessor import Preprocessor, Split
from .task import Task
from .text_to_text import FAMILIES, TextToTextEvaluator, TextToTextPreprocessor, TextToTextReader


@strict
@dataclass
class SummarizationOptions:
    # a column of the splits that are scored, with a list of summaries in each row: the best counts, rather than the target
    references: str | None = None


class SummarizationEvaluator(TextToTextEvaluator):
    """
    Raises:
        UserError: The split has no such column as `options.references` names, or an empty list in it.
    """

    quality = SummaryQuality

    def __init__(self, preprocessor: Preprocessor, split: Split, accelerator: Accelerator) -> None:
        super().__init__(preprocessor, split, accelerator)
        column, rows = self.reader.options.references, split.rows
        if column is None:
            return
        if column not in rows.column_names:
            raise UserError(
                f"{split.name}: no column {column!r}, which options.references names; there are {', '.join(rows.column_names)}"
            )
        for number, several in enumerate(rows[column], start=1):
            if not isinstance(several, list) or not several or not all(isinstance(one, str) for one in several):
                raise UserError(f"{split.name} example {number}: column {column!r} holds no list of summaries")

    def references(self) -> list[Any]:
        column = self.reader.options.references
        return super().references() if column is None else list(self.split.rows[column])


SUMMARIZATION = Task(
    name="summarization",
    also_called=("summarize", "summarise", "summarisation", "summary", "summaries"),
    pipeline_tag="summarization",
    auto_class=AutoModelForSeq2SeqLM,
    families=FAMILIES,
    roles=("source", "target"),
    options=SummarizationOptions,
    asked=("source",),
    measure=lambda *_: ROUGE_L,
    metrics=("rougeL", "rouge1", "rouge2", "rougeLsum", "exact_match"),
    reader=TextToTextReader,
    preprocessor=TextToTextPreprocessor,
    evaluator=SummarizationEvaluator,
)
