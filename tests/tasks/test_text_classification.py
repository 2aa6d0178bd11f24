"""Labels of texts: which there are, what is refused, and that a run's scores are those of its predictions."""

import json
import re

import datasets
import numpy as np
import pytest
import torch
from task_parts import preprocessor_for, reader_for, scores_of
from training_runs import TINY_MODEL, losses, merged
from transformers import AutoModelForSequenceClassification, pipeline

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data.tokenizer import BIDIRECTIONAL, train_tokenizer
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks.preprocessor import CUT
from trefoil.tasks.text_classification import TextClassificationEvaluator
from trefoil.training.run import evaluate, train

GOOD, BAD = "정말 좋다", "아주 나쁘다"
LONG = "길다 " * 50


def content(output_dir="runs/labels", **changes):
    """A recipe of 30 steps, as it stands in YAML."""
    return merged(
        {
            "task": "text-classification",
            "output_dir": str(output_dir),
            "data": {"path": "data"},
            "tokenizer": {"kind": "characters"},
            "model": {"preset": "encoder-tiny", "config": TINY_MODEL | {"hidden_dropout": 0.0}},
            "batches": {"tokens_per_batch": 400},
            "optimization": {
                "learning_rate": 3e-3,
                "warmup_steps": min(4, changes.get("training", {}).get("max_steps", 4)),
            },
            "training": {"max_steps": 30, "log_every": 1, "evaluate_every": 15, "trackers": []},
        },
        changes,
    )


def make_recipe(output_dir="runs/labels", **changes) -> Recipe:
    recipe = build(Recipe, content(output_dir, **changes), "labels.yaml")
    validate(recipe, "labels.yaml")
    return recipe


def with_labels(*labels, feature=None):
    """A split with these labels."""
    rows = datasets.Dataset.from_dict({"text": [f"{number}번" for number in range(len(labels))], "label": list(labels)})
    return rows if feature is None else rows.cast_column("label", feature)


def learned(examples, **changes):
    """What a model is told of the labels that there are."""
    return reader_for(make_recipe(**changes)).learn(examples)


def ready(train, texts=(GOOD, BAD, LONG), changes=None, **fields):
    """What encodes for a model of this configuration, and that."""
    tokenizer = train_tokenizer([list(texts)], TokenizerRecipe(kind="characters"), BIDIRECTIONAL)
    config = preset_config("encoder-tiny", vocab_size=len(tokenizer), **{"max_position_embeddings": 40} | fields)
    return preprocessor_for(make_recipe(**changes or {}), train, tokenizer, config), config


def encoded(preprocessor, examples):
    return preprocessor.encode(examples, "train").examples


def metric_of(preprocessor):
    return TextClassificationEvaluator(preprocessor, None, None).metric


# --- which labels there are


SENTIMENT = datasets.ClassLabel(names=["positive", "negative", "neutral"])


@pytest.mark.parametrize(
    ("examples", "options", "labels"),
    [
        (with_labels("좋음", "나쁨", "좋음"), {}, ["나쁨", "좋음"]),
        (with_labels(10, 9, 2), {}, ["2", "9", "10"]),
        (with_labels("10", "9", "2"), {}, ["2", "9", "10"]),  # from a CSV file
        (with_labels(1, 0), {"names": {1: "good", 0: "bad"}}, ["bad", "good"]),
        (with_labels("1", "0"), {"names": {1: "good", 0: "bad"}}, ["bad", "good"]),
        (with_labels(True, False), {}, ["False", "True"]),
        (with_labels(1, 0, feature=SENTIMENT), {}, ["positive", "negative", "neutral"]),
        (with_labels("b", None, "a", " "), {}, ["a", "b"]),
    ],
)
def test_labels_are_numbered_in_order(examples, options, labels):
    preprocessor, config = ready(examples, changes={"options": options})
    assert preprocessor.labels == labels
    assert metric_of(preprocessor) == "accuracy"
    assert config.id2label == dict(enumerate(labels))
    assert config.label2id == {name: number for number, name in enumerate(labels)}
    assert config.problem_type == preprocessor.problem_type == "single_label_classification"


@pytest.mark.parametrize(
    ("examples", "labels"),
    [
        (with_labels(["스포츠", "경제"], [], ["경제"]), ["경제", "스포츠"]),
        (with_labels([2], [10, 2]), ["2", "10"]),
        (with_labels([0], [2, 0], feature=datasets.List(SENTIMENT)), ["positive", "negative", "neutral"]),
        (with_labels(["a", None]), ["a"]),
    ],
)
def test_a_list_is_several_labels(examples, labels):
    preprocessor, config = ready(examples)
    assert preprocessor.labels == labels
    assert list(config.id2label.values()) == labels
    assert config.problem_type == preprocessor.problem_type == "multi_label_classification"
    assert metric_of(preprocessor) == "micro_f1"


def test_several_labels_are_a_row_of_ones_and_zeros():
    examples = with_labels(["b", "a"], [], ["c", "c"])
    preprocessor, _ = ready(examples)
    assert encoded(preprocessor, examples)["labels"] == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


def test_several_labels_may_stand_in_one_text():
    examples = with_labels("b| a", "", "c|c", None, "b")
    preprocessor, config = ready(examples, changes={"options": {"label_separator": "|"}})
    assert (preprocessor.labels, config.problem_type) == (["a", "b", "c"], "multi_label_classification")
    assert encoded(preprocessor, examples)["labels"] == [
        [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0],
    ]  # fmt: skip
    named = {"label_separator": ";", "names": {0: "no", 1: "yes"}}
    assert ready(with_labels("0;1", "1"), changes={"options": named})[0].labels == ["no", "yes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_separator": " "}, "options.label_separator=' ' must be a character between labels, such as |"),
        (
            {"label_separator": "|", "problem_type": "regression"},
            "options.label_separator is of several labels, and options.problem_type=regression of one",
        ),
        ({"label_separator": "|"}, "column 'label' holds lists already; leave options.label_separator out"),
    ],
)
def test_a_separator_that_divides_nothing(options, message):
    with pytest.raises(UserError) as error:
        learned(with_labels(["a"], ["b"]), options=options)
    assert message in str(error.value)


def test_a_fraction_is_a_number_to_estimate():
    preprocessor, config = ready(with_labels(0.5, -1.0, 2.0))
    assert metric_of(preprocessor) == "pearson"
    assert (config.num_labels, config.problem_type) == (1, "regression")
    assert encoded(preprocessor, with_labels(0.5, -1.0))["labels"] == [0.5, -1.0]


def test_what_cannot_be_seen_can_be_said():
    to_estimate = {"options": {"problem_type": "regression"}}
    for examples in (with_labels(1, 2), with_labels(1, 2, feature=SENTIMENT)):
        preprocessor, config = ready(examples, changes=to_estimate)
        assert config.problem_type == "regression"
        assert encoded(preprocessor, examples)["labels"] == [1.0, 2.0]
    # a CSV file holds nothing but texts
    preprocessor, _ = ready(with_labels("0.5", "2"), changes=to_estimate)
    assert encoded(preprocessor, with_labels("0.5", "2"))["labels"] == [0.5, 2.0]
    told = learned(with_labels(0.0, 1.0), options={"problem_type": "single_label_classification"})
    assert told["id2label"] == {0: "0.0", 1: "1.0"}


@pytest.mark.parametrize(
    ("examples", "changes", "message"),
    [
        (with_labels("좋음", "좋음"), {},
         "column 'label' has the only label ['좋음']; there must be at least two to tell apart"),
        (with_labels(None, None), {}, "column 'label' has no label in the training data"),
        (with_labels([], []), {}, "column 'label' has no label in the training data"),
        (with_labels({"name": "a"}, {"name": "b"}), {}, "column 'label' holds {'name': 'a'}, which is no label"),
        (with_labels([["a"]], [["b"]]), {}, "column 'label' holds ['a'], which is no label"),
        (with_labels(["a"], ["b"]), {"options": {"problem_type": "single_label_classification"}},
         "column 'label' holds ['a'], which is no label"),
        (with_labels("a", "b"), {"evaluation": {"metric": "pearson"}},
         "evaluation.metric='pearson': the task text-classification has no such metric; "
         "there are accuracy, macro_f1, matthews"),
        (with_labels(0.5, 1.5), {"evaluation": {"metric": "accuracy"}},
         "evaluation.metric='accuracy': the task text-classification has no such metric; "
         "there are pearson, spearman, mean_squared_error"),
    ],
)  # fmt: skip
def test_data_that_has_no_labels_to_learn(examples, changes, message):
    with pytest.raises(UserError) as error:
        learned(examples, **changes)
    assert str(error.value) == message


def test_options_are_checked():
    with pytest.raises(UserError, match=r"options.problem_type='several' is not .*'regression'"):
        learned(with_labels("a", "b"), options={"problem_type": "several"})
    with pytest.raises(UserError, match=r"data.columns.pair: the task text-classification has no such column; did you"):
        learned(with_labels("a", "b"), data={"columns": {"pair": "other"}})


def test_of_an_error_less_is_better():
    preprocessor, _ = ready(with_labels(0.5, 1.5), changes={"evaluation": {"metric": "mean_squared_error"}})
    assert TextClassificationEvaluator(preprocessor, None, None).is_better(0.1, 0.2)
    preprocessor, _ = ready(with_labels("a", "b"))
    assert TextClassificationEvaluator(preprocessor, None, None).is_better(0.2, 0.1)


# --- what a model that is trained already knows


def head_is_new(config, examples):
    reader = reader_for(make_recipe())
    return reader.head_is_new(config, reader.learn(examples))


@pytest.mark.parametrize(
    ("labels", "is_new"),
    [(("good", "bad"), False), (("bad", "good"), False), (("bad", "fair"), True), (("bad", "fair", "good"), True)],
)
def test_a_head_is_of_use_if_it_has_the_same_labels(labels, is_new):
    known = dict(enumerate(labels))
    config = preset_config("encoder-tiny", vocab_size=99, id2label=known)
    assert head_is_new(config, with_labels("bad", "good")) is is_new
    preprocessor, config = ready(with_labels("bad", "good"), id2label=known)
    assert preprocessor.labels == list(config.id2label.values()) == (["bad", "good"] if is_new else list(labels))
    (row,) = encoded(preprocessor, with_labels("good"))
    assert config.id2label[row["labels"]] == "good"


@pytest.mark.parametrize(
    ("names", "feature", "message"),
    [
        ({0: "bad", 2: "good"}, None, "options.names has '2', which is no label of the training data; there are 0, 1"),
        ({0: "bad", 1: "bad"}, None, "options.names: 'bad' names 0 and 1; give each label a name of its own"),
        (
            {1: "good"},
            None,
            "options.names has no name for 0, which the training data has too; name each number, or none (on the command "
            "line options.names={})",
        ),
        (
            {0: "bad", 1: "good"},
            SENTIMENT,
            "options.names does nothing: the data names its labels itself: positive, negative, neutral",
        ),
    ],
)
def test_names_that_do_not_fit_the_labels_are_refused(names, feature, message):
    with pytest.raises(UserError) as error:
        learned(with_labels(0, 1, feature=feature), options={"names": names})
    assert str(error.value) == message


def test_a_head_that_estimates_is_of_use_to_estimate_only():
    estimating = preset_config("encoder-tiny", vocab_size=99, id2label={0: "LABEL_0"}, problem_type="regression")
    assert not head_is_new(estimating, with_labels(0.5, 1.5))
    assert head_is_new(estimating, with_labels("a", "b"))
    assert head_is_new(preset_config("encoder-tiny", vocab_size=99), with_labels(0.5, 1.5))


@pytest.mark.parametrize("names", [{0: "good", 1: "bad"}, {0: "bad", 1: "good"}])
def test_numbers_with_names_are_measured_by_a_trained_models_labels(names):
    """In the order in which the model has them, whatever the order in this data."""
    feature = datasets.ClassLabel(names=list(names.values()))
    for examples, options in (
        (with_labels(0, 1, feature=feature), {}),
        (with_labels(0, 1), {"names": names}),
    ):
        trained = {"id2label": {0: "good", 1: "bad"}, "problem_type": "single_label_classification"}
        preprocessor, _ = ready(None, changes={"options": options}, **trained)
        split = preprocessor.encode(examples, "test", is_scored=True)
        assert split.rows["text"] == examples["text"]
        assert [preprocessor.labels[label] for label in split.examples["labels"]] == list(names.values())


# --- rows


def test_a_pair_of_texts_is_one_input():
    changes = {"data": {"columns": {"text": "premise", "text_pair": "hypothesis"}}}
    rows = [{"premise": GOOD, "hypothesis": BAD, "label": "no"}, {"premise": BAD, "hypothesis": BAD, "label": "yes"}]
    examples = datasets.Dataset.from_list(rows)
    preprocessor, _ = ready(examples, changes=changes)
    found = encoded(preprocessor, examples)
    assert found["input_ids"] == [
        preprocessor.tokenizer(row["premise"], row["hypothesis"])["input_ids"] for row in rows
    ]
    assert found["labels"] == [0, 1]
    assert [text for texts in preprocessor.reader.texts(examples) for text in texts] == [GOOD, BAD, BAD, BAD]


def test_a_long_pair_is_cut_where_it_is_longer():
    changes = {"data": {"columns": {"text_pair": "pair"}}, "batches": {"truncate": True}}
    examples = datasets.Dataset.from_list(
        [{"text": GOOD, "pair": LONG, "label": "a"}, {"text": LONG, "pair": GOOD, "label": "b"}]
    )
    preprocessor, _ = ready(examples, changes=changes)
    split = preprocessor.encode(examples, "train")
    assert [len(ids) for ids in split.examples["input_ids"]] == [40, 40]
    assert all(GOOD in preprocessor.tokenizer.decode(ids) for ids in split.examples["input_ids"])
    assert split.notes == {CUT: 2}


TOO_LONG = "152 tokens are more than the model's 40 (batches.truncate=true cuts)"
ROWS = {
    "empty": ({"text": " \n"}, "column 'text' is empty"),
    "no text": ({"text": None}, "column 'text' holds None, not a text"),
    "too long": ({"text": LONG}, TOO_LONG),
    "no label": ({"label": None}, "column 'label' is empty"),
    "blank label": ({"label": " "}, "column 'label' is empty"),
    "new label": (
        {"label": "그저"},
        "column 'label' has the label '그저', which training data has not; it has 나쁨, 좋음",
    ),
}


@pytest.mark.parametrize(("change", "problem"), ROWS.values(), ids=ROWS)
def test_a_bad_row_is_named_or_skipped_and_counted(change, problem):
    good = {"text": GOOD, "label": "좋음"}
    examples = datasets.Dataset.from_list([good, good | change, {"text": BAD, "label": "나쁨"}])
    labels = with_labels("좋음", "나쁨")
    for is_scored in (False, True):
        preprocessor, _ = ready(labels)
        with pytest.raises(UserError) as error:
            preprocessor.encode(examples, "valid.jsonl", is_scored)
        assert str(error.value) == (f"valid.jsonl example 2: {problem}; mend it or set data.invalid_examples=skip")
        preprocessor, _ = ready(labels, changes={"data": {"invalid_examples": "skip"}})
        split = preprocessor.encode(examples, "valid.jsonl", is_scored)
        assert len(split.examples) == len(split.rows) == 2
        assert (split.skipped, split.first_skipped) == (1, f"example 2, {problem}")


@pytest.mark.parametrize("text", [5, ["좋다"], {"text": "좋다"}])
def test_a_text_that_is_none(text):
    examples = datasets.Dataset.from_list([{"text": text, "label": "좋음"}])
    preprocessor, _ = ready(with_labels("좋음", "나쁨"))
    with pytest.raises(UserError, match=re.escape(f"train example 1: column 'text' holds {text!r}, not a text")):
        preprocessor.encode(examples, "train")


@pytest.mark.parametrize(
    ("labels", "bad", "problem"),
    [
        ((["경제"], ["정치"]), "경제", "column 'label' holds '경제', not a list of labels"),
        ((["경제"], ["정치"]), ["경제", "기술"], "column 'label' has the label '기술', which training data has not; it has "),
        ((["경제"], ["정치"]), ["경제", None], "column 'label' has the label 'None', which training data has not"),
        ((0.5, 1.0), "많이", "column 'label' holds '많이', not a number"),
        ((0.5, 1.0), float("inf"), "column 'label' holds inf, not a number"),
        ((0.5, 1.0), "", "column 'label' is empty"),
        ((0, 1), 2, "column 'label' has the label '2', which training data has not; it has 0, 1"),
    ],
)  # fmt: skip
def test_a_bad_label(labels, bad, problem):
    preprocessor, _ = ready(with_labels(*labels))
    (found,) = preprocessor.encode_rows({"text": [GOOD], "label": [bad]}, is_scored=False)
    assert found.startswith(problem)


def test_a_label_that_the_data_set_has_no_name_for():
    """Hidden labels of a test split are -1."""
    preprocessor, _ = ready(with_labels(0, 1, feature=SENTIMENT))
    hidden = with_labels(-1, feature=SENTIMENT)
    with pytest.raises(UserError, match="test example 1: column 'label' has the label '-1', which training data has"):
        preprocessor.encode(hidden, "test", is_scored=True)


def test_a_long_text_is_cut_if_the_recipe_says_so():
    preprocessor, _ = ready(with_labels("좋음", "나쁨"), changes={"batches": {"truncate": True}})
    examples = datasets.Dataset.from_list([{"text": LONG, "label": "좋음"}, {"text": GOOD, "label": "좋음"}])
    split = preprocessor.encode(examples, "train")
    whole = preprocessor.tokenizer(LONG)["input_ids"]
    assert split.examples["input_ids"][0] == [*whole[:39], whole[-1]]
    assert split.examples["input_ids"][1] == preprocessor.tokenizer(GOOD)["input_ids"]
    assert split.notes == {CUT: 1}


# --- scores


MIXED = {
    "single_label_classification": (["a", "b", "c", "a", "b"], [0, 1, 2, 0, 1]),
    "multi_label_classification": (
        [["a"], ["a", "b"], [], ["c"], ["b"]],
        [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]],
    ),
    "regression": ([0.5, -1.0, 2.0, 0.0, 1.0], [0.5, -1.0, 2.0, 0.0, 1.0]),
}


def loss_of(problem_type, logits, label):
    """Of one text, summed over what it has labels for, and how many those are."""
    if problem_type == "single_label_classification":
        return -float(logits.log_softmax(-1)[label]), 1
    if problem_type == "regression":
        return float((logits[0] - label) ** 2), 1
    yes = logits.sigmoid()
    return -sum(float((p if is_given else 1 - p).log()) for p, is_given in zip(yes, label, strict=True)), len(label)


def probabilities_of(problem_type, logits):
    if problem_type == "single_label_classification":
        return [pytest.approx(float(logits.softmax(-1).max()), abs=1e-4)]
    if problem_type == "regression":
        return []
    return [pytest.approx([float(probability) for probability in logits.sigmoid() if probability > 0.5], abs=1e-4)]


@pytest.mark.parametrize("problem_type", MIXED)
def test_predictions_and_loss_are_those_of_a_computation_text_by_text(problem_type):
    labels, numbers = MIXED[problem_type]
    several = {"evaluation": {"tokens_per_batch": 12}}  # texts in a batch, with padding
    preprocessor, config = ready(with_labels(*labels), changes=several, initializer_range=0.4)
    examples = datasets.Dataset.from_dict({"text": [GOOD * 2, "좋", BAD, LONG[:9], GOOD], "label": labels})
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    scores = scores_of(model, preprocessor, examples)
    total = count = 0
    said = zip(scores["predictions"], scores["details"], strict=True)
    for text, number, (prediction, detail) in zip(examples["text"], numbers, said, strict=True):
        with torch.no_grad():
            logits = model(**preprocessor.tokenizer(text, return_tensors="pt")).logits[0]
        loss, size = loss_of(problem_type, logits, number)
        assert list(detail.values()) == probabilities_of(problem_type, logits)
        total, count = total + loss, count + size
        if problem_type == "single_label_classification":
            assert prediction == "abc"[int(logits.argmax())]
        elif problem_type == "multi_label_classification":
            assert prediction == [name for name, logit in zip("abc", logits, strict=True) if logit > 0]
        else:
            assert prediction == pytest.approx(float(logits[0]), rel=1e-4)
    assert scores["loss"] == pytest.approx(total / count, rel=1e-4)


# --- whole runs


NOUNS = ["영화", "음악", "날씨", "음식", "학교", "여행", "그림", "노래", "책", "집"]


def rows_of(problem_type):
    """Texts of which the label can be seen in every one."""
    if problem_type == "single_label_classification":
        labels = {GOOD: "긍정", BAD: "부정"}
        return [{"text": f"{noun} {said}", "label": label} for noun in NOUNS for said, label in labels.items()]
    if problem_type == "regression":
        return [{"text": f"{noun} " + "!" * n, "label": n / 4} for noun in NOUNS[:5] for n in range(1, 5)]
    pairs = [(one, other) for one in NOUNS[:4] for other in NOUNS[:4]]
    return [{"text": f"{one} {other}", "label": sorted({one, other})} for one, other in pairs]


def f1(predicted, true, label):
    """Of one label, in percent, of lists of labels."""
    right = sum(label in one and label in other for one, other in zip(predicted, true, strict=True))
    given = sum(label in one for one in (*predicted, *true))
    return 100 * 2 * right / given if given else 0.0


def scores_by_hand(problem_type, lines):
    predicted, true = [line["prediction"] for line in lines], [line["label"] for line in lines]
    if problem_type == "regression":
        errors = np.array(predicted) - np.array(true)
        return {
            "pearson": 100 * np.corrcoef(predicted, true)[0, 1],
            "mean_squared_error": float((errors**2).mean()),
        }
    exact = 100 * sum(one == other for one, other in zip(predicted, true, strict=True)) / len(lines)
    if problem_type == "single_label_classification":
        by_label = [f1([[one] for one in predicted], [[one] for one in true], label) for label in set(true)]
        return {"accuracy": exact, "macro_f1": sum(by_label) / len(by_label)}
    predicted, true = [set(labels) for labels in predicted], [set(labels) for labels in true]
    labels = set().union(*true)
    pairs = [({(row, label) for row, some in enumerate(side) for label in some}) for side in (predicted, true)]
    return {
        "micro_f1": 100 * 2 * len(pairs[0] & pairs[1]) / (len(pairs[0]) + len(pairs[1])),
        "macro_f1": sum(f1(predicted, true, label) for label in labels) / len(labels),
        "exact_match": 100 * sum(one == other for one, other in zip(predicted, true, strict=True)) / len(lines),
    }


@pytest.fixture
def data_of(write):
    """Write rows as the training, validation and test split; returns the folder."""

    def write_rows(rows, **other_splits):
        for split in ("train", "validation", "test"):
            lines = (json.dumps(row, ensure_ascii=False) for row in other_splits.get(split, rows))
            file = write(f"{split}.jsonl", "\n".join(lines) + "\n")
        return str(file.parent)

    return write_rows


@pytest.mark.parametrize(
    ("family", "problem_type"),
    [
        pytest.param("encoder", "multi_label_classification", marks=pytest.mark.slow),
        ("decoder", "single_label_classification"),
        pytest.param("encoder", "single_label_classification", marks=pytest.mark.slow),
        pytest.param("encoder", "regression", marks=pytest.mark.slow),
    ],
)
def test_a_run(tmp_path, data_of, family, problem_type):
    data = {"path": data_of(rows_of(problem_type))}
    results = train(make_recipe(tmp_path / "run", data=data, model={"preset": f"{family}-tiny"}))
    found = losses(tmp_path / "run")
    assert found[30] < 0.8 * found[1]
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [{name: line[name] for name in ("text", "label")} for line in lines] == rows_of(problem_type)
    by_hand = scores_by_hand(problem_type, lines)
    assert {name: results["test"][name] for name in by_hand} == pytest.approx(by_hand, rel=1e-4)
    assert results["test"][next(iter(by_hand))] > 60
    best = tmp_path / "run" / "best"
    assert evaluate(best) == results["test"]
    model = AutoModelForSequenceClassification.from_pretrained(best)
    assert type(model).__name__ == f"Trefoil{family.title()}ForSequenceClassification"
    assert model.config.problem_type == problem_type
    if problem_type == "single_label_classification":
        classify = pipeline("text-classification", model=str(best), device="cpu")
        said = [answer["label"] for answer in classify([line["text"] for line in lines])]
        assert said == [line["prediction"] for line in lines]


@pytest.mark.slow
def test_a_run_of_labels_in_one_text(tmp_path, data_of):
    rows = rows_of("multi_label_classification")
    found = {}
    for name, data, options in [
        ("lists", rows, {}),
        ("texts", [row | {"label": "|".join(row["label"])} for row in rows], {"label_separator": "|"}),
    ]:
        recipe = make_recipe(
            tmp_path / name, data={"path": data_of(data)}, options=options, model={"preset": "encoder-tiny"}
        )
        found[name] = train(recipe)["test"], evaluate(tmp_path / name / "best")
    assert found["lists"] == found["texts"]


def test_a_run_on_sentence_pairs(tmp_path, data_of):
    rows = [{"one": one, "other": other, "label": int(one == other)} for one in NOUNS[:4] for other in NOUNS[:4]]
    data = {"path": data_of(rows), "columns": {"text": "one", "text_pair": "other"}}
    train(
        make_recipe(tmp_path / "run", data=data, options={"names": {0: "다름", 1: "같음"}}, training={"max_steps": 2})
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [{name: line[name] for name in rows[0]} for line in lines] == rows
    assert {line["prediction"] for line in lines} <= {"다름", "같음"}


def test_a_run_says_what_it_skipped(tmp_path, data_of, capsys):
    rows = rows_of("single_label_classification")
    unseen = [*rows[:2], {"text": "모르겠다", "label": "글쎄"}]
    data = {"path": data_of([*rows, {"text": "", "label": "긍정"}], validation=unseen, test=unseen)}
    with pytest.raises(UserError, match=r"train.jsonl example 21: column 'text' is empty"):
        train(make_recipe(tmp_path / "run", data=data))
    data["invalid_examples"] = "skip"
    train(make_recipe(tmp_path / "again", data=data, training={"max_steps": 1}))
    said = capsys.readouterr().err
    assert "train.jsonl: skipped 1 invalid examples; the first: example 21, column 'text' is empty" in said
    for split in ("validation", "test"):
        assert f"{split}.jsonl: skipped 1 invalid examples; the first: example 3, column 'label' has the label" in said
    assert len((tmp_path / "again" / "predictions.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_names_of_the_data_set_are_known_to_evaluate(tmp_path, write):
    folder = write("nothing.md", "").parent
    examples = datasets.Dataset.from_list(rows_of("single_label_classification"))
    examples = examples.cast_column("label", datasets.ClassLabel(names=["부정", "긍정", "모름"]))
    for split in ("train", "validation", "test"):
        examples.to_parquet(folder / f"{split}.parquet")
    results = train(make_recipe(tmp_path / "run", data={"path": str(folder)}))
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == [row["label"] for row in rows_of("single_label_classification")]
    best = tmp_path / "run" / "best"
    assert trefoil.TrefoilEncoderConfig.from_pretrained(best).id2label == {0: "부정", 1: "긍정", 2: "모름"}
    assert evaluate(best) == results["test"]
