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
    columns: ClassVar[datasets.Features]

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(description=inspect.getdoc(self), citation="", features=self.columns)

    def _compute(self, predictions: list, references: list, **options: Any) -> dict[str, Any]:
        if not references:
            raise ValueError("there is nothing to score: no predictions and no references")
        return type(self).scores(predictions, references, **options)


def metric(predictions: Any, references: Any = None) -> Callable[[Callable[..., dict[str, Any]]], type[Metric]]:
    """Make a function of predictions and references, and perhaps of options, the class of its name.

    Args:
        predictions, references: Types of one of each, as in `datasets.Features`; references are as predictions if not told.
    """
    columns = datasets.Features({"predictions": predictions, "references": references or predictions})

    def as_class(function: Callable[..., dict[str, Any]]) -> type[Metric]:
        content = {"scores": staticmethod(function), "columns": columns}
        return type(
            function.__name__, (Metric,), content | {key: getattr(function, key) for key in ("__doc__", "__module__")}
        )

    return as_class
