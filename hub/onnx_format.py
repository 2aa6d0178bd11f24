"""ONNX, by transformers' exporter, and what ONNX Runtime makes of it."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from .stock_config import flat_options

FILE = "model.onnx"
MODELS = (
    "TrefoilEncoderModel", "TrefoilEncoderForMaskedLM", "TrefoilEncoderForSequenceClassification",
    "TrefoilEncoderForTokenClassification", "TrefoilEncoderForQuestionAnswering", "TrefoilDecoderModel",
    "TrefoilDecoderForCausalLM", "TrefoilDecoderForSequenceClassification", "TrefoilDecoderForTokenClassification",
)  # fmt: skip


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: str | None
) -> list[str]:
    """Fill a folder with an encoder or decoder that reads batches of any size and texts of any length up to its longest, and
    with its tokenizer.

    Raises:
        UserError: What it computes takes as many steps as the text has tokens.
    """
    from transformers.exporters import OnnxConfig, OnnxExporter

    if getattr(model.config, "classifier_crf", False):
        raise UserError("with classifier_crf it goes from token to token, and a program has a fixed number of steps")
    notes = []
    if model.dtype != torch.float32:
        notes.append(f"weights are float32 there, not {str(model.dtype).removeprefix('torch.')}")
        model.float()
    model.eval().config.use_cache = False  # a cache is no part of a program
    ids = torch.randint(3, 4, (2, 4))
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=_longest(model))}
    example = _inputs(model, tokenizer, ids)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # of operations of its own that it cannot read
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = OnnxConfig(dynamic_shapes=dict.fromkeys(example, sizes))
        OnnxExporter().export(model, example, config=config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return notes


def _longest(model: PreTrainedModel) -> int:
    return flat_options(model.config)["max_position_embeddings"]


def _inputs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """A batch of two, the second of which is shorter."""
    mask = torch.ones_like(ids)
    mask[-1, ids.shape[1] // 2 :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in tokenizer.model_input_names:
        inputs["token_type_ids"] = torch.zeros_like(ids)
        if flat_options(model.config)["type_vocab_size"] > 1:
            inputs["token_type_ids"][:, ids.shape[1] // 3 :] = 1
    return inputs


@torch.no_grad()
def outputs(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first output of a text and of its first half, padded: by ONNX Runtime and by the model."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    inputs = _inputs(model, tokenizer, torch.tensor([ids, ids]))
    found, *_ = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    expected = model(**inputs)[0]
    real = inputs["attention_mask"].bool() if expected.shape[:2] == inputs["input_ids"].shape else slice(None)
    return torch.from_numpy(found)[real], expected[real]
