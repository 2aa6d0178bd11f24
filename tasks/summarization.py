"""Summarization: documents and their summaries, ROUGE."""

import evaluate

from .metrics.summarization import SummaryQuality
from .text_to_text import TextToTextTask


class SummarizationTask(TextToTextTask):
    name = "summarization"
    metrics = ("rougeL", "rouge1", "rouge2", "rougeLsum", "exact_match")

    def quality(self) -> evaluate.Metric:
        return SummaryQuality(keep_in_memory=True)
