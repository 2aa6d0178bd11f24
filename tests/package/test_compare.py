"""Two models on the same examples: figures, how sure they are, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml
from sacrebleu.significance import PairedTest
from scipy import stats

from trefoil.cli import main
from trefoil.compare import compare, conclusion, lines_of
from trefoil.configuration.errors import UserError
from trefoil.tasks.metrics import paired


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(paired, "DRAWS", 200)
    monkeypatch.setitem(PairedTest._DEFAULT_SAMPLES, "bs", 100)


@pytest.fixture
def said(tmp_path):
    """A function: name, task, references, predictions -> a folder as `trefoil evaluate -o` writes it."""

    def write(name, task, references, predictions, **recipe):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"task": task, **recipe}))
        column = "source" if task == "translation" else "text"
        lines = [
            json.dumps({column: "x" * (number % 5), "prediction": prediction, "reference": reference}) + "\n"
            for number, (reference, prediction) in enumerate(zip(references, predictions, strict=True))
        ]
        (folder / "predictions.jsonl").write_text("".join(lines))
        return str(folder)

    return write


def rewrite(folder, change):
    """Change each line of what was said."""
    file = Path(folder, "predictions.jsonl")
    lines = [change(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


LABELS = ["a", "b"] * 100


def wrong_at(places):
    return ["b" if (label == "a") == (number in places) else "a" for number, label in enumerate(LABELS)]


def test_a_difference_that_is_sure(said, capsys):
    one = said("one", "text-classification", LABELS, wrong_at(range(10)))
    other = said("other", "text-classification", LABELS, wrong_at(range(5, 70)))
    assert main(["compare", one, other, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [score] = found["scores"]
    assert (found["models"], found["task"], score["examples"]) == ([one, other], "text-classification", 200)
    assert (score["metric"], score["scores"], score["difference"]) == ("accuracy", [95, 67.5], 27.5)
    assert 15 < score["interval"][0] < 27.5 < score["interval"][1] < 40
    assert score["p_value"] == pytest.approx(stats.binomtest(5, 65).pvalue)
    assert found["conclusion"].startswith("A is better than B: by 27.50 accuracy (95% interval +")
    assert main(["compare", other, one]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[:3] == [f"A: {other}", f"B: {one}", "text-classification"]
    assert "p: McNemar, exact" in shown
    assert shown.splitlines()[-1].startswith("B is better than A: by 27.50 accuracy")


def test_a_difference_that_tells_nothing(said):
    one = said("one", "text-classification", LABELS, wrong_at(range(10)))
    other = said("other", "text-classification", LABELS, wrong_at(range(5, 16)))
    found = compare([one, other])
    assert found["conclusion"].startswith(
        "These 200 examples do not tell which is better: they differ by 0.50 accuracy"
    )
    same = compare([one, one])
    assert same["scores"][0]["interval"] == [0, 0]
    assert same["scores"][0]["p_value"] == 1
    assert same["conclusion"].startswith("These 200 examples do not tell")


def test_less_error_is_better(said):
    numbers = [float(number % 7) for number in range(60)]
    one = said("one", "text-classification", numbers, [number + 3 - number % 2 for number in numbers])
    other = said("other", "text-classification", numbers, [number + 0.1 for number in numbers])
    found = compare([one, other])
    assert found["scores"][0]["metric"] == "mean_squared_error"
    assert found["conclusion"].startswith("B is better than A: by ")
    assert "p_value" not in found["scores"][0]


def test_errors_of_small_numbers_are_told(said):
    numbers = [number % 7 / 1000 for number in range(60)]
    one = said("one", "text-classification", numbers, [number + 0.003 for number in numbers])
    other = said("other", "text-classification", numbers, [number + 0.002 + number % 2e-3 for number in numbers])
    found = compare([one, other])
    low, high = found["scores"][0]["interval"]
    assert 0 < low < found["scores"][0]["difference"] < high < 1e-4
    assert not any(" 0.00 " in line or "0.00 to" in line for line in lines_of(found))
    assert found["conclusion"].startswith("B is better than A: by ")


SENTENCES = [f"the cat number {number} sits on the mat in room {number % 4}" for number in range(40)]


def test_translations_by_sacrebleu(said, capsys):
    one = said("one", "translation", SENTENCES, SENTENCES)
    other = said(
        "other", "translation", SENTENCES, [text.replace("cat", "dog").replace("mat", "sofa") for text in SENTENCES]
    )
    found = compare([one, other])
    bleu, chrf = found["scores"]
    assert (bleu["metric"], chrf["metric"]) == ("bleu", "chrf")
    assert bleu["scores"][0] == pytest.approx(100)
    assert chrf["scores"][0] == pytest.approx(100)
    assert chrf["difference"] == pytest.approx(100 - chrf["scores"][1])
    assert max(bleu["p_value"], chrf["p_value"]) < 0.02
    assert "sacreBLEU, paired bootstrap: nrefs:1|bs:100" in bleu["test"]
    assert found["conclusion"].count(".") > 2
    assert found["conclusion"].startswith("A is better than B: by ")
    assert main(["compare", one, other]) == 0
    assert "chrf" in capsys.readouterr().out


def test_directions_are_compared_each(said):
    both = [{"ko-en": text, "en-ko": f"고양이 {number}"} for number, text in enumerate(SENTENCES)]
    options = {"options": {"directions": [["ko", "en"], ["en", "ko"]]}}
    folders = [said(name, "translation", both, both, **options) for name in ("one", "other")]
    found = compare([rewrite(folder, lambda line: {"ko": "x", "en": "y", **line}) for folder in folders])
    assert [(score["direction"], score["metric"]) for score in found["scores"]] == [
        ("ko-en", "bleu"), ("ko-en", "chrf"), ("en-ko", "bleu"), ("en-ko", "chrf"),
    ]  # fmt: skip
    assert found["conclusion"].count("do not tell which is better") == 2


def test_a_single_example_tells_nothing(said):
    one = said("one", "text-classification", ["a"], ["a"])
    assert compare([one, one])["conclusion"] == "One example tells nothing."


def test_a_test_that_doubts_is_heard():
    score = {
        "metric": "accuracy",
        "examples": 100,
        "difference": 2.0,
        "interval": [0.1, 4.0],
        "is_sure": True,
        "is_minimized": False,
    }
    assert conclusion(score).startswith("A is better")
    assert conclusion({**score, "p_value": 0.06}).startswith("These 100 examples do not tell")


def test_what_cannot_be_compared(said, tmp_path):
    one = said("one", "text-classification", LABELS, LABELS)
    others = {
        "is for text-classification, ": said("two", "translation", SENTENCES, SENTENCES),
        "were asked 200 and 199 examples": said("three", "text-classification", LABELS[1:], LABELS[1:]),
        "were asked different examples; the first is number 1": said(
            "four", "text-classification", LABELS[::-1], LABELS
        ),
    }
    for message, other in others.items():
        with pytest.raises(UserError, match=message):
            compare([one, other])
    with pytest.raises(UserError, match=r"holds no recipe\.yaml with predictions\.jsonl"):
        compare([one, str(tmp_path)])
    old = said("five", "text-classification", LABELS, LABELS)
    rewrite(old, lambda line: {key: line[key] for key in ("text", "prediction")})
    with pytest.raises(UserError, match="does not say what is right; evaluate the model again"):
        compare([one, old])
    Path(old, "predictions.jsonl").write_text('{"text": "x", "predic', encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        compare([one, old])
    with pytest.raises(UserError, match="says nothing of single examples"):
        compare([said("six", "causal-lm", [], [])] * 2)


@pytest.mark.slow
def test_two_models_on_a_file_and_two_runs(finished_run, tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_text("ko,en\n사과 두 개,two apples\n세 시,three o'clock\n", encoding="utf-8")
    assert main(["compare", str(finished_run), str(finished_run / "best"), "--data", str(file)]) == 0
    shown = capsys.readouterr()
    assert "do not tell which is better: they differ by 0.00 bleu" in shown.out
    assert shown.err.count("source is the column 'ko'") == 1
    assert compare([str(finished_run)] * 2)["scores"][0]["examples"] == 6
