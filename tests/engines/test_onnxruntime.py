"""ONNX Runtime computes what we compute, of our own classes and of what is exported, at any batch size and length."""

import pytest
import torch
from exported_models import SIZES, TEXTS, exported, random_model, small_preset, trained_tokenizer
from transformers import AutoModelForMaskedLM

import trefoil

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
exporters = pytest.importorskip("transformers.exporters")

BATCH, LENGTH = torch.export.Dim("batch"), torch.export.Dim("length", max=SIZES["max_position_embeddings"])


def as_onnx(model, inputs, folder):
    """What transformers' exporter writes of a model, as a function of the same inputs."""
    config = exporters.OnnxConfig(dynamic_shapes={name: {0: BATCH, 1: LENGTH} for name in inputs})
    exporters.OnnxExporter().export(model, dict(inputs), config=config).save_pretrained(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def logits(**inputs):
        (found,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(found)

    return logits


@torch.no_grad()
def assert_same_logits(run, model, tokenizer):
    for texts in (TEXTS[:2], TEXTS[2:3], TEXTS, ["3"]):
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        expected, found = model(**inputs).logits, run(**inputs)
        assert found.shape == expected.shape
        if expected.ndim == 3:
            expected, found = (logits[inputs.attention_mask.bool()] for logits in (expected, found))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert expected.std() > 0.5


def example(tokenizer):
    return tokenizer(TEXTS[:2], padding=True, return_tensors="pt")


@pytest.mark.slow
@pytest.mark.parametrize("head", ["MaskedLM", "SequenceClassification"])
def test_our_class(head, tmp_path):
    tokenizer = trained_tokenizer("encoder")
    config = small_preset("encoder-tiny", tokenizer, num_key_value_heads=2)
    config.num_labels = 3
    model = random_model(getattr(trefoil, f"TrefoilEncoderFor{head}"), config)
    assert_same_logits(as_onnx(model, example(tokenizer), tmp_path), model, tokenizer)


@pytest.mark.slow
def test_exported_bert(tmp_path):
    tokenizer = trained_tokenizer("encoder")
    model = random_model(trefoil.TrefoilEncoderForMaskedLM, small_preset("bert-base", tokenizer))
    stock = AutoModelForMaskedLM.from_pretrained(exported(model, tokenizer, "bert", tmp_path)).eval()
    assert type(stock).__name__ == "BertForMaskedLM"
    assert_same_logits(as_onnx(stock, example(tokenizer), tmp_path / "onnx"), model, tokenizer)
