"""Summarization: documents and their summaries, ROUGE."""

from transformers import AutoModelForSeq2SeqLM

from .metrics.summarization import SummaryQuality
from .task import Task
from .text_to_text import FAMILIES, TextToTextEvaluator, TextToTextPreprocessor, TextToTextReader


class SummarizationEvaluator(TextToTextEvaluator):
    quality = SummaryQuality


SUMMARIZATION = Task(
    name="summarization",
    pipeline_tag="summarization",
    auto_class=AutoModelForSeq2SeqLM,
    families=FAMILIES,
    roles=("source", "target"),
    metrics=("rougeL", "rouge1", "rouge2", "rougeLsum", "exact_match"),
    reader=TextToTextReader,
    preprocessor=TextToTextPreprocessor,
    evaluator=SummarizationEvaluator,
)
