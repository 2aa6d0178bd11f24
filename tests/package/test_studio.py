"""The page that trains: from files to a published model, without a line of YAML written by hand."""

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml

gradio = pytest.importorskip("gradio")

from tests.package.test_new import REVIEWS, table  # noqa: E402
from tests.visualization.pages import components  # noqa: E402
from trefoil.studio import Studio, Training, make_studio, progress_of  # noqa: E402
from trefoil.training.run_folder import RunFolder  # noqa: E402
from trefoil.visualization.app import plain  # noqa: E402

CAUSAL = "task: causal-lm\ndata: {embedded: true}\nmodel: {preset: decoder-tiny}\ntraining: {max_steps: 1}\n"


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
    assert f"- {plain('2 labels: 긍정 67%, 부정 33%')}" in notes.splitlines()
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
    state, ended, trained = "", None, None
    for _ in range(240):
        state, losses, scores, said, ended, trained = call(page, "progress", None)
        if "Training" not in state:
            break
        time.sleep(0.5)
    assert state.startswith(f"**Done**: {plain('test: accuracy')}"), said.value
    assert (ended, trained) == (1, (str(tmp_path / "runs/reviews"), 1))
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
    studio.train(CAUSAL)
    studio.end()
    assert studio.training.process.returncode == -signal.SIGTERM


@pytest.fixture
def ended(tmp_path):
    """A function: number -> a training that has ended, of a translation, whose results have signatures, too."""
    run = RunFolder(tmp_path / "run")
    run.best.path.mkdir(parents=True)
    run.best.config.write_text("{}")
    scores = {"bleu": 21.5, "chrf": 40.0, "exact_match": 0.012, "bleu_signature": "nrefs:1", "loss": 2.0}
    run.best.results.write_text(json.dumps({"validation": {}, "test": scores}))
    run.log.write_text('{"step": 1, "loss": 2.0}\n')

    def training(number):
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        return Training(number, tmp_path / "run.yaml", run, "chrf", process)

    return training


def test_the_end_is_told_once_and_a_run_that_is_trained_further_is_loaded_again(ended, tmp_path, monkeypatch):
    skipped = gradio.skip()
    state, losses, _, _, seen, first = progress_of(ended(1), None)
    assert state.replace("\\", "") == "**Done**: test: chrf 40.00, bleu 21.50, exact_match 0.012"
    assert losses.visible
    assert first == (str(tmp_path / "run"), seen)
    state, *_, seen, second = progress_of(ended(2), seen)
    assert state != skipped
    assert second != first
    monkeypatch.setattr("trefoil.studio.read_log", lambda log: pytest.fail("what has ended was read again"))
    assert progress_of(ended(2), seen) == (skipped,) * 6


def test_the_curves_are_called_what_they_show(ended):
    training = ended(1)
    with training.run.log.open("a") as log:
        log.write('{"step": 2, "validation_loss": 1.5, "validation_chrf": 30.0}\n')
    _, losses, scores, *_ = progress_of(training, None)
    assert (scores.title, scores.y_title) == ("Validation chrF", "chrF")
    assert {row[2] for row in losses.value["data"]} == {"training", "validation"}


def test_what_stands_in_a_file_is_no_markdown(tmp_path, write):
    rows = "".join(f"text {n},{'![a](http://b/c.png)' if n % 2 else '<b>'}\n" for n in range(20))
    page = make_studio(tmp_path / "runs")
    _, _, notes = call(page, "look", [str(write("a.csv", f"text,label\n{rows}"))], "text-classification", 3)
    assert r"\!\[a\]\(http" in notes
    assert r"\<b\>" in notes


def test_an_adapter_on_a_model_of_this_machine_is_published_merged(ended, tmp_path, monkeypatch):
    given = {}

    def published(source, target, **options):
        given.update(options)
        target.mkdir()
        (target / "README.md").write_text("---\nwidget:\n- text: 세 시\n---\n")
        return target

    monkeypatch.setattr("trefoil.studio.publish", published)
    monkeypatch.setattr("trefoil.studio.check_published", lambda folder: [])
    monkeypatch.setattr("trefoil.studio.must_be_merged", lambda run: run == tmp_path / "run")
    studio = Studio(tmp_path)
    studio.training = ended(1)
    _, shown = studio.publish("out", "", "")
    assert given["merge"]
    assert shown == ["the card shows as an example: “세 시”"]
