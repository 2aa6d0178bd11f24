"""Run as a script with `python -I`: loads a published folder where only transformers and torch can be imported.

It knows nothing of the package but what the folder holds. `check.py` starts it, gives it the same inputs as the model
loaded from the installed package, and compares the outputs.
"""

import importlib
import importlib.abc
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# The pipelines of transformers itself, for heads that it has one for: Auto class → task.
STOCK_PIPELINES = {
    "AutoModel": "feature-extraction",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
}
AGGREGATION_STRATEGIES = ("none", "simple", "first", "average", "max")
TEXT = "one two three"
LOADED = "loaded.txt"  # has a line for each thing that was tried


def load_and_run(auto_class: str, model: str, trust_remote_code: bool) -> dict[str, Any]:
    """A model's outputs for fixed inputs: name → tensor. Heads that the weights lack are drawn from a fixed seed."""
    import torch
    import transformers

    torch.manual_seed(0)
    loaded = getattr(transformers, auto_class).from_pretrained(model, trust_remote_code=trust_remote_code).eval()
    with torch.no_grad():
        outputs = loaded(**fixed_inputs(loaded.config))
    return {name: value.contiguous() for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def fixed_inputs(config: Any) -> dict[str, Any]:
    """Two sequences, the second padded, of ids that every vocabulary of the model has."""
    import torch

    parts = [getattr(config, name) for name in config.sub_configs] or [config]
    vocab_size = min(part.vocab_size for part in parts if hasattr(part, "vocab_size"))
    length = min(8, *(getattr(part, "max_position_embeddings", 8) for part in parts))
    input_ids = (torch.arange(2 * length).view(2, length) * 7 + 3) % vocab_size
    if hasattr(parts[0], "image_size"):
        return {"pixel_values": fixed_pictures(parts[0]), "decoder_input_ids": input_ids}
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, length // 2 :] = 0
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = input_ids.flip(1)
    return inputs


def fixed_pictures(config: Any) -> Any:
    """Two, of the size that a vision encoder reads."""
    import torch

    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = 2, config.num_channels, height, width
    return torch.linspace(-1, 1, 2 * config.num_channels * height * width).view(shape)


class _Blocked(importlib.abc.MetaPathFinder):
    """Hides the package. An isolated interpreter still sees what is installed into its environment."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"{fullname} is hidden from this process", name=fullname)


def _isolate(package: str) -> None:
    sys.meta_path.insert(0, _Blocked(package))
    try:
        importlib.import_module(package)
    except ModuleNotFoundError:
        pass
    else:
        raise RuntimeError(f"{package} can be imported, so this process proves nothing")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("this process has no network")

    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, refuse)
    socket.getaddrinfo = refuse  # type: ignore[assignment]


def run_pipeline(task: str, model: str) -> None:
    """Makes a pipeline and calls it in the ways that its task knows.

    Raises:
        TypeError: An answer is neither a list nor a dict.
    """
    from transformers import TextStreamer, pipeline

    pipe = pipeline(task, model=model, trust_remote_code=True, device="cpu")
    calls: list[tuple[Any, dict[str, Any]]] = [(TEXT, {})]
    if task in ("translation", "summarization"):
        one = getattr(pipe, "languages", [])[:1]
        calls = [(TEXT, {"max_new_tokens": 4} | ({"tgt_lang": one[0]} if one else {}))]
    elif task == "text-generation":
        calls = [
            (TEXT, {"max_new_tokens": 4, "streamer": streamer}) for streamer in (None, TextStreamer(pipe.tokenizer))
        ]
    elif task == "question-answering":
        calls = [({"question": TEXT, "context": TEXT}, {"top_k": top_k}) for top_k in (1, 2)]
    elif task == "fill-mask":
        calls = [(TEXT + pipe.tokenizer.mask_token, {})]
    elif task == "token-classification":
        calls = [(TEXT, {"aggregation_strategy": strategy}) for strategy in AGGREGATION_STRATEGIES]
    elif task == "zero-shot-classification":
        calls = [(TEXT, {"candidate_labels": TEXT.split()})]
    for inputs, options in calls:
        answer = pipe(inputs, **options)
        if not isinstance(answer, list | dict):
            raise TypeError(f"expected a list or a dict, got {answer!r}")


def _load_tokenizer(model: str) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(model, trust_remote_code=False)(TEXT)


def _caption(model: str) -> None:
    """Says what is in a picture, as the card shows."""
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    image_processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    loaded = AutoModelForImageTextToText.from_pretrained(model, trust_remote_code=True)
    pixel_values = image_processor(Image.new("RGB", (64, 48), "red"), return_tensors="pt").pixel_values
    tokenizer.decode(loaded.generate(pixel_values, max_new_tokens=4)[0], skip_special_tokens=True)


def tasks_of(config: dict[str, Any]) -> list[str]:
    """The pipelines that fit the head whose weights a folder holds, by its `config.json`."""
    architecture = (config.get("architectures") or [""])[0]
    heads = [name for name, place in config["auto_map"].items() if place.endswith(f".{architecture}")]
    custom = config.get("custom_pipelines", {})
    tasks = [task for task, entry in custom.items() if set(entry["pt"]) & set(heads)]
    tasks += [STOCK_PIPELINES[head] for head in heads if head in STOCK_PIPELINES]
    if "text-classification" in tasks and any(
        label.lower().startswith("entail") for label in config.get("label2id", {})
    ):
        tasks.append("zero-shot-classification")
    return tasks


def _end_with_parent() -> None:
    """Ends this process when standard input does: a pipe that only the process has which started this one."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(package: str, folder: str, repo_id: str, output_folder: str, num_threads: str) -> None:
    """Loads the folder by its path and as `repo_id` from the Hub's cache, and writes `report.json` and the outputs."""
    _end_with_parent()
    _isolate(package)
    import torch
    from safetensors.torch import save_file

    # The order of summation, and so the last bit, depends on the number of threads.
    torch.set_num_threads(int(num_threads))
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    has_tokenizer = any(Path(folder, name).exists() for name in ("tokenizer.json", "tokenizer_config.json"))
    report: dict[str, str | None] = {}
    tensors: dict[str, Any] = {}
    loaded = Path(output_folder, LOADED)

    def attempt(name: str, action: Callable[[], Any]) -> Any:
        with loaded.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        try:
            result = action()
        except Exception as error:
            report[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return None
        report[name] = None
        return result

    for place, model in (("folder", folder), ("Hub cache", repo_id)):
        for auto_class in config["auto_map"]:
            name = f"{auto_class} from {place}"
            if auto_class == "AutoConfig":
                from transformers import AutoConfig

                attempt(name, partial(AutoConfig.from_pretrained, model, trust_remote_code=True))
                continue
            outputs = attempt(name, partial(load_and_run, auto_class, model, trust_remote_code=True))
            for key, tensor in (outputs or {}).items():
                tensors[f"{name}: {key}"] = tensor
        if has_tokenizer:
            attempt(f"tokenizer from {place}", partial(_load_tokenizer, model))
            for task in tasks_of(config):
                attempt(f"pipeline {task} from {place}", partial(run_pipeline, task, model))
        if has_tokenizer and Path(folder, "preprocessor_config.json").exists():
            attempt(f"captions from {place}", partial(_caption, model))
    save_file(tensors, os.path.join(output_folder, "outputs.safetensors"))
    Path(output_folder, "report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
