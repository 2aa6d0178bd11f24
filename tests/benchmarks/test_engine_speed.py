"""Every engine writes what Trefoil writes, and one that does not is told."""

import pytest
from exported_models import random_model, small_preset, trained_tokenizer

import trefoil
from benchmarks import engine_speed

pytestmark = pytest.mark.slow
for package in ("ctranslate2", "gguf", "xllamacpp"):
    pytest.importorskip(package)


def test_engines_are_measured(tmp_path, monkeypatch):
    tokenizer = trained_tokenizer("decoder", "byte_bpe")
    random_model(trefoil.TrefoilDecoderForCausalLM, small_preset("llama-like", tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = engine_speed.measure(tmp_path, "three apples", 5, 1)
    assert found.keys() == {"Trefoil", *engine_speed.EXPORTS}
    assert min(found.values()) > 0
    monkeypatch.setattr(engine_speed, "llama_cpp", lambda folder: lambda ids, count: [0] * count)
    with pytest.raises(ValueError, match=r"llama.cpp does not write what Trefoil writes"):
        engine_speed.measure(tmp_path, "three apples", 5, 1)


def test_translations_are_measured(tmp_path):
    tokenizer = trained_tokenizer("encoder-decoder", "byte_bpe")
    config = small_preset("encoder-decoder-tiny", tokenizer)
    random_model(trefoil.TrefoilEncoderDecoderForConditionalGeneration, config, seed=2).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = engine_speed.measure(tmp_path, "three apples", 5, 1)
    assert found.keys() == {"Trefoil", "CTranslate2", "CTranslate2, int8"}
    assert min(found.values()) > 0
