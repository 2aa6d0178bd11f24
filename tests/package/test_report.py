"""What an evaluation tells beside its scores, and the folder that it writes."""

import json
import unicodedata
from itertools import pairwise

import pytest
from training_runs import TINY_MODEL

from trefoil.cli import main
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.report import Group, by_length, groups_of, lines_of, table
from trefoil.tasks.metrics.paired import ACCURACY
from trefoil.training.run import make_reader, train


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


REVIEWS = [
    {"text": "좋아 " * (1 + n % 9) if n % 3 else "싫어 " * (1 + n % 9), "label": "긍정" if n % 3 else "부정"}
    for n in range(30)
]
NAMES = [
    {"tokens": ["서울", "에", "민수"], "tags": ["B-곳", "O", "B-사람"]},
    {"tokens": ["그냥", "간다"], "tags": ["O", "O"]},
] * 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function: task, rows of every split -> the folder of a run."""
    folders = {}

    def run(task, rows):
        if task not in folders:
            folder = folders[task] = tmp_path_factory.mktemp(task)
            for split in ("train", "validation", "test"):
                (folder / f"{split}.jsonl").write_text(jsonl(rows), encoding="utf-8")
            content = {
                "task": task,
                "output_dir": str(folder / "run"),
                "data": {"path": str(folder)},
                "tokenizer": {"kind": "characters"},
                "model": {"preset": "encoder-tiny", "config": dict(TINY_MODEL)},
                "optimization": {"learning_rate": 5e-3, "warmup_steps": 2},
                "training": {"max_steps": 12, "evaluate_every": 12, "trackers": []},
            }
            recipe = build(Recipe, content, "here")
            validate(recipe, "here")
            train(recipe)
        return folders[task] / "run"

    return run


def evaluate(capsys, *arguments):
    code = main(["evaluate", *map(str, arguments)])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return shown.out


def test_the_folder_of_a_classifier(trained, tmp_path, capsys):
    run, folder = trained("text-classification", REVIEWS), tmp_path / "told"
    shown = evaluate(capsys, run, "-o", folder)
    files = {file.name for file in folder.iterdir()}
    assert files == {"confusion.png", "predictions.jsonl", "recipe.yaml", "reliability.png", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert json.loads(evaluate(capsys, run, "-o", folder, "--json")) == results  # in place of what was there
    assert results["scores"] == json.loads((run / "best" / "results.json").read_text())["test"]
    said = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert all(0 < one["score"] <= 1 and one["reference"] == one["label"] for one in said)
    counts = results["confusion"]["counts"]
    assert counts[0][1] == sum(one["label"] == "긍정" != one["prediction"] for one in said)
    assert [sum(row) for row in counts] == [one["support"] for one in results["labels"]] == [20, 10]
    assert sum(one["examples"] for one in results["calibration"]["bins"]) == 30
    parts = results["slices"]["length"]
    assert sum(one["examples"] for one in parts) == 30
    assert sum(one["accuracy"] * one["examples"] for one in parts) / 30 == pytest.approx(results["scores"]["accuracy"])
    assert "text-classification, 30 examples of " in shown
    error = results["calibration"]["expected_error"]
    assert f"expected calibration error {error:.2f} %: " in shown
    assert [line.split()[:1] for line in shown.splitlines() if line.startswith(("긍정", "부정"))] == [
        ["긍정"],
        ["부정"],
    ]


def test_the_folder_of_a_tagger(trained, tmp_path, capsys):
    run = trained("token-classification", NAMES)
    evaluate(capsys, run, "-o", tmp_path / "told")
    results = json.loads((tmp_path / "told" / "results.json").read_text())
    assert [(one["label"], one["support"]) for one in results["labels"]] == [("곳", 8), ("사람", 8)]
    assert {one["label"]: one["f1"] for one in results["labels"]} == {
        name: results["scores"][f"f1_{name}"] for name in ("곳", "사람")
    }
    assert not {"confusion", "calibration"} & results.keys()
    assert not list((tmp_path / "told").glob("*.png"))
    for line in (tmp_path / "told" / "predictions.jsonl").read_text().splitlines():
        line = json.loads(line)
        text = " ".join(line["tokens"])
        assert len(line["entities"]) == sum(tag[:2] == "B-" for tag in line["prediction"])
        assert all(one["text"] == text[one["start"] : one["end"]] for one in line["entities"])


def test_a_translation_has_lengths(finished_run, capsys):
    found = json.loads(evaluate(capsys, finished_run, "data.embedded_sizes={test: 12}", "--json"))
    parts = found["slices"]["length"]
    assert sum(one["examples"] for one in parts) == 12
    assert all(one["from"] <= one["to"] < after["from"] for one, after in pairwise(parts))
    assert {"bleu", "from", "to", "examples"} == parts[0].keys()


def test_a_folder_that_holds_something_else_is_left_alone(trained, tmp_path, capsys):
    run = trained("text-classification", REVIEWS)
    (project := tmp_path / "project").mkdir()
    (project / "recipe.yaml").write_text("mine")
    for folder, message in [
        (project, "holds recipe.yaml, which is of no evaluation; name another folder"),
        (run, "holds .trefoil-run"),
        (run / "best", "which is of no evaluation; name another folder"),
        (run / "log.jsonl", "is a file; name a folder"),
        (tmp_path / "no" / "folder", "its folder does not exist"),
    ]:
        before = sorted(run.rglob("*"))
        assert main(["evaluate", str(run), "-o", str(folder)]) == 2
        assert message in capsys.readouterr().err
        assert sorted(run.rglob("*")) == before
    assert (project / "recipe.yaml").read_text() == "mine"


def test_quarters_by_length():
    group = Group("", ACCURACY, [*range(1, 9)], ["a"] * 8, [*"aaaabbbb"])
    parts = by_length(group)
    assert [(one["from"], one["to"], one["examples"], one["accuracy"]) for one in parts] == [
        (1, 2, 2, 100), (3, 4, 2, 100), (5, 6, 2, 0), (7, 8, 2, 0)
    ]  # fmt: skip
    assert len(by_length(Group("", ACCURACY, [3] * 8, ["a"] * 8, ["a"] * 8))) == 1


def test_both_directions_are_two_groups():
    content = {"options": {"directions": [["ko", "en"], ["en", "ko"]]}, "data": {"embedded": True}}
    reader = make_reader(build(Recipe, content, "here"))
    lines = [
        {"ko": "하나", "en": "one", "prediction": {"ko-en": "one"}, "reference": {"ko-en": "one", "en-ko": "하나"}},
        {
            "ko": "둘",
            "en": "two",
            "prediction": {"ko-en": "2", "en-ko": "둘"},
            "reference": {"ko-en": "two", "en-ko": "둘"},
        },
    ]
    one, other = groups_of(reader, lines)
    assert (one.name, one.lengths, one.references, one.predictions) == ("ko-en", [2, 1], ["one", "two"], ["one", "2"])
    assert (other.name, other.lengths, other.references, other.predictions) == ("en-ko", [3], ["둘"], ["둘"])


def test_columns_stand_below_each_other_in_korean_too():
    lines = table(["label", "f1"], [["긍정", "81.20"], ["neutral", "7.00"]])
    assert lines == ["label       f1", "긍정     81.20", "neutral   7.00"]
    widths = {sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in line) for line in lines}
    assert widths == {14}


def test_many_labels_are_not_all_shown():
    labels = [{"label": f"l{n}", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1} for n in range(40)]
    report = {"task": "x", "examples": 40, "data": "y", "scores": {"accuracy": 0.0}, "labels": labels}
    assert lines_of(report)[-1] == "… 10 more in results.json"


def test_lengths_are_those_of_the_text_whatever_its_column_is_called():
    data = {"path": "data", "columns": {"text": "prediction", "label": "reference"}}
    content = {"task": "text-classification", "data": data, "model": {"preset": "encoder-tiny"}}
    reader = make_reader(build(Recipe, content, "here"))
    lines = [{"given_prediction": "four", "given_reference": "a", "prediction": "a", "reference": "a"}]
    (group,) = groups_of(reader, lines)
    assert (group.lengths, group.references, group.predictions) == ([4], ["a"], ["a"])
