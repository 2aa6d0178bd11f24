"""Scores as sums are those of the package, and a difference is as sure as it is said to be."""

import numpy as np
import pytest
from scipy import stats

from trefoil.tasks.metrics import paired
from trefoil.tasks.metrics.classification import MultiLabelQuality, RegressionQuality
from trefoil.tasks.metrics.paired import (
    ACCURACY,
    ANSWER_F1,
    ENTITY_F1,
    EXACT_MATCH,
    MICRO_F1,
    ROUGE_L,
    SQUARED_ERROR,
    bleu,
    difference,
    is_sure,
    label_measure,
    mcnemar,
)
from trefoil.tasks.metrics.question_answering import AnswerQuality
from trefoil.tasks.metrics.summarization import SummaryQuality
from trefoil.tasks.metrics.tagging import EntityQuality
from trefoil.tasks.metrics.translation import TranslationQuality


def test_sums_give_the_scores_of_the_package():
    true = [["B-A", "I-A", "O"], ["O", "B-B"], ["B-A", "O"]]
    found = [["B-A", "I-A", "O"], ["B-B", "B-B"], ["O", "B-A"]]
    tagging = ENTITY_F1
    assert tagging.of(tagging.parts(true, found)) == pytest.approx(
        EntityQuality(keep_in_memory=True).compute(predictions=found, references=true)["f1"]
    )
    texts = ["ein Hund rennt am Strand entlang .", "zwei Katzen sitzen auf dem Sofa", "오늘 🍎 세 개"]
    said = ["ein Hund rennt am Strand .", "zwei Hunde sitzen auf dem Sofa", ""]
    translation = bleu()
    assert translation.of(translation.parts(texts, said)) == pytest.approx(
        TranslationQuality(keep_in_memory=True).compute(predictions=said, references=texts)["bleu"]
    )
    labels = ACCURACY
    assert labels.of(labels.parts(["a", "b", "a"], ["a", "a", "a"])) == pytest.approx(200 / 3)


def labelled(right, count=400):
    """Parts of so many answers, every example right with this chance."""
    return np.stack([np.random.default_rng(int(right * 1000)).random(count) < right, np.ones(count)], axis=1).astype(
        float
    )


def test_intervals_hold_zero_where_nothing_is_sure(monkeypatch):
    monkeypatch.setattr(paired, "DRAWS", 300)
    measure = ACCURACY
    far = difference(measure, [labelled(0.9), labelled(0.91)], [labelled(0.6)])
    low, high = far.over_examples
    assert 15 < low < far.value < high < 45
    assert is_sure(far)
    near = difference(measure, [labelled(0.8)], [labelled(0.801)])
    assert near.over_examples[0] < 0 < near.over_examples[1]
    assert near.over_seeds is None
    assert not is_sure(near)
    same = labelled(0.7)
    assert difference(measure, [same], [same]).over_examples == (0, 0)
    assert not is_sure(difference(measure, [same], [same]))


def test_seeds_of_which_the_other_has_none_are_not_cut_off_in_silence():
    few, more = [np.array([[right, 100.0]] * 2) for right in (80, 84)], [np.array([[79, 100.0]] * 2)] * 3
    with pytest.raises(ValueError, match="longer"):
        difference(ACCURACY, few, more)
    with pytest.raises(ValueError, match="shorter"):
        difference(ACCURACY, more, few)


def test_intervals_over_seeds_are_students(monkeypatch):
    monkeypatch.setattr(paired, "DRAWS", 20)
    ours, theirs = [np.array([[right, 100.0]] * 2) for right in (80, 84)], [np.array([[79, 100.0]] * 2)]
    found = difference(ACCURACY, ours, theirs)
    assert (found.ours, found.theirs, found.value) == (82, 79, 3)
    assert found.over_seeds == pytest.approx((3 - 12.7062 * 2, 3 + 12.7062 * 2), abs=1e-3)


@pytest.mark.parametrize(
    ("measure", "quality", "references", "predictions"),
    [
        (ANSWER_F1, AnswerQuality, [["서울", "서울시"], ["a b c"], []], ["서울시", "b c d", ""]),
        (ROUGE_L, SummaryQuality, ["a b c d", "나는 간다"], ["a c d", "너는 간다"]),
        (EXACT_MATCH, TranslationQuality, ["a b", "c"], ["a b ", "d"]),
        (SQUARED_ERROR, RegressionQuality, [1.0, 2.5, -1.0], [0.0, 2.5, 3.0]),
    ],
)
def test_sums_of_other_tasks_too(measure, quality, references, predictions):
    expected = quality(keep_in_memory=True).compute(predictions=predictions, references=references)
    assert measure.of(measure.parts(references, predictions)) == pytest.approx(expected[measure.name])


def test_the_kind_of_label_says_the_measure():
    assert label_measure(["a", "b"]) is ACCURACY
    assert label_measure([0.5, 1.0]) is SQUARED_ERROR
    assert label_measure([[], ["a"]]) is MICRO_F1
    tables = [[[1, 0], [1, 1]], [[1, 1], [0, 1]]]
    lists = [[[name for name, given in zip("ab", row, strict=True) if given] for row in table] for table in tables]
    expected = MultiLabelQuality(keep_in_memory=True).compute(references=tables[0], predictions=tables[1])["micro_f1"]
    assert MICRO_F1.of(MICRO_F1.parts(*lists)) == pytest.approx(expected)


def test_mcnemar_looks_at_what_one_alone_has_right():
    ours, theirs = (np.array([[right, 1] for right in answers]) for answers in ([1] * 10 + [0] * 90, [0] * 99 + [1]))
    assert mcnemar(ours, theirs) == pytest.approx(stats.binomtest(1, 11).pvalue)
    assert mcnemar(ours, theirs) == mcnemar(theirs, ours)
    assert mcnemar(ours, ours) == 1
