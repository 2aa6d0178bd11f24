"""Translation: sentence pairs, BLEU."""

import evaluate

from .metrics.translation import TranslationQuality
from .text_to_text import TextToTextTask


class TranslationTask(TextToTextTask):
    name = "translation"
    metrics = ("bleu", "chrf", "exact_match")

    def quality(self) -> evaluate.Metric:
        return TranslationQuality(keep_in_memory=True)
