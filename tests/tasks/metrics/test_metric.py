"""A function that becomes a metric of `evaluate`."""

import pickle

import evaluate
import pytest

from trefoil.tasks.metrics import TranslationQuality
from trefoil.tasks.metrics.metric import NUMBER, metric


@metric(NUMBER)
def AbsoluteError(predictions, references):
    """The mean of absolute errors."""
    return {
        "error": sum(abs(one - other) for one, other in zip(predictions, references, strict=True)) / len(references)
    }


def test_it_is_a_metric_of_evaluate():
    errors = AbsoluteError(keep_in_memory=True)
    assert isinstance(errors, evaluate.Metric)
    assert (errors.name, errors.description) == ("absolute_error", "The mean of absolute errors.")
    errors.add(prediction=1, reference=2)
    errors.add_batch(predictions=[4.0], references=[1.0])
    assert errors.compute() == {"error": 2}
    with pytest.raises(ValueError, match="nothing to score"):
        errors.compute(predictions=[], references=[])
    with pytest.raises(ValueError, match="could not convert"):
        errors.compute(predictions=["one"], references=["two"])


def test_it_combines_with_others():
    both = evaluate.combine([AbsoluteError(keep_in_memory=True), AbsoluteError(keep_in_memory=True)])
    assert both.compute(predictions=[1.0], references=[3.0]) == {
        "absolute_error_0_error": 2,
        "absolute_error_1_error": 2,
    }


def test_its_class_is_found_by_its_name():
    assert pickle.loads(pickle.dumps(TranslationQuality)) is TranslationQuality
