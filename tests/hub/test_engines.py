"""Which way a model takes to an engine, what is written there, and what is refused in a line."""

import dataclasses

import pytest
import torch
from conftest import seldom
from exported_models import for_engine, random_model, small_preset, trained_tokenizer

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.hub import engines
from trefoil.hub.engines import ENGINES, export_for_engine
from trefoil.hub.stock import ARCHITECTURES

FORMATS = ["ctranslate2", "gguf"]
SIZES = {  # of what is written, at least and at most, where it is 1 in float32
    ("ctranslate2", "int8"): (0.2, 0.7), ("ctranslate2", "float16"): (0.4, 0.7),
    ("gguf", "q8_0"): (0.2, 0.6), ("gguf", "bfloat16"): (0.4, 0.8),
}  # fmt: skip


def llama(**fields):
    tokenizer = trained_tokenizer("decoder", "byte_bpe")
    config = small_preset("llama-like", tokenizer, **fields)
    return random_model(trefoil.TrefoilDecoderForCausalLM, config), tokenizer


def saved(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def require(to):
    for package in ENGINES[to].packages:
        pytest.importorskip(package)


def names(folder):
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("to", FORMATS)
def test_a_model_goes_by_the_first_architecture_that_expresses_it(to, tmp_path):
    require(to)
    model, tokenizer = llama()
    source = saved(tmp_path / "ours", model, tokenizer)
    converted = export_for_engine(source, tmp_path / "out", to)
    assert type(converted.model).__name__ == "LlamaForCausalLM"
    assert converted.difference < 1e-4
    assert names(tmp_path / "out") >= ENGINES[to].marks
    with pytest.raises(UserError, match="is not empty"):
        export_for_engine(source, tmp_path / "out", to)
    export_for_engine(source, tmp_path / "out", to, overwrite=True)
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(UserError, match="holds other files too"):
        export_for_engine(source, tmp_path / "out", to, overwrite=True)


@pytest.mark.parametrize("kind", seldom(SIZES, ("gguf", "q8_0")))
def test_weights_are_rounded(kind, tmp_path):
    to, quantization = kind
    least, most = SIZES[kind]
    require(to)
    model, tokenizer = llama(hidden_size=64, intermediate_size=256, num_hidden_layers=1)
    (mark,) = ENGINES[to].marks - {"config.json"}
    (tmp_path / "whole").mkdir()
    (tmp_path / "rounded").mkdir()
    whole = for_engine(model, tokenizer, to, tmp_path / "whole") / mark
    source, out = tmp_path / "whole" / "trefoil", tmp_path / "rounded" / to
    converted = export_for_engine(source, out, to, quantization=quantization)
    assert least < (out / mark).stat().st_size / whole.stat().st_size < most
    assert converted.difference > 0


def test_what_an_engine_makes_of_it_is_compared(tmp_path, monkeypatch):
    wrong = lambda folder, stock, tokenizer, ids: (torch.zeros(3), torch.tensor([1.0, 2.0, 0.0]))  # noqa: E731
    fake = dataclasses.replace(ENGINES["gguf"], packages=("torch",), write=lambda *_: [], outputs=wrong)
    monkeypatch.setitem(ENGINES, "gguf", fake)
    with pytest.raises(UserError, match=r"makes something else of this LlamaForCausalLM: outputs differ by 2.0e\+00"):
        export_for_engine(saved(tmp_path / "ours", *llama()), tmp_path / "out", "gguf")
    assert not (tmp_path / "out").exists()


def test_each_architecture_of_an_engine_is_one_of_ours():
    for engine in ENGINES.values():
        assert set(engine.architectures) <= ARCHITECTURES.keys()
        assert all(hasattr(trefoil, name) for name in engine.models)


@pytest.mark.parametrize("to", FORMATS)
def test_what_no_engine_has_is_refused(to, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda package: package)
    tokenizer = trained_tokenizer("decoder")
    config = small_preset("llama-like", tokenizer, position_embedding_type="alibi", rope_parameters=None)
    alibi = saved(tmp_path / "alibi", trefoil.TrefoilDecoderForCausalLM(config), tokenizer)
    with pytest.raises(UserError, match=r"llama cannot express position_embedding_type='alibi' .* comes closer"):
        export_for_engine(alibi, tmp_path / "out", to)
    with pytest.raises(UserError, match=f"{to} has no quantization 'q3'; it has "):
        export_for_engine(alibi, tmp_path / "out", to, quantization="q3")
    labels = saved(tmp_path / "labels", trefoil.TrefoilDecoderForSequenceClassification(config), tokenizer)
    with pytest.raises(UserError, match=r"runs no TrefoilDecoderForSequenceClassification; it goes --to onnx$"):
        export_for_engine(labels, tmp_path / "out", to)
    with pytest.raises(UserError, match="holds no tokenizer"):
        export_for_engine(saved(tmp_path / "bare", llama()[0]), tmp_path / "out", to)
    monkeypatch.setattr(engines, "find_spec", lambda package: None)
    with pytest.raises(
        UserError, match=rf"needs {ENGINES[to].packages[0]}: pip install 'trefoil-transformers\[export\]'"
    ):
        export_for_engine(alibi, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


def test_what_has_as_many_steps_as_tokens_is_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda package: package)
    tokenizer = trained_tokenizer("encoder")
    config = small_preset("encoder-tiny", tokenizer, classifier_crf=True)
    tagger = saved(tmp_path / "tagger", trefoil.TrefoilEncoderForTokenClassification(config), tokenizer)
    with pytest.raises(
        UserError, match="not written for ONNX Runtime: with classifier_crf it goes from token to token"
    ):
        export_for_engine(tagger, tmp_path / "out", "onnx")
    with pytest.raises(UserError, match="onnx has no quantization 'int8'; it has none"):
        export_for_engine(tagger, tmp_path / "out", "onnx", quantization="int8")
    recurrent = trefoil.TrefoilRecurrentModel(trefoil.TrefoilRecurrentConfig(vocab_size=len(tokenizer), hidden_size=16))
    with pytest.raises(UserError, match="ONNX Runtime runs no TrefoilRecurrentModel; nor does any other engine"):
        export_for_engine(saved(tmp_path / "recurrent", recurrent, tokenizer), tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_unknown_token_goes_to_ctranslate2(tmp_path):
    require("ctranslate2")
    tokenizer = trained_tokenizer("encoder", "byte_bpe")
    assert tokenizer.unk_token is None
    model = random_model(trefoil.TrefoilEncoderModel, small_preset("bert-base", tokenizer))
    converted = export_for_engine(saved(tmp_path / "ours", model, tokenizer), tmp_path / "out", "ctranslate2")
    assert converted.difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "fields"),
    [("TokenClassification", {}), ("QuestionAnswering", {"type_vocab_size": 2, "matched_ngram_sizes": [1, 2]})],
)
def test_a_model_goes_to_onnx_as_it_is(head, fields, tmp_path):
    require("onnx")
    tokenizer = trained_tokenizer("encoder", "byte_bpe")
    tokenizer.model_input_names = [*tokenizer.model_input_names, *(["token_type_ids"] if fields else [])]
    config = small_preset("encoder-tiny", tokenizer, num_hidden_layers=1, **fields)
    model = random_model(getattr(trefoil, f"TrefoilEncoderFor{head}"), config)
    source = saved(tmp_path / "ours", model.to(torch.bfloat16), tokenizer)
    converted = export_for_engine(source, tmp_path / "out", "onnx")
    assert converted.difference < 1e-4
    assert converted.notes == ["weights are float32 there, not bfloat16"]
    assert names(tmp_path / "out") >= {"model.onnx", "tokenizer.json"}
    with pytest.raises(UserError, match="is not empty"):
        export_for_engine(source, tmp_path / "out", "onnx")
    export_for_engine(source, tmp_path / "out", "onnx", overwrite=True)
