"""Quality of labels and of numbers given to texts: classification, multi-label classification, regression."""

import warnings
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import scipy.stats
import sklearn.metrics

from .metric import NUMBER, WHOLE, metric

BINS = 10  # of probabilities


@metric(WHOLE)
def ClassificationQuality(predictions: list[int], references: list[int]) -> dict[str, float]:
    """Accuracy, macro-averaged F1 and the correlation coefficient of Matthews (1975; several classes: Gorodkin 2004),
    by scikit-learn; all times 100.

    `compute(predictions=[int], references=[int])` gives `accuracy`, `macro_f1` and `matthews`. The macro average is over
    the labels that occur in the predictions or the references, each counting the same. `matthews` lies in -100 to 100
    and is 0 where it is undefined: all predictions, or all references, are one label.
    """
    macro_f1 = sklearn.metrics.f1_score(references, predictions, average="macro", zero_division=0)
    with warnings.catch_warnings():
        # That both hold a single label is no news where there are few examples.
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        matthews = sklearn.metrics.matthews_corrcoef(references, predictions)
    return {
        "accuracy": 100.0 * float(sklearn.metrics.accuracy_score(references, predictions)),
        "macro_f1": 100.0 * float(macro_f1),
        "matthews": 100.0 * float(matthews),
    }


@metric(datasets.List(WHOLE))
def MultiLabelQuality(predictions: list[list[int]], references: list[list[int]]) -> dict[str, float]:
    """F1 of independent yes-or-no labels, micro- and macro-averaged, by scikit-learn, and the share of examples with all
    labels right; all in percent.

    `compute(predictions=[[0 or 1]], references=[[0 or 1]])`, one number a label, gives `micro_f1`, `macro_f1` and
    `exact_match`. The F1 of a label that is neither predicted nor true anywhere is 0, as scikit-learn's
    `zero_division=0` has it, and counts in the macro average.

    Raises:
        ValueError: rows of different lengths, or a value other than 0 and 1; names the row.
    """
    labels = len(references[0])
    for row, (predicted, true) in enumerate(zip(predictions, references, strict=True)):
        if not len(predicted) == len(true) == labels > 0:
            raise ValueError(
                f"row {row} has {len(predicted)} predicted and {len(true)} true labels: every row must have as many "
                f"as the first row's reference ({labels}), and at least one"
            )
        if wrong := {*predicted, *true} - {0, 1}:
            raise ValueError(f"row {row} has the value {wrong.pop()!r}: labels must be 0 or 1")
    predicted_table, true_table = np.array(predictions), np.array(references)
    # scikit-learn takes a table of a single column for one label a row, so it is given the columns one by one.
    by_label = [
        sklearn.metrics.f1_score(true, predicted, zero_division=0)
        for true, predicted in zip(true_table.T, predicted_table.T, strict=True)
    ]
    micro_f1 = sklearn.metrics.f1_score(true_table.ravel(), predicted_table.ravel(), zero_division=0)
    return {
        "micro_f1": 100.0 * float(micro_f1),
        "macro_f1": 100.0 * float(np.mean(by_label)),
        "exact_match": 100.0 * float((predicted_table == true_table).all(axis=1).mean()),
    }


@metric(NUMBER)
def RegressionQuality(predictions: list[float], references: list[float]) -> dict[str, float]:
    """The correlations of Pearson and Spearman by SciPy, times 100, and the mean squared error, which is in the squared
    unit of the references and not in percent.

    `compute(predictions=[float], references=[float])` gives `pearson`, `spearman` and `mean_squared_error`. A
    correlation is 0 where it is undefined: all predictions or all references are equal, or a value is not finite.
    """
    predicted, true = np.array(predictions), np.array(references)
    with np.errstate(all="ignore"):
        mean_squared_error = float(np.mean((predicted - true) ** 2))
    return {
        "pearson": _correlation(scipy.stats.pearsonr, predicted, true),
        "spearman": _correlation(scipy.stats.spearmanr, predicted, true),
        "mean_squared_error": mean_squared_error,
    }


def label_scores(references: list, predictions: list, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each label by scikit-learn, in percent, and how many examples have it (`support`).

    Args:
        references, predictions: Labels, or lists of them.
        labels: All that there may be.
    """
    found = []
    for label in labels:
        true, said = ([label in (one if isinstance(one, list) else [one]) for one in of] for of in (references, predictions))  # fmt: skip
        scores = sklearn.metrics.precision_recall_fscore_support(true, said, average="binary", zero_division=0)
        percents = {name: 100.0 * float(score) for name, score in zip(("precision", "recall", "f1"), scores, strict=False)}  # fmt: skip
        found.append({"label": label, **percents, "support": sum(true)})
    return found


def calibration(probabilities: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """How far the probabilities of what was said are from how often it is right: the expected calibration error of Guo et al.
    2017, over `BINS` bins of equal width, in percent, and each bin that is not empty.

    Args:
        probabilities: Of each answer, in [0, 1].
        right: Whether it is right.
    """
    said, hits = np.array(probabilities), np.array(right, dtype=float)
    # a bin has its upper end, as in the paper
    number = np.clip(np.ceil(said * BINS).astype(int) - 1, 0, BINS - 1)
    bins = [
        {
            "from": one / BINS,
            "to": (one + 1) / BINS,
            "examples": int((number == one).sum()),
            "probability": 100.0 * float(said[number == one].mean()),
            "right": 100.0 * float(hits[number == one].mean()),
        }
        for one in np.unique(number).tolist()
    ]
    error = sum(one["examples"] * abs(one["probability"] - one["right"]) for one in bins) / len(said)
    return {"expected_error": float(error), "bins": bins}


def _correlation(measure: Any, predicted: np.ndarray, true: np.ndarray) -> float:
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        return 0.0
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return 0.0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Nearly constant values: SciPy warns that the last digits may be wrong.
        warnings.simplefilter("ignore")
        correlation = float(measure(predicted, true).statistic)
    return 100.0 * correlation if np.isfinite(correlation) else 0.0
