"""Metrics as `evaluate.Metric` modules of this package, so that no metric script is downloaded at run time. Each is a function
under the decorator `metric`."""

from .classification import ClassificationQuality, MultiLabelQuality, RegressionQuality
from .language_modeling import language_model_scores
from .question_answering import AnswerQuality
from .summarization import SummaryQuality
from .tagging import EntityQuality
from .translation import TranslationQuality

__all__ = [
    "AnswerQuality",
    "ClassificationQuality",
    "EntityQuality",
    "MultiLabelQuality",
    "RegressionQuality",
    "SummaryQuality",
    "TranslationQuality",
    "language_model_scores",
]
