"""The page that trains: from files to a published model, without a line of YAML written by hand."""

import signal
import sys
import time

import pytest
import yaml

gradio = pytest.importorskip("gradio")

from tests.package.test_new import REVIEWS, table  # noqa: E402
from tests.visualization.pages import components  # noqa: E402
from trefoil.studio import Studio, make_studio  # noqa: E402


@pytest.fixture
def reviews(write):
    return str(write("reviews.csv", table(["내용", "id", "감정"], REVIEWS, ";").encode("cp949", "ignore")))


def call(page, name, *values):
    return next(function.fn for function in page.fns.values() if function.api_name == name)(*values)


def test_a_file_becomes_a_recipe_and_its_first_rows_are_shown(tmp_path, reviews):
    page = make_studio(tmp_path / "runs")
    text, rows, notes = call(page, "look", [reviews], "text-classification", 3)
    recipe = yaml.safe_load(text)
    assert (recipe["task"], recipe["training"]["max_minutes"]) == ("text-classification", 3)
    assert recipe["output_dir"] == str(tmp_path / "runs/reviews")
    assert rows.value["headers"] == ["내용", "id", "감정"]
    assert len(rows.value["data"]) == 5
    assert "- 2 labels: 긍정 67%, 부정 33%" in notes.splitlines()
    text, _, _ = call(page, "look", [reviews], "text-classification", 3)  # another data set of the same name
    assert yaml.safe_load(text)["output_dir"] == str(tmp_path / "runs/reviews-2")
    assert components(page, gradio.Code)


def test_mistakes_are_told_in_one_line_and_leave_nothing(tmp_path, write):
    page = make_studio(tmp_path / "runs")
    for values, message in (
        (("look", None, "text-classification", 3), "Choose a file first."),
        (("look", [str(write("a.csv", "x\n1\n"))], "text-classification", 3), "which column is"),
        (("train", "task: text-classification\nlearning_rate: 1\n"), "optimization.learning_rate"),
        (("publish", "out", "", ""), "nothing is trained yet"),
    ):
        with pytest.raises(gradio.Error) as refused:
            call(page, *values)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not [path for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".")]
    assert call(page, "progress", None)[0] == "Nothing is trained yet."


@pytest.mark.slow
def test_from_a_file_to_a_published_model(tmp_path, reviews):
    page = make_studio(tmp_path / "runs")
    text, _, _ = call(page, "look", [reviews], "text-classification", 1)
    recipe = yaml.safe_load(text)
    recipe["training"] |= {"max_epochs": 3, "log_every": 1}
    call(page, "train", yaml.safe_dump(recipe, allow_unicode=True))
    with pytest.raises(gradio.Error, match="a training is at work"):
        call(page, "train", text)
    state, trained = "", None
    for _ in range(240):
        state, losses, scores, said, trained = call(page, "progress", None)
        if "Training" not in state:
            break
        time.sleep(0.5)
    assert state.startswith("**Done**: accuracy"), said.value
    assert trained == str(tmp_path / "runs/reviews")
    assert losses.visible
    assert scores.visible
    assert "Published in" in (shown := call(page, "publish", "out", "Reviews", "apache-2.0"))
    assert "FAILED" not in shown
    assert any(f"the card shows as an example: “{text}”" in shown for text, *_ in REVIEWS)
    assert (tmp_path / "runs/out/model.safetensors").is_file()


def test_what_a_page_started_ends_with_it(tmp_path, write, monkeypatch):
    long_work = write("long_work", "#!/bin/sh\nexec sleep 600\n")
    long_work.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(long_work))
    studio = Studio(tmp_path)
    studio.train("task: causal-lm\ndata: {embedded: true}\nmodel: {preset: decoder-tiny}\ntraining: {max_steps: 1}\n")
    studio.end()
    assert studio.training.process.returncode == -signal.SIGTERM
