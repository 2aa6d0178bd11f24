"""Data that the package generates itself: Korean dates, times, amounts and quantities in sentences, with the English."""

from .dataset import DEFAULT_SIZES, ENTITY_LABELS, EmbeddedTask, load_embedded
from .grammar import TOPICS
from .tagging import token_spans

__all__ = ["DEFAULT_SIZES", "ENTITY_LABELS", "TOPICS", "EmbeddedTask", "load_embedded", "token_spans"]
