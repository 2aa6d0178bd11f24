"""Imported and exported checkpoints compute what the stock classes compute, and come back bit for bit."""

from collections import Counter

import pytest
from stock_checkpoints import CASES, class_name, compare

from trefoil.hub.architectures import ARCHITECTURES


def test_every_architecture_has_three_cases_or_more():
    counts = Counter(case.architecture for case in CASES)
    assert counts.keys() == ARCHITECTURES.keys()
    assert min(counts.values()) >= 3


def test_every_head_has_a_case():
    stock = {name for architecture in ARCHITECTURES.values() for name, _ in architecture.heads.values()}
    siblings = {"Mistral", "Qwen2", "MBart"}  # bare and classifying as in Llama, Qwen3 and BART
    bare = {f"{name}Model" for name in ("Olmo2", "Gemma2", "Gemma3Text", "Phi3", "SmolLM3", "Qwen3", "Marian")}
    tried = {class_name(case) for case in CASES}
    left = {name for name in stock - tried if not name.startswith(tuple(siblings))}
    assert left <= bare, left


# often: the first of each head, and the plain one of each architecture but those that are much like another
ALIKE = ("roberta", "xlm-roberta", "mistral", "qwen2", "qwen3", "gemma2", "mbart", "pegasus")
HEADS = {case.head: case for case in reversed(CASES)}
PLAIN = {case.architecture: case for case in reversed(CASES) if case.says == "plain" and case.architecture not in ALIKE}
OFTEN = {str(case) for case in [*HEADS.values(), *PLAIN.values()]}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=str(case), marks=[] if str(case) in OFTEN else pytest.mark.slow) for case in CASES]
)
def test_stock_and_trefoil_agree(case, tmp_path):
    found = compare(case, tmp_path)
    assert found.logits <= 1e-5
    assert found.loss <= 1e-5
    assert found.hidden_states <= 1e-5
    assert found.gradients <= 1e-4
