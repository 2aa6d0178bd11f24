"""`trefoil.train`, and what stands at a run's end."""

import shlex
import subprocess
import sys

import pytest
from training_runs import tiny_content, tiny_recipe

import trefoil
from trefoil.cli import make_parser
from trefoil.configuration.errors import UserError
from trefoil.runs import shown_scores, summary, what_to_install
from trefoil.training.run_folder import ModelFolder


def test_a_mapping_is_run_and_what_it_made_loads(tmp_path):
    content = tiny_content(tmp_path / "run", training={"max_steps": 2})
    results = trefoil.train(content, ["optimization.warmup_steps=0"])
    assert results == ModelFolder(tmp_path / "run" / "best").read_results()
    assert results["steps"] == 2
    assert "chrf" in results["test"]
    assert trefoil.load(tmp_path / "run").task == "translation"
    with pytest.raises(UserError, match=r"the recipe: unknown key training\.max_step; did you mean max_steps"):
        trefoil.train(content, ["training.max_step=3"])


def test_a_recipe_is_run_as_it_is(tmp_path, monkeypatch):
    recipe = tiny_recipe(tmp_path / "run")
    monkeypatch.setattr("trefoil.training.run.train", lambda given: {"is": given is recipe})
    assert trefoil.train(recipe) == {"is": True}


def test_the_end_says_how_good_it_is_where_it_is_and_what_to_type(finished_run):
    results = ModelFolder(finished_run / "best").read_results()
    scores, place, *commands = summary(results, finished_run)
    assert scores.startswith(shown_scores(results))
    assert f"({results['weights']} of 20, " in scores
    assert place == f"the model, its results and its curve are in {finished_run / 'best'}"
    parsed = [make_parser().parse_args(shlex.split(line.partition("trefoil ")[2])) for line in commands]
    assert [one.command for one in parsed] == ["predict", "publish"]
    assert parsed[0].texts == [ModelFolder(finished_run / "best").read_example()["text"]]
    assert parsed[0].model == parsed[1].source == str(finished_run)


def test_scores_are_told_of_one_split():
    validation = {"accuracy": 80.0, "loss": 0.5}
    test = {
        "accuracy": 91.254,
        "mean_squared_error": 0.00123,
        "ko-en/help/bleu": 3.0,
        "bleu_signature": "nrefs:1",
        "loss": 0.5,
    }
    assert shown_scores({"validation": validation, "test": test}) == "test: accuracy 91.25, mean_squared_error 0.00123"
    assert shown_scores({"test": {"ko-en/bleu": 3.0}}) == "test: ko-en/bleu 3.00"
    assert shown_scores({"test": test}, "mean_squared_error").startswith("test: mean_squared_error")
    assert shown_scores({"validation": validation}) == "validation: accuracy 80.00"
    assert shown_scores({"steps": 3}) == "no results"


@pytest.mark.parametrize(
    ("example", "arguments"),
    [
        ({"text": "When?", "context": "At 3."}, "--question 'When?' --context 'At 3.'"),
        ({"text": "When?", "context": "At 3. " * 99}, "--question TEXT --context TEXT"),
        ({"text": "a", "text_pair": "b"}, "--input pairs.csv --column text=TEXT text_pair=TEXT"),
        ({}, "TEXT"),
    ],
)
def test_each_task_is_asked_in_its_own_way(finished_run, monkeypatch, example, arguments):
    monkeypatch.setattr("trefoil.hub.space.metadata_of_run", lambda *_, **__: {"widget": [example]} if example else {})
    results = ModelFolder(finished_run / "best").read_results()
    assert summary(results, finished_run)[2].endswith(arguments)


def test_what_is_missing_is_named_with_its_extra():
    missing = ModuleNotFoundError("", name="accelerate.utils")
    assert (
        what_to_install("trefoil.train", missing)
        == "trefoil.train needs accelerate: pip install 'trefoil-transformers[train]'"
    )
    with pytest.raises(ModuleNotFoundError):
        what_to_install("trefoil.train", ModuleNotFoundError("", name="trefoil.nothing"))


@pytest.mark.slow
def test_help_lists_the_public_names():
    process = subprocess.run(
        [sys.executable, "-c", "import trefoil; help(trefoil)"], capture_output=True, text=True, check=True
    )
    for name in trefoil.__all__:
        assert name in process.stdout
