"""Checkpoints: complete or absent, safetensors and JSON only, with everything that the next step depends on.

A checkpoint is a folder `step-00001000`. Where the model is whole on a process, it holds the model as `save_pretrained`
writes it (with adapters `trained.safetensors`, since all else is in `model.init_from`) and `optimizer.safetensors`; where it lies
in parts, a file of each process's part (torch.distributed.checkpoint). Both are read alike, by a run with as many processes or
others and with whichever engine. `state.json` says the rest, and `manifest.json` the checksum of every file. Random numbers need
no state: they are drawn from (seed, step, rank).
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.distributed import checkpoint as distributed
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from ..configuration.errors import UserError, reason

OPTIMIZER_FILE, STATE_FILE, CONFIG_FILE = "optimizer.safetensors", "state.json", "config.json"
TRAINED_FILE = "trained.safetensors"
MANIFEST_FILE = "manifest.json"


def checkpoint_folders(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def has_adapters(model: torch.nn.Module) -> bool:
    return getattr(model, "_hf_peft_config_loaded", False)


def held_weights(model: torch.nn.Module) -> dict[str, Any]:
    """The weights that a checkpoint of a model holds, by name: all of them, but with adapters those that are trained."""
    weights: dict[str, Any] = get_model_state_dict(model)
    bare = getattr(model, "module", model)
    if not has_adapters(bare):
        return weights
    return {name: weights[name] for name, parameter in bare.named_parameters() if parameter.requires_grad}


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def is_planned(checkpoint: Path) -> bool:
    """Whether the recipe asked for a checkpoint at this step, rather than somebody who stopped the run there."""
    try:
        return load_state(checkpoint).get("planned", True)
    except UserError:  # nobody can tell, or go on from it
        return False


def to_average(checkpoints: list[Path], count: int) -> list[Path]:
    """The newest of the checkpoints and those before it that were planned, `count` in all: the same, however often the run was
    interrupted."""
    return [*filter(is_planned, checkpoints[:-1]), *checkpoints[-1:]][-count:]


def first_names(model: torch.nn.Module) -> dict[str, str]:
    """Of each name of a parameter, the first that the same parameter has: tied weights have several."""
    firsts = {id(parameter): name for name, parameter in model.named_parameters()}
    return {name: firsts[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}


def optimizer_tensors(optimizer_state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Moments and the like, by `PARAMETER.NAME`."""
    return {
        f"{parameter}.{name}": tensor
        for parameter, values in optimizer_state["state"].items()
        for name, tensor in values.items()
    }


def latest_checkpoint(folder: Path, tell: Callable[[str], object] = lambda line: None) -> Path | None:
    """The newest checkpoint that is whole.

    Args:
        tell: Gets a line for each newer one that is not.

    Raises:
        UserError: There are some, and none is whole.
    """
    found = checkpoint_folders(folder)[::-1]
    for checkpoint in found:
        try:
            require_whole(checkpoint)
        except UserError as error:
            if checkpoint is found[-1]:
                raise UserError(f"{error}, and no other is whole; delete {folder} to begin anew") from None
            tell(f"{error}; going on from the one before it")
            continue
        return checkpoint
    return None


def require_whole(checkpoint: Path) -> None:
    """Raises a UserError where a file of a checkpoint is not there, or not what it was when it was written."""
    if not (checkpoint / MANIFEST_FILE).exists():
        _require_readable(checkpoint)
        return
    _require_file(checkpoint / MANIFEST_FILE)
    for name, written in json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8")).items():
        try:
            found = _checksum(checkpoint / name)
        except FileNotFoundError:
            raise UserError(f"{checkpoint}: {name} is missing") from None
        except OSError as error:
            raise UserError(f"{checkpoint}: {name} is damaged ({reason(error)})") from None
        if found != written:
            raise UserError(f"{checkpoint}: {name} is damaged (its checksum is not the one with which it was written)")


def write_manifest(checkpoint: Path) -> None:
    """Write down the checksum of each file of a checkpoint."""
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.name != MANIFEST_FILE)
    checksums = {file.relative_to(checkpoint).as_posix(): _checksum(file) for file in files}
    (checkpoint / MANIFEST_FILE).write_text(json.dumps(checksums, indent=0), encoding="utf-8")


def _checksum(file: Path) -> str:
    import xxhash  # not installed where models are only used

    checksum = xxhash.xxh3_128()
    with file.open("rb") as content:
        while part := content.read(2**22):
            checksum.update(part)
    return checksum.hexdigest()


def _require_readable(checkpoint: Path) -> None:
    """The same of a checkpoint from before there was a manifest, as far as can be told."""
    state = load_state(checkpoint)
    files = state.get("files", {})
    needed = [CONFIG_FILE, *(files or ("model.safetensors", OPTIMIZER_FILE))]  # before 0.2 they were not listed
    there = [file.name for kind in ("json", "safetensors") for file in checkpoint.glob(f"*.{kind}")]
    for name in dict.fromkeys(needed + there):
        _require_file(checkpoint / name, files.get(name))


def _require_file(file: Path, size: int | None = None) -> None:
    if not file.is_file():
        raise UserError(f"{file.parent}: {file.name} is missing")
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        else:
            with safe_open(file, framework="pt"):  # the header, and that the file is as long as it says
                pass
        if size is not None and file.stat().st_size != size:
            raise ValueError(f"{file.stat().st_size} bytes, not {size}")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{file.parent}: {file.name} is damaged ({reason(error)})") from None


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The numbers of a checkpoint: its step, what it was given as `state`, and what the optimisers' groups say.

    Raises:
        UserError: They are missing or damaged.
    """
    file = checkpoint / STATE_FILE
    _require_file(file)
    state = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(state, dict) or not {"step", "optimizer"} <= state.keys():
        raise UserError(f"{checkpoint}: {file.name} is no state of a checkpoint")
    return state


def load_weights(checkpoint: Path, model: torch.nn.Module) -> None:
    """Restore the weights of a model, or of the parts of it that lie on this process.

    Raises:
        UserError: The checkpoint is of another model.
    """
    stored = _stored(checkpoint)
    _read(checkpoint, stored, _weights(stored, model))


def load_checkpoint(checkpoint: Path, model: torch.nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Restore a prepared model and its optimisers, each process its part. Every process calls this.

    Raises:
        UserError: The checkpoint was written by another optimiser or for another model.
    """
    expected: dict[str, Any] = get_optimizer_state_dict(model, optimizers)
    stored = _stored(checkpoint)
    _read(checkpoint, stored, _weights(stored, model) | optimizer_tensors(expected))
    groups = load_state(checkpoint)["optimizer"]
    for group, here in zip(groups, expected["param_groups"], strict=True):
        group |= {key: tuple(value) for key, value in group.items() if key == "betas"}
        group |= {key: here[key] for key in here if key == "fused"}  # which is the engine's, not the checkpoint's
    expected["param_groups"] = groups
    set_optimizer_state_dict(model, optimizers, expected)


def load_tensors(checkpoint: Path, wanted: dict[str, torch.Tensor]) -> None:
    """Read some of a checkpoint's tensors into `wanted`.

    Raises:
        UserError: There are none of these names and sizes.
    """
    _read(checkpoint, _stored(checkpoint), wanted)


def _weights(stored: dict[str, Any], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's weights by the names that they have in the checkpoint, where what is tied is stored once."""
    weights = held_weights(model)
    firsts = first_names(getattr(model, "module", model))
    there = {firsts.get(name, name): name for name in weights if name in stored}
    return {there.get(name, name): weights[name] for name in weights if firsts.get(name, name) == name}


def _stored(checkpoint: Path) -> dict[str, Any]:
    """What tensors there are, by name: their sizes and types."""
    return HuggingFaceStorageReader(str(checkpoint)).read_metadata().state_dict_metadata


def _read(checkpoint: Path, stored: dict[str, Any], wanted: dict[str, torch.Tensor]) -> None:
    """Read tensors into `wanted`, of a tensor that lies in parts this process's."""
    for name, tensor in sorted(wanted.items()):
        if name not in stored or stored[name].size != tensor.size():
            raise UserError(f"{checkpoint}: does not fit this model and optimiser (first key: {name})")
    with warnings.catch_warnings():  # of reading without the other processes, which is what is wanted
        warnings.simplefilter("ignore")
        reader = HuggingFaceStorageReader(str(checkpoint))
        distributed.load(dict(wanted), storage_reader=reader, no_dist=True)


def average_weights(checkpoints: list[Path], model: torch.nn.Module) -> None:
    """Give a model the mean of the checkpoints' weights, summed in float64."""
    sums: dict[str, torch.Tensor] = {}
    for checkpoint in checkpoints:
        load_weights(checkpoint, model)
        for name, tensor in model.state_dict().items():
            sums[name] = sums.get(name, 0) + tensor.double()
    for name, tensor in model.state_dict().items():
        tensor.copy_(sums[name] / len(checkpoints))
