import math
import random
import warnings

import pytest
import scipy.stats
import sklearn.metrics

from trefoil.tasks.metrics import ClassificationQuality, MultiLabelQuality, RegressionQuality
from trefoil.tasks.metrics.classification import calibration, label_scores


def compute(metric, predictions, references):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = metric(keep_in_memory=True).compute(predictions=predictions, references=references)
    assert all(type(score) is float for score in scores.values())
    return scores


class TestClassification:
    def test_scores_are_scikit_learns(self):
        rng = random.Random(0)
        references = [rng.randrange(5) for _ in range(300)]
        predictions = [rng.choice((label, rng.randrange(7))) for label in references]
        scores = compute(ClassificationQuality, predictions, references)
        assert scores == {
            "accuracy": 100 * sklearn.metrics.accuracy_score(references, predictions),
            "macro_f1": 100 * sklearn.metrics.f1_score(references, predictions, average="macro"),
            "matthews": 100 * sklearn.metrics.matthews_corrcoef(references, predictions),
        }
        assert 0 < scores["matthews"] < scores["accuracy"] < 100

    def test_worked_by_hand(self):
        # label 0: 2 right, 1 missed: F1 4/5; label 1: 1 right, 1 too many: 2/3. TP=1, TN=2, FP=1, FN=0:
        # (1*2 - 1*0) / sqrt(2 * 1 * 3 * 2)
        scores = compute(ClassificationQuality, [0, 0, 1, 1], [0, 0, 0, 1])
        assert scores == pytest.approx(
            {"accuracy": 75, "macro_f1": 100 * (4 / 5 + 2 / 3) / 2, "matthews": 100 * 2 / math.sqrt(12)}
        )

    def test_the_macro_average_counts_labels_that_are_only_predicted(self):
        # label 0: F1 2/3, label 9: never true, so 0
        assert compute(ClassificationQuality, [0, 9], [0, 0])["macro_f1"] == pytest.approx(100 / 3)

    def test_all_right(self):
        scores = compute(ClassificationQuality, [3, 1, 2], [3, 1, 2])
        assert scores == pytest.approx({"accuracy": 100, "macro_f1": 100, "matthews": 100})

    def test_all_wrong(self):
        scores = compute(ClassificationQuality, [1, 0, 1, 0], [0, 1, 0, 1])
        assert scores == pytest.approx({"accuracy": 0, "macro_f1": 0, "matthews": -100})

    @pytest.mark.parametrize(("prediction", "score"), [(4, 100), (2, 0)])
    def test_one_example_has_no_correlation(self, prediction, score):
        scores = compute(ClassificationQuality, [prediction], [4])
        assert scores == {"accuracy": score, "macro_f1": score, "matthews": 0}

    def test_one_predicted_label_has_no_correlation(self):
        assert compute(ClassificationQuality, [1, 1, 1], [0, 1, 2])["matthews"] == 0


class TestMultiLabel:
    def test_scores_are_scikit_learns(self):
        rng = random.Random(1)
        references = [[rng.randrange(2) for _ in range(6)] for _ in range(200)]
        predictions = [[rng.choice((value, value, rng.randrange(2))) for value in row] for row in references]
        assert compute(MultiLabelQuality, predictions, references) == pytest.approx(
            {
                "micro_f1": 100 * sklearn.metrics.f1_score(references, predictions, average="micro"),
                "macro_f1": 100 * sklearn.metrics.f1_score(references, predictions, average="macro"),
                "exact_match": 100 * sklearn.metrics.accuracy_score(references, predictions),
            }
        )

    def test_worked_by_hand(self):
        # columns: F1 1; 2/3 (one too many); 0 (missed). Together 2 right, 1 too many, 1 missed: 4 / (4 + 1 + 1).
        scores = compute(MultiLabelQuality, [[1, 1, 0], [0, 1, 0]], [[1, 1, 1], [0, 0, 0]])
        assert scores == pytest.approx(
            {"micro_f1": 100 * 4 / 6, "macro_f1": 100 * (1 + 2 / 3 + 0) / 3, "exact_match": 0}
        )

    def test_a_label_that_never_occurs_counts_as_zero(self):
        scores = compute(MultiLabelQuality, [[1, 0], [0, 0]], [[1, 0], [0, 0]])
        assert scores == {"micro_f1": 100, "macro_f1": 50, "exact_match": 100}

    def test_no_labels_at_all(self):
        assert compute(MultiLabelQuality, [[0, 0]], [[0, 0]]) == {"micro_f1": 0, "macro_f1": 0, "exact_match": 100}

    def test_a_single_label_is_about_the_ones(self):
        # 1 right, 1 missed
        scores = compute(MultiLabelQuality, [[1], [0], [0]], [[1], [1], [0]])
        assert scores == pytest.approx({"micro_f1": 200 / 3, "macro_f1": 200 / 3, "exact_match": 200 / 3})

    def test_all_wrong(self):
        scores = compute(MultiLabelQuality, [[1, 0], [0, 1]], [[0, 1], [1, 0]])
        assert scores == {"micro_f1": 0, "macro_f1": 0, "exact_match": 0}

    @pytest.mark.parametrize(
        ("predictions", "references", "message"),
        [
            ([[1, 0], [1]], [[1, 0], [1, 0]], "row 1 has 1 predicted and 2 true labels"),
            ([[1], [1, 0]], [[1], [1, 0]], r"row 1 .* first row's reference \(1\)"),
            ([[]], [[]], "row 0 has 0 predicted"),
            ([[1, 0], [0, 2]], [[1, 0], [0, 1]], "row 1 has the value 2: labels must be 0 or 1"),
        ],
    )
    def test_wrong_rows_are_named(self, predictions, references, message):
        with pytest.raises(ValueError, match=message):
            compute(MultiLabelQuality, predictions, references)


class TestRegression:
    def test_scores_are_scipys(self):
        rng = random.Random(2)
        references = [rng.gauss(0, 3) for _ in range(100)]
        predictions = [value + rng.gauss(1, 2) for value in references]
        assert compute(RegressionQuality, predictions, references) == pytest.approx(
            {
                "pearson": 100 * scipy.stats.pearsonr(predictions, references).statistic,
                "spearman": 100 * scipy.stats.spearmanr(predictions, references).statistic,
                "mean_squared_error": sklearn.metrics.mean_squared_error(references, predictions),
            }
        )

    def test_worked_by_hand(self):
        # deviations (-1, 0, 1) and (-2, -2, 4): 6 / sqrt(2 * 24); ranks (1, 2, 3) and (1.5, 1.5, 3): 1.5 / sqrt(3)
        scores = compute(RegressionQuality, [1, 2, 3], [0, 0, 6])
        assert scores == pytest.approx(
            {
                "pearson": 100 * 6 / math.sqrt(48),
                "spearman": 100 * 1.5 / math.sqrt(2 * 1.5),
                "mean_squared_error": (1 + 4 + 9) / 3,
            }
        )

    def test_all_right_and_all_wrong(self):
        values = [0.5, -1.25, 7.0]
        right, wrong = (compute(RegressionQuality, [sign * value for value in values], values) for sign in (1, -1))
        assert right == pytest.approx({"pearson": 100, "spearman": 100, "mean_squared_error": 0})
        assert (wrong["pearson"], wrong["spearman"]) == pytest.approx((-100, -100))

    @pytest.mark.parametrize(
        ("predictions", "references"),
        [
            ([2.5, 2.5, 2.5], [1.0, 2.0, 3.0]),
            ([1.0, 2.0, 3.0], [2.5, 2.5, 2.5]),
            ([1.0], [4.0]),
            ([math.nan, 1.0, 2.0], [1.0, 2.0, 3.0]),
            ([math.inf, 1.0, 2.0], [1.0, 2.0, 3.0]),
        ],
    )
    def test_an_undefined_correlation_is_zero(self, predictions, references):
        scores = compute(RegressionQuality, predictions, references)
        assert (scores["pearson"], scores["spearman"]) == (0, 0)

    def test_nearly_constant_predictions_are_silent(self):
        scores = compute(RegressionQuality, [1.0, 1.0 + 1e-15, 1.0], [1.0, 2.0, 3.0])
        assert all(math.isfinite(score) for score in scores.values())


@pytest.mark.parametrize("metric", [ClassificationQuality, MultiLabelQuality, RegressionQuality])
def test_nothing_to_score(metric):
    with pytest.raises(ValueError, match="nothing to score"):
        compute(metric, [], [])


class TestLabels:
    def test_scores_are_scikit_learns(self):
        rng = random.Random(2)
        references = [rng.choice("abc") for _ in range(100)]
        predictions = [rng.choice((label, *"abc")) for label in references]
        expected = sklearn.metrics.classification_report(references, predictions, output_dict=True)
        for found in label_scores(references, predictions, [*"abc"]):
            of_label = expected[found["label"]]
            assert found["support"] == of_label["support"]
            percents = {name: found[name] / 100 for name in ("precision", "recall", "f1")}
            assert percents == pytest.approx({name: of_label[name.replace("f1", "f1-score")] for name in percents})

    def test_several_at_once_and_one_that_never_occurs(self):
        found = label_scores([["a", "b"], ["a"]], [["a"], ["b"]], ["a", "b", "c"])
        assert [(one["precision"], one["recall"], one["support"]) for one in found] == [
            (100, 50, 2),
            (0, 0, 1),
            (0, 0, 0),
        ]


class TestCalibration:
    def test_worked_by_hand(self):
        # two answers of 0.9, which is the end of its bin, one of them right; one of 0.55, right
        found = calibration([0.9, 0.9, 0.55], [True, False, True])
        assert [(one["from"], one["to"], one["examples"]) for one in found["bins"]] == [(0.5, 0.6, 1), (0.8, 0.9, 2)]
        assert [(one["probability"], one["right"]) for one in found["bins"]] == [(pytest.approx(55), 100), (pytest.approx(90), 50)]  # fmt: skip
        assert found["expected_error"] == pytest.approx((45 + 2 * 40) / 3)

    def test_the_ends(self):
        assert calibration([0.0, 1.0], [False, True])["expected_error"] == 0
