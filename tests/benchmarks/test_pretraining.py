"""What pretraining gives: the recipes of all runs, and the table of what they gave."""

import json

import pytest

from benchmarks import pretraining
from trefoil.recipes.schema import Recipe, build, validate


@pytest.fixture
def arguments(tmp_path):
    folders = [f"--{kind}={tmp_path / kind}" for kind in pretraining.DOWNSTREAM]
    return pretraining.parsed(
        ["--texts", "help", "en", "--texts", "films", "text", *folders, f"--output={tmp_path / 'runs'}"]
    )


def all_of(arguments):
    yield from pretraining.pretraining(arguments)
    for kind in pretraining.DOWNSTREAM:
        yield from pretraining.downstream(arguments, kind)


def test_every_run_is_a_recipe_with_a_folder_of_its_own(arguments):
    trainings = list(all_of(arguments))
    for training in trainings:
        recipe = build(Recipe, training.recipe, training.name)
        validate(recipe, training.name)
    folders = {training.recipe["output_dir"] for training in trainings}
    assert len(folders) == len(trainings) == 3 + 4 + 4 + 3


def test_all_models_are_of_one_size_and_one_vocabulary(arguments, tmp_path):
    made = [training.recipe for training in all_of(arguments) if "preset" in training.recipe["model"]]
    assert all(recipe["model"]["config"].items() >= pretraining.SIZE.items() for recipe in made)
    first, *others = made
    assert first["tokenizer"] == {"vocab_size": 8000}
    assert {recipe["tokenizer"]["path"] for recipe in others} == {str(tmp_path / "runs/encoder/tokenizer")}


def test_what_has_ended_is_read_and_told(arguments, tmp_path):
    training = next(pretraining.downstream(arguments, "summaries"))
    results = tmp_path / "runs" / training.name / "best" / "results.json"
    results.parent.mkdir(parents=True)
    content = {"test": {"rouge1": 30.04, "rouge2": 9.96, "rougeL": 20}, "steps": 7, "training_seconds": 150}
    results.write_text(json.dumps(content))
    line = pretraining.line_of(training, pretraining.train(training), pretraining.DOWNSTREAM["summaries"].metrics)
    assert line == "| encoder-decoder | nothing | 30.0, 10.0, 20.0 | 7 | 2.5 |"


def test_a_run_that_fails_names_its_log(arguments, tmp_path):
    training = next(pretraining.pretraining(arguments))
    training.recipe["task"] = "no-such-task"
    with pytest.raises(SystemExit, match=r"encoder failed; see .*encoder\.log"):
        pretraining.train(training)
