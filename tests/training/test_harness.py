"""The command that hands a model to lm-evaluation-harness, with tasks that lie in a file."""

import json
import re

import datasets
import numpy as np
import pytest
import yaml
from conftest import tiny_model
from ecosystem_helpers import small_tokenizer

from trefoil.cli import main
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, STREAM
from trefoil.tasks.denoising import TEMPLATES

pytest.importorskip("lm_eval")
from lm_eval.api.instance import Instance

from trefoil.configuration.errors import UserError
from trefoil.tasks.minimal_pairs import load_pairs, score_pairs
from trefoil.training.harness import ScoringLM, run_harness
from trefoil.training.run import make_accelerator
from trefoil.training.scoring import load_scorer, recipe_for

PAIRS = [{"good": "ab cd", "bad": "cd ab"}, {"good": "dcba", "bad": "abcd"}, {"good": "a 나는", "bad": "나는 a"}]
TASK = {
    "task": "trefoil_pairs",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "",
    "target_delimiter": "",
    "doc_to_target": 0,
    "doc_to_choice": "{{[good, bad]}}",
    "metric_list": [{"metric": "acc"}],
}
MODELS = {
    "causal-lm": ("decoder", LEFT_TO_RIGHT),
    "masked-lm": ("encoder", BIDIRECTIONAL),
    "denoising": ("encoder-decoder", TEMPLATES["spans"]),
}


@pytest.fixture(autouse=True)
def rows_are_cached_here(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def pairs(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return file


@pytest.fixture
def write_task(tmp_path, pairs):
    """A function: what is different about a task -> its file."""

    def write(**changes):
        file = tmp_path / "task.yaml"
        file.write_text(yaml.safe_dump(TASK | {"dataset_kwargs": {"data_files": {"test": str(pairs)}}} | changes))
        return str(file)

    return write


@pytest.fixture
def folder_of(tmp_path):
    """A function: task -> the folder of a model with random weights and a recipe."""

    def save(task, template=None, **recipe):
        family, usual = MODELS[task]
        tokenizer = small_tokenizer(["abcd", "나는"], template or usual, vocab_size=140)
        tiny_model(family, vocab_size=len(tokenizer)).save_pretrained(tmp_path / task)
        tokenizer.save_pretrained(tmp_path / task)
        needed = {"data": {"embedded": True}, "model": {"preset": "decoder-tiny"}, "training": {"max_steps": 1}}
        (tmp_path / task / "recipe.yaml").write_text(yaml.safe_dump({"task": task, **needed, **recipe}))
        return tmp_path / task

    return save


def answers_of(folder):
    samples = json.loads((folder / "results.json").read_text())["samples"]["trefoil_pairs"]
    return [[float(score) for ((score, _),) in sample["resps"]] for sample in samples]


def own_scores(folder, pairs):
    scorer = load_scorer(folder, recipe := recipe_for(folder), make_accelerator(recipe))
    return score_pairs(scorer, load_pairs(pairs, {}), "here")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["masked-lm", "denoising"])
def test_it_is_told_what_minimal_pairs_are_scored(folder_of, write_task, pairs, tmp_path, capsys, task):
    folder, said = folder_of(task), tmp_path / "said"
    assert main(["evaluate", str(folder), "--harness", write_task(), "-o", str(said), "--json"]) == 0
    expected = own_scores(folder, pairs)
    assert np.array(answers_of(said)) == pytest.approx(expected, abs=1e-4)
    found = json.loads(capsys.readouterr().out)["trefoil_pairs"]["acc,none"]
    assert found == pytest.approx((expected[:, 0] > expected[:, 1]).mean())


def test_a_causal_model_is_scored_by_the_harness_itself(folder_of, write_task, tmp_path, capsys):
    """It does not ask for the end of a text."""
    folder, said = folder_of("causal-lm"), tmp_path / "said"
    assert main(["evaluate", str(folder), "--harness", write_task(), "-o", str(said)]) == 0
    assert re.search(r"trefoil_pairs:\n(  .*\n)*  acc,none", capsys.readouterr().out)
    scorer = load_scorer(folder, recipe := recipe_for(folder), make_accelerator(recipe))
    sentences = [scorer.encode([pair["good"], pair["bad"]]) for pair in PAIRS]
    endless = [[type(one)(one.ids[:-1], one.words[:-1]) for one in pair] for pair in sentences]
    expected = [scorer.score(pair)[0].tolist() for pair in endless]
    assert np.array(answers_of(said)) == pytest.approx(np.array(expected), abs=1e-4)


def test_what_a_stream_taught_begins_behind_a_line(folder_of, write_task, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        "trefoil.training.harness.HFLM", lambda *_, prefix_token_id, **__: begun.append(prefix_token_id) or 1 / 0
    )
    folder = folder_of("causal-lm", STREAM, options={"documents": "stream"})
    tokenizer = small_tokenizer(["ab\ncd"], STREAM)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ZeroDivisionError):
        run_harness(folder, [write_task()])
    assert tokenizer.convert_ids_to_tokens(begun) == ["\n"]


def test_of_a_context_only_what_follows_is_asked(folder_of):
    scorer = load_scorer(folder := folder_of("masked-lm"), recipe := recipe_for(folder), make_accelerator(recipe))
    model = ScoringLM(scorer)

    def instance(*arguments):
        return Instance("loglikelihood", {}, arguments, 0)

    (spaced, (bare, _)) = model.loglikelihood([instance("ab ", "cd"), instance("ab", " cd")])
    assert spaced[0] == bare
    assert model.loglikelihood_rolling([instance("ab cd")]) < [bare]


def test_what_it_cannot_answer(folder_of, write_task, tmp_path, capsys):
    folder = folder_of("masked-lm")

    def refused(*arguments):
        assert main(["evaluate", str(folder), "--harness", *map(str, arguments)]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    generation = {"output_type": "generate_until", "generation_kwargs": {"until": ["."]}, "doc_to_target": "{{good}}"}
    file = write_task(**generation, metric_list=[{"metric": "exact_match"}])
    line = refused(file)
    assert (
        line
        == "error: --harness trefoil_pairs: asks for generated text, which a model of the task masked-lm does not continue"
    )
    with pytest.raises(UserError, match="asks for generated text"):
        ScoringLM(load_scorer(folder, recipe := recipe_for(folder), make_accelerator(recipe))).generate_until(
            [Instance("generate_until", {}, ("a", {}), 0)]
        )
    assert "does not load" in refused(write_task(dataset_kwargs={"data_files": {"test": "no-such-file.jsonl"}}))
    assert refused(write_task(), "-o", tmp_path / "no" / "folder").endswith("its folder does not exist")
    assert "--predictions is not for --harness" in refused(write_task(), "--predictions", tmp_path / "said.jsonl")
    long = tmp_path / "pairs.jsonl"
    long.write_text(json.dumps({"good": "a" * 99, "bad": "b"}) + "\n")
    assert "tokens, more than the model's 64" in refused(write_task())


@pytest.mark.slow
def test_an_unknown_task(folder_of, capsys):
    assert main(["evaluate", str(folder_of("masked-lm")), "--harness", "no_such_task"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: --harness no_such_task: neither a YAML file nor a task of lm_eval")
