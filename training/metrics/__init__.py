"""Metrics as `evaluate.Metric` modules of this package, so that no metric script is downloaded at run time."""

from .translation import TranslationQuality

__all__ = ["TranslationQuality"]
