"""Reading stock checkpoints: what is in them, and what of it does not fit together."""

import inspect
import os
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ..configuration.errors import UserError, reason
from ..training.strangers import read_json, require_loadable, require_own_files
from .architectures import ARCHITECTURES, Architecture
from .stock_config import compare_fields, our_config

WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "additional_chat_templates/*")

# what wrong values in a configuration raise, depending on the class
INVALID = (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError, AssertionError, ZeroDivisionError)


def local_folder(source: str | os.PathLike) -> Path:
    """The folder itself, or the copy of a Hub repository: its configuration, safetensors weights and tokenizer.

    Raises:
        UserError: There is no such folder, and no such repository can be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not str(source) or folder.is_absolute() or len(folder.parts) > 2 or str(source)[0] in ".~":
        raise UserError(f"{source}: there is no such folder")
    try:
        return Path(snapshot_download(str(source), allow_patterns=list(WANTED)))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        message = f"{source}: there is no such folder, nor can it be read from the Hub: {reason(error)}"
        raise UserError(message) from error


def load_stock(folder: Path, origin: str) -> tuple[PreTrainedModel, list[str]]:
    """A stock checkpoint as its own class, every weight of which was there and fitted.

    Args:
        folder: Its folder.
        origin: What messages call it.

    Returns:
        The model, and notes on what of the checkpoint was left behind.

    Raises:
        UserError: It is of no known architecture, or does not load whole.
    """
    require_own_files(folder)
    require_loadable(folder)
    config = _read_config(folder, origin)
    architecture = ARCHITECTURES[config.model_type]
    model_class = getattr(transformers, _stock_class(config, architecture, origin))
    try:
        compare_fields(architecture, config, our_config(architecture, config, {}, origin), origin)
    except INVALID as error:
        raise UserError(f"{origin}: config.json does not describe a {config.model_type}: {reason(error)}") from error
    if (folder / "generation_config.json").is_file():
        read_json(folder / "generation_config.json")
    dtype, notes = _stored_dtype(folder, origin)
    try:
        model, report = model_class.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, ignore_mismatched_sizes=True,
            output_loading_info=True, trust_remote_code=False,
        )  # fmt: skip
    except (OSError, RuntimeError, ImportError, SafetensorError, *INVALID) as error:
        raise UserError(f"{origin}: the model does not load: {reason(error)}") from error
    if mismatched := sorted(map(str, report["mismatched_keys"])):
        raise UserError(f"{origin}: shapes do not fit config.json: {some(mismatched)}")
    missing = sorted(name for name in report["missing_keys"] if not architecture.is_computed(name))
    if missing and has_optional_pooler(model_class) and all(name.startswith("pooler.") for name in missing):
        model.pooler = None
    elif missing:
        raise UserError(f"{origin}: weights are missing: {some(missing)}")
    left = sorted(report["unexpected_keys"])
    if unknown := [name for name in left if not name.startswith(_leftovers(architecture, model_class))]:
        raise UserError(f"{origin}: weights that {model_class.__name__} does not have: {some(unknown)}")
    if left:
        notes.append(f"left behind, since {model_class.__name__} does not have them: {some(left)}")
    return model, notes


def has_optional_pooler(stock_class: type[PreTrainedModel]) -> bool:
    return "add_pooling_layer" in inspect.signature(stock_class.__init__).parameters


def some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _read_config(folder: Path, origin: str) -> PreTrainedConfig:
    if not (folder / "config.json").is_file():
        raise UserError(f"{origin}: there is no config.json")
    raw = read_json(folder / "config.json")
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if str(model_type).startswith("trefoil_"):
        raise UserError(f"{origin}: is a Trefoil model already")
    if model_type not in ARCHITECTURES:
        raise UserError(f"{origin}: model_type {model_type!r} is not one of {', '.join(ARCHITECTURES)}")
    if method := (raw.get("quantization_config") or {}).get("quant_method"):
        raise UserError(f"{origin}: is quantised ({method}); import the checkpoint that it was made from")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, *INVALID) as error:
        raise UserError(f"{origin}: config.json does not describe a {model_type}: {reason(error)}") from error


def _stock_class(config: PreTrainedConfig, architecture: Architecture, origin: str) -> str:
    known = [name for name, _ in architecture.heads.values()]
    given = config.architectures or []
    named = given if isinstance(given, str) else next(iter(given), None)
    if named is None:
        raise UserError(f"{origin}: config.json names no architecture; set architectures to one of {', '.join(known)}")
    named = architecture.aliases.get(named, named)
    if named not in known:
        raise UserError(f"{origin}: there is no counterpart of {named}; there is one of {', '.join(known)}")
    return named


def _leftovers(architecture: Architecture, model_class: type[PreTrainedModel]) -> tuple[str, ...]:
    """Beginnings of names that another class of the architecture has, or one that is not among them."""
    own = next(names for name, names in architecture.heads.values() if name == model_class.__name__)
    kept = [start for start in architecture.leftovers if not any(name.startswith(start) for name in own)]
    return tuple(kept) or ("\0",)


def _stored_dtype(folder: Path, origin: str) -> tuple[torch.dtype, list[str]]:
    """The narrowest type that holds all weights as they are stored, whatever the configuration says."""
    names = set()
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as weights:
                names |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: cannot be read: {reason(error)}") from error
    if not names:
        raise UserError(
            f"{origin}: holds no safetensors weights, and nothing else is read; write them with "
            "model.save_pretrained, or take a checkpoint that has model.safetensors"
        )
    kinds = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
    floating = sorted(names & kinds.keys())
    dtype = torch.float32
    if len(floating) == 1:
        dtype = kinds[floating[0]]
    elif "F64" in floating:
        dtype = torch.float64
    notes = [f"weights of several types ({', '.join(floating)}) are all kept as {dtype}"] if len(floating) > 1 else []
    return dtype, notes
