"""Models for inference engines: as a stock architecture that the engine has, and from there in its own format."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError, reason
from ..data.progress import in_steps
from . import ctranslate2_format, gguf_format, onnx_format
from .architectures import ARCHITECTURES
from .folders import model_folder, require_room, unexpected_files, written_aside
from .stock import Converted, name_unknown, random_ids, read_ours, to_stock
from .stock_config import flat_options

# how far outputs may lie from the model's, of the largest of these; where weights are rounded it is told only
CLOSE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}


@dataclass(frozen=True)
class Engine:
    """An inference engine's format.

    Attributes:
        name: What the engine is called.
        packages: What the format is written with, and read to be compared.
        marks: Files by which one knows a folder of it.
        others: Files that may lie beside these and the tokenizer's.
        quantizations: How weights may be stored.
        architectures: Keys of `ARCHITECTURES`; of several that can express a model the first is taken.
        models: The Trefoil classes that it runs.
        own: Those of them that `write` also takes as they are, where no architecture expresses them.
        write: Fills a folder with a model, its tokenizer, and weights of a quantization; gives notes.
        outputs: What comes of the folder for token ids, and what the model makes of them, in one shape.
        prepare: What is done to a model that an architecture is to express; whether anything was.
    """

    name: str
    packages: tuple[str, ...]
    marks: frozenset[str]
    others: frozenset[str]
    quantizations: tuple[str, ...]
    architectures: tuple[str, ...]
    models: tuple[str, ...]
    own: tuple[str, ...]
    write: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Path, str | None], list[str]]
    outputs: Callable[[Path, PreTrainedModel, PreTrainedTokenizerBase, list[int]], tuple[torch.Tensor, torch.Tensor]]
    prepare: Callable[[PreTrainedModel, str], bool]


ENGINES = {
    "ctranslate2": Engine(
        name="CTranslate2",
        packages=("ctranslate2",),
        marks=frozenset({"model.bin", "config.json"}),
        others=frozenset(
            {"vocabulary.json", "shared_vocabulary.json", "source_vocabulary.json", "target_vocabulary.json"}
        ),
        quantizations=ctranslate2_format.QUANTIZATIONS,
        architectures=ctranslate2_format.ARCHITECTURES,
        models=("TrefoilDecoderForCausalLM", "TrefoilEncoderDecoderForConditionalGeneration", "TrefoilEncoderModel"),
        own=("TrefoilEncoderDecoderForConditionalGeneration",),
        write=ctranslate2_format.write,
        outputs=ctranslate2_format.outputs,
        prepare=ctranslate2_format.prepare,
    ),
    "gguf": Engine(
        name="llama.cpp",
        packages=("gguf",),
        marks=frozenset({gguf_format.FILE}),
        others=frozenset(),
        quantizations=tuple(gguf_format.QUANTIZATIONS),
        architectures=gguf_format.ARCHITECTURES,
        models=("TrefoilDecoderForCausalLM",),
        own=(),
        write=gguf_format.write,
        outputs=gguf_format.outputs,
        prepare=lambda model, to: False,
    ),
    "onnx": Engine(
        name="ONNX Runtime",
        packages=("onnx", "onnxscript", "onnxruntime"),
        marks=frozenset({onnx_format.FILE}),
        others=frozenset({f"{onnx_format.FILE}.data", "config.json", "generation_config.json", "export.json"}),
        quantizations=(),
        architectures=(),
        models=onnx_format.MODELS,
        own=onnx_format.MODELS,
        write=onnx_format.write,
        outputs=onnx_format.outputs,
        prepare=lambda model, to: False,
    ),
}


def export_for_engine(
    source: str | os.PathLike,
    output: str | os.PathLike,
    to: str,
    *,
    quantization: str | None = None,
    overwrite: bool = False,
) -> Converted:
    """Writes a Trefoil model in an inference engine's format, with its tokenizer, and compares what comes of it.

    Args:
        source: A run's folder, or one that `save_pretrained`, `import_stock` or `publish` wrote.
        output: The folder to write; absent or empty.
        to: A key of `ENGINES`.
        quantization: How weights are stored; by default as they are.
        overwrite: Replace `output` if it is a folder of that format.

    Returns:
        The model of the stock architecture through which it went, or itself, and how far the outputs lie from that one's.

    Raises:
        UserError: The engine has no such model or tokenizer, or a package is not installed.
    """
    source, target, engine = Path(source), Path(os.path.abspath(output)), ENGINES[to]
    if missing := [package for package in engine.packages if find_spec(package) is None]:
        raise UserError(f"--to {to} needs {', '.join(missing)}: pip install 'trefoil-transformers[export]'")
    if quantization not in (None, *engine.quantizations):
        known = ", ".join(engine.quantizations) or "none"
        raise UserError(f"{to} has no quantization {quantization!r}; it has {known}")
    require_room(target, source, overwrite, lambda folder: _is_of(engine, folder), engine.name)
    folder = model_folder(source)
    with in_steps(f"exporting {source}", 3) as begin:
        begin("reading the weights")
        model, tokenizer = read_ours(folder)
        if tokenizer is None:
            raise UserError(
                f"{folder}: holds no tokenizer, which {engine.name} wants in its file; put one beside the model"
            )
        begin("converting")
        converted = _to_stock(model, engine, str(folder))
        stock = converted.model
        architecture = stock.config.model_type
        is_stock = architecture in ARCHITECTURES
        converted.notes += name_unknown(tokenizer, architecture) if is_stock else []
        begin(f"writing {target}, and comparing")
        with written_aside(target) as new:
            try:
                converted.notes += engine.write(stock, tokenizer, new, quantization)
            except (UserError, RuntimeError, ValueError, LookupError, AttributeError, AssertionError) as error:
                raise UserError(f"{folder}: not written for {engine.name}: {reason(error)}") from error
            found, expected = engine.outputs(new, stock, tokenizer, _ids(model))
            converted.difference = (found - expected).abs().max().item()
            close = CLOSE[stock.dtype] * expected.abs().max().item()
            if quantization is None and not converted.difference <= close:
                raise UserError(
                    f"{folder}: {engine.name} makes something else of this {type(stock).__name__}: outputs differ by "
                    f"{converted.difference:.1e}" + (f"; export it --to {architecture}" if is_stock else "")
                )
    return converted


def _ids(model: PreTrainedModel) -> list[int]:
    """Random tokens, more than a window holds: not every engine has windows."""
    options = flat_options(model.config).items()
    windows = [size for name, size in options if name.split(".")[-1] == "sliding_window" and size]
    return random_ids(model, 16 + max(windows, default=0))[0].tolist()


def _is_of(engine: Engine, folder: Path) -> bool:
    there = all((folder / name).is_file() for name in engine.marks)
    return there and not set(unexpected_files(folder)) - engine.marks - engine.others


def _to_stock(model: PreTrainedModel, engine: Engine, origin: str) -> Converted:
    """A model as the first architecture of an engine that can express it, or as it is.

    Raises:
        UserError: There is none; the message says why of the one that comes closest.
    """
    if (name := type(model).__name__) not in engine.models:
        others = [to for to, one in ENGINES.items() if name in one.models]
        where = f"it goes --to {' or '.join(others)}" if others else "nor does any other engine"
        raise UserError(f"{origin}: {engine.name} runs no {name}; {where}")
    refusals = []
    for architecture in engine.architectures:
        try:
            converted = to_stock(model, architecture, origin)
            return to_stock(model, architecture, origin) if engine.prepare(model, architecture) else converted
        except UserError as error:
            refusals.append(str(error))
    if name in engine.own:
        return Converted(model, [], 0.0)
    closest = min((one for one in refusals if "has no counterpart" not in one), key=len)
    raise UserError(f"{closest}; no architecture of {engine.name} comes closer")
