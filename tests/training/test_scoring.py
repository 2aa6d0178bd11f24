"""Minimal pairs from the command's side: which folders can be scored, by how many processes, and what is refused."""

import json

import pytest
from datasets import Dataset
from ecosystem_helpers import small_tokenizer
from training_runs import TINY_MODEL, start
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from trefoil.cli import main
from trefoil.configuration.errors import UserError
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, TEXT_TO_TEXT
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.training.run import train
from trefoil.training.scoring import evaluate_minimal_pairs

TEXTS = ["a b c d", "c d a b", "b c d a"]
PAIRS = [{"good": "a b c d", "bad": "d c b a", "phenomenon": "order", "paradigm": "cycle"}] * 2 + [
    {"good": "나는 a 🙂", "bad": "나는 🙂 a", "phenomenon": "order", "paradigm": "smile"},
    {"good": "a b", "bad": "a b", "phenomenon": "same", "paradigm": "same"},
]
SIZES = {"vocab_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "test.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has learned in which order letters come."""
    folder = tmp_path_factory.mktemp("trained")
    for split in ("train", "validation", "test"):
        Dataset.from_dict({"sentence": TEXTS * 20}).to_json(folder / f"{split}.jsonl")
    content = {
        "task": "causal-lm",
        "output_dir": str(folder / "run"),
        "data": {"path": str(folder), "columns": {"text": "sentence"}},
        "tokenizer": {"kind": "characters"},
        "model": {"preset": "decoder-tiny", "config": dict(TINY_MODEL)},
        "batches": {"tokens_per_batch": 256},
        "optimization": {"learning_rate": 1e-2, "warmup_steps": 2},
        "training": {"max_steps": 25, "evaluate_every": 25, "trackers": []},
    }
    recipe = build(Recipe, content, "here")
    validate(recipe, "here")
    train(recipe)
    return folder / "run"


@pytest.fixture
def stock(tmp_path):
    """A function: a model of transformers -> its folder, with a tokenizer and no recipe."""

    def save(model, template=LEFT_TO_RIGHT):
        model.save_pretrained(tmp_path / "stock")
        small_tokenizer([*TEXTS, "나는 🙂"], template).save_pretrained(tmp_path / "stock")
        return tmp_path / "stock"

    return save


def test_a_run_and_what_is_published_of_it_know_the_order(trained, file, tmp_path, capsys):
    assert main(["publish", str(trained), str(tmp_path / "published")]) == 0
    printed = []
    for folder in (trained, tmp_path / "published"):
        capsys.readouterr()
        said = tmp_path / "said.jsonl"
        assert main(["evaluate", str(folder), "--minimal-pairs", str(file), "--predictions", str(said), "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert printed[0]["pairs"] == 4
    assert printed[0]["phenomena"]["same"] == 50.0
    rows = [json.loads(line) for line in said.read_text().splitlines()]
    assert [{key: row[key] for key in row.keys() - {"prediction"}} for row in rows] == PAIRS
    assert rows[0]["prediction"]["good"] > rows[0]["prediction"]["bad"] + 2
    assert rows[3]["prediction"]["good"] == rows[3]["prediction"]["bad"]


def test_other_names_for_columns(trained, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("sentence_good,sentence_bad\na b c d,d c b a\n")
    names = ["data.columns={good: sentence_good, bad: sentence_bad}"]
    assert evaluate_minimal_pairs(trained / "best", file, names) == {"accuracy": 100.0, "pairs": 1}


MEASURE = """
import sys
from trefoil.cli import main
folder, pairs, said = sys.argv[1:]
tokens = "evaluation.tokens_per_batch=16"
sys.exit(main(["evaluate", folder, tokens, "--minimal-pairs", pairs, "--predictions", said, "--json"]))
"""


def test_two_processes_find_what_one_finds(trained, file, tmp_path):
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    found = []
    for processes in (1, 2):
        said = tmp_path / f"said-{processes}.jsonl"
        process = start(script, trained, file, said, processes=processes)
        assert process.returncode == 0, process.stderr
        rows = [json.loads(line)["prediction"] for line in said.read_text().splitlines()]
        found.append((json.loads(process.stdout), [score for row in rows for score in row.values()]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-4)


def test_a_stock_causal_model(stock, file):
    folder = stock(GPT2LMHeadModel(GPT2Config(n_positions=32, n_embd=16, n_layer=1, n_head=2, vocab_size=40)))
    assert evaluate_minimal_pairs(folder, file)["phenomena"]["same"] == 50.0


def test_a_stock_masked_model(stock, file):
    model = BertForMaskedLM(BertConfig(hidden_size=16, intermediate_size=16, **SIZES))
    assert evaluate_minimal_pairs(stock(model, BIDIRECTIONAL), file)["phenomena"]["same"] == 50.0


def test_what_is_no_language_model(stock, file):
    def refused(folder, *overrides):
        with pytest.raises(UserError) as error:
            evaluate_minimal_pairs(folder, file, overrides)
        return str(error.value)

    folder = stock(BertForSequenceClassification(BertConfig(hidden_size=16, intermediate_size=16, **SIZES)))
    assert "has no recipe.yaml, and BertForSequenceClassification is neither" in refused(folder)
    line = refused(folder, "task=translation")
    assert line.endswith("makes no language model, so sentences have no likelihood; masked-lm, causal-lm, denoising do")
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    folder = stock(t5, TEXT_TO_TEXT)
    assert "T5ForConditionalGeneration is neither a causal nor a masked language model" in refused(folder)
    assert f"is a stock t5; first run trefoil import {folder}" in refused(folder, "task=denoising")
    assert "no model to load" in refused(folder / "nowhere")


def test_a_sentence_that_is_too_long_ends_it_before_any_work(trained, tmp_path, capsys):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"good": "a b", "bad": "a" * 100}) + "\n")
    assert main(["evaluate", str(trained), "--minimal-pairs", str(file)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"error: {file} example 1: bad has 101 tokens, more than the model's 96"


def test_what_does_not_go_together(trained, file, capsys):
    arguments = ["evaluate", str(trained), "--minimal-pairs", str(file)]
    assert main([*arguments, "--split", "test"]) == 2
    assert "give one of --split, --data FILE, --minimal-pairs FILE, --harness TASK" in capsys.readouterr().err
    assert main([*arguments, "--predictions", str(file.parent / "no" / "file")]) == 2
    assert "its folder does not exist" in capsys.readouterr().err
