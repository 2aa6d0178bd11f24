"""Translation: sentence pairs, BLEU."""

from transformers import AutoModelForSeq2SeqLM

from .metrics.translation import TranslationQuality
from .task import Task
from .text_to_text import FAMILIES, TextToTextEvaluator, TextToTextPreprocessor, TextToTextReader


class TranslationEvaluator(TextToTextEvaluator):
    quality = TranslationQuality


TRANSLATION = Task(
    name="translation",
    pipeline_tag="translation",
    auto_class=AutoModelForSeq2SeqLM,
    families=FAMILIES,
    roles=("source", "target"),
    metrics=("bleu", "chrf", "exact_match"),
    reader=TextToTextReader,
    preprocessor=TextToTextPreprocessor,
    evaluator=TranslationEvaluator,
)
