"""How a function becomes a metric."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import datasets
import evaluate

TEXT, WHOLE, NUMBER = (datasets.Value(dtype) for dtype in ("string", "int64", "float64"))


class Metric(evaluate.Metric):
    """What `evaluate` asks for around a function of predictions and references."""

    scores: ClassVar[Callable[..., dict[str, Any]]]
    columns: ClassVar[datasets.Features | list[datasets.Features]]

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(description=inspect.getdoc(self), citation="", features=self.columns)

    def compute(self, *, references: list | None = None, **inputs: Any) -> dict[str, Any]:
        """As `evaluate` does, whose message about nothing would tell of an index."""
        if references is not None and not len(references):
            raise ValueError("there is nothing to score: no predictions and no references")
        return super().compute(references=references, **inputs)

    def _compute(self, predictions: list, references: list, **options: Any) -> dict[str, Any]:
        return type(self).scores(predictions, references, **options)


def metric(predictions: Any, *references: Any) -> Callable[[Callable[..., dict[str, Any]]], type[Metric]]:
    """Make a function of predictions and references, and perhaps of options, the class of its name.

    Args:
        predictions, references: Types of one of each, as in `datasets.Features`; references may be of one of several, and
            are as predictions if not told.
    """
    several = [
        datasets.Features({"predictions": predictions, "references": one}) for one in references or [predictions]
    ]
    columns = several if len(several) > 1 else several[0]

    def as_class(function: Callable[..., dict[str, Any]]) -> type[Metric]:
        content = {"scores": staticmethod(function), "columns": columns}
        return type(
            function.__name__, (Metric,), content | {key: getattr(function, key) for key in ("__doc__", "__module__")}
        )

    return as_class
