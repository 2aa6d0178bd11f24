"""A folder that version 0.1.0 published, before `qk_norm` had kinds: its files without code, card and picture."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from trefoil.cli import main
from trefoil.training.run import evaluate

FOLDER = Path(__file__).parent / "published_0_1"


@pytest.fixture(scope="module")
def expected():
    """What it gave then."""
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


def test_it_loads_with_the_same_logits(expected):
    model = AutoModelForSeq2SeqLM.from_pretrained(FOLDER).eval()
    inputs = AutoTokenizer.from_pretrained(FOLDER)(expected["sentence"], return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == expected["input_ids"]
    with torch.no_grad():
        logits = model(**inputs, labels=torch.tensor([[5, 9, 40, 2]])).logits[0, -1, :8]
    torch.testing.assert_close(logits, torch.tensor(expected["decoder_logits"]), atol=2e-5, rtol=0)


def test_it_translates(expected, capsys):
    assert main(["translate", str(FOLDER), expected["sentence"]]) == 0
    assert capsys.readouterr().out.strip() == expected["translation"]


def test_it_is_evaluated_to_the_same_scores(expected):
    scores = evaluate(FOLDER)
    assert {name: scores[name] for name in expected["scores"]} == pytest.approx(expected["scores"])
