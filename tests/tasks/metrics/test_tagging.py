import random
import warnings
from importlib.metadata import version

import pytest
import seqeval.metrics
from seqeval.scheme import IOB2

from trefoil.tasks.metrics import EntityQuality
from trefoil.tasks.metrics.tagging import type_scores

REFERENCES = [
    ["B-DAT", "I-DAT", "O", "B-PER", "O"],
    ["O", "B-MNY", "I-MNY", "I-MNY"],
    ["B-PER", "B-PER"],
]


def compute(predictions, references):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return EntityQuality(keep_in_memory=True).compute(predictions=predictions, references=references)


def numbers(scores):
    floats = {name: score for name, score in scores.items() if not name.endswith("_signature")}
    assert all(type(score) is float for score in floats.values())
    return floats


def test_scores_are_seqevals():
    rng = random.Random(0)
    tags = ["O", "O", *(f"{prefix}-{label}" for prefix in "BI" for label in ("DAT", "PER", "QTY"))]
    references = [[rng.choice(tags) for _ in range(rng.randrange(12))] for _ in range(200)]
    predictions = [[rng.choice((tag, tag, tag, rng.choice(tags))) for tag in row] for row in references]
    scores = numbers(compute(predictions, references))
    settings = {"mode": "strict", "scheme": IOB2}
    report = seqeval.metrics.classification_report(references, predictions, output_dict=True, **settings)
    assert scores == pytest.approx(
        {
            "precision": 100 * seqeval.metrics.precision_score(references, predictions, **settings),
            "recall": 100 * seqeval.metrics.recall_score(references, predictions, **settings),
            "f1": 100 * seqeval.metrics.f1_score(references, predictions, **settings),
            **{f"f1_{label}": 100 * report[label]["f1-score"] for label in ("DAT", "PER", "QTY")},
            "token_accuracy": 100 * seqeval.metrics.accuracy_score(references, predictions),
        }
    )
    assert 0 < scores["f1"] < 100


def test_worked_by_hand():
    predictions = [
        ["B-DAT", "O", "O", "B-PER", "O"],  # the date ends too early, the person is right
        ["O", "B-MNY", "I-MNY", "I-MNY"],
        ["B-PER", "O"],  # a person is missed
    ]
    # 3 of 4 predicted are right, of 5 true
    assert numbers(compute(predictions, REFERENCES)) == pytest.approx(
        {
            "precision": 75,
            "recall": 60,
            "f1": 200 * 3 / (4 + 5),
            "f1_DAT": 0,
            "f1_MNY": 100,
            "f1_PER": 80,
            "token_accuracy": 100 * 9 / 11,
        }
    )


def test_a_wrong_type_is_a_wrong_entity():
    scores = numbers(compute([["B-LOC", "I-LOC"]], [["B-PER", "I-PER"]]))
    assert scores == {"precision": 0, "recall": 0, "f1": 0, "f1_LOC": 0, "f1_PER": 0, "token_accuracy": 0}


def test_strict_mode_wants_a_b_tag():
    scores = numbers(compute([["O", "I-PER", "I-PER"]], [["O", "B-PER", "I-PER"]]))
    assert (scores["f1"], scores["token_accuracy"]) == pytest.approx((0, 200 / 3))


def test_the_signatures_say_how_it_was_measured():
    scores = compute(REFERENCES, REFERENCES)
    measured = f"seqeval:{version('seqeval')}|mode:strict|scheme:IOB2"
    for name in ("f1", "precision", "recall"):
        assert scores[f"{name}_signature"] == f"{measured}|average:micro"
    assert scores["f1_PER_signature"] == f"{measured}|type:PER"


def test_all_right():
    assert set(numbers(compute(REFERENCES, REFERENCES)).values()) == {100}


@pytest.mark.parametrize("row", [["O", "O"], ["O"], []])
def test_no_entities_at_all_are_zero_as_in_seqeval(row):
    scores = numbers(compute([row], [row]))
    assert scores == {"precision": 0, "recall": 0, "f1": 0, "token_accuracy": 100 if row else 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert seqeval.metrics.f1_score([["O"]], [["O"]], mode="strict", scheme=IOB2) == 0


def test_each_type_by_itself():
    predictions = [["B-DAT", "I-DAT", "O", "O", "O"], ["O", "B-MNY", "I-MNY", "O"], ["B-PER", "B-NEW"]]
    assert type_scores(REFERENCES, predictions) == [
        {"label": "DAT", "precision": 100, "recall": 100, "f1": 100, "support": 1},
        {"label": "MNY", "precision": 0, "recall": 0, "f1": 0, "support": 1},
        {"label": "NEW", "precision": 0, "recall": 0, "f1": 0, "support": 0},
        {"label": "PER", "precision": 100, "recall": pytest.approx(100 / 3), "f1": pytest.approx(50), "support": 3},
    ]
    assert type_scores([["O"]], [["O"]]) == []


def test_everything_missed():
    scores = numbers(compute([["O"] * len(row) for row in REFERENCES], REFERENCES))
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0, 0, 0)


def test_types_may_have_names_in_korean():
    assert compute([["B-날짜", "I-날짜"]], [["B-날짜", "I-날짜"]])["f1_날짜"] == 100


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([["O"], ["O", "O"]], [["O"], ["O"]], "row 1 has 2 predicted and 1 true tags"),
        ([["O"], []], [["O"], ["B-PER"]], "row 1 has 0 predicted and 1 true tags"),
        ([["PER"]], [["O"]], "row 0 has the tag 'PER': BIO2 tags are O, B-TYPE and I-TYPE"),
        ([["O"]], [["B-"]], "row 0 has the tag 'B-'"),
        ([["E-PER"]], [["B-PER"]], "row 0 has the tag 'E-PER'"),
        ([], [], "nothing to score"),
    ],
)
def test_wrong_rows_are_named(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        compute(predictions, references)
