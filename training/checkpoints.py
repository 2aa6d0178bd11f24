"""Checkpoints: complete or absent, safetensors and JSON only, with everything that the next step depends on.

A checkpoint is a folder `step-00001000` that holds the model as `save_pretrained` writes it, `optimizer.safetensors`,
and `state.json`. Random numbers need no state: they are drawn from (seed, step, rank).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..configuration.errors import UserError, reason
from ..data.whole_files import remove, write_folder

OPTIMIZER_FILE, STATE_FILE, CONFIG_FILE = "optimizer.safetensors", "state.json", "config.json"
# not flattened: torch 2.13 cannot load back the full state that it flattened itself
ON_MAIN_PROCESS = StateDictOptions(full_state_dict=True, cpu_offload=True)
ON_EVERY_PROCESS = StateDictOptions(full_state_dict=True)


def checkpoint_folders(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def save_checkpoint(
    folder: Path,
    step: int,
    save_model: Callable[[Path], None],
    model: torch.nn.Module,
    optimizers: list[torch.optim.Optimizer],
    state: dict[str, Any],
    keep: int,
    is_main_process: bool,
) -> None:
    """Write the checkpoint of `step` and delete all but the `keep` newest. Every process calls this."""
    optimizer_state: dict[str, Any] = get_optimizer_state_dict(model, optimizers, options=ON_MAIN_PROCESS)
    if not is_main_process:
        return
    groups = optimizer_state["param_groups"]

    def fill(aside: Path) -> None:
        save_model(aside)
        tensors = _tensors(optimizer_state)
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, aside / OPTIMIZER_FILE)
        (aside / STATE_FILE).write_text(json.dumps({**state, "step": step, "optimizer": groups}), encoding="utf-8")

    write_folder(folder / f"step-{step:08}", fill)
    for old in checkpoint_folders(folder)[:-keep]:
        remove(old)


def _tensors(optimizer_state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Moments and the like, by `PARAMETER.NAME`."""
    return {
        f"{parameter}.{name}": tensor
        for parameter, values in optimizer_state["state"].items()
        for name, tensor in values.items()
    }


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint.

    Raises:
        UserError: A file of it is missing or damaged.
    """
    found = checkpoint_folders(folder)
    if not found:
        return None
    checkpoint = found[-1]
    for name in (OPTIMIZER_FILE, STATE_FILE, CONFIG_FILE):
        if not (checkpoint / name).is_file():
            raise _refusal(checkpoint / name, "is missing")
    load_state(checkpoint)
    if missing := [name for name in _weight_files(checkpoint) if not (checkpoint / name).is_file()]:
        raise _refusal(checkpoint / missing[0], "is missing")
    for file in [*checkpoint.glob("*.json"), *checkpoint.glob("*.safetensors")]:
        _require_whole(file)
    return checkpoint


def _weight_files(checkpoint: Path) -> list[str]:
    """Those of the model: one, or as many as its index names."""
    index = checkpoint / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        return [SAFE_WEIGHTS_NAME]
    _require_whole(index)
    return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))


def _require_whole(file: Path) -> None:
    """Raises a UserError where a file of a checkpoint is not what it was when it was written."""
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        else:
            with safe_open(file, framework="pt"):  # the header, and that the file is as long as it says
                pass
    except (OSError, ValueError, SafetensorError) as error:
        raise _refusal(file, f"is damaged ({reason(error)})") from None


def _refusal(file: Path, why: str) -> UserError:
    return UserError(f"{file.parent}: {file.name} {why}, so the run cannot go on from it; delete this folder")


def load_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `state`.

    Raises:
        UserError: It is damaged.
    """
    file = checkpoint / STATE_FILE
    _require_whole(file)
    state = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(state, dict) or not {"step", "optimizer"} <= state.keys():
        raise _refusal(file, "is no state of a checkpoint")
    return state


def load_optimizers(checkpoint: Path, model: torch.nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Restore the optimisers of a prepared model. Every process calls this, and takes its own part of each tensor.

    Raises:
        UserError: The checkpoint was written by another optimiser or for another model.
    """
    tensors = load_file(checkpoint / OPTIMIZER_FILE)
    # as it lies on each process: the shape of a part of a sharded tensor is that of the whole
    expected: dict[str, Any] = get_optimizer_state_dict(model, optimizers)
    shapes, expected_shapes = (
        {key: tensor.shape for key, tensor in each.items()} for each in (tensors, _tensors(expected))
    )
    if shapes != expected_shapes:
        key = min(key for key in shapes | expected_shapes if shapes.get(key) != expected_shapes.get(key))
        raise UserError(f"{checkpoint / OPTIMIZER_FILE}: does not fit this model and optimiser (first key: {key})")
    state: dict[str, Any] = {"state": {}, "param_groups": load_state(checkpoint)["optimizer"]}
    for key, tensor in tensors.items():
        parameter, _, name = key.rpartition(".")
        state["state"].setdefault(parameter, {})[name] = tensor
    for group in state["param_groups"]:
        group |= {key: tuple(value) for key, value in group.items() if key == "betas"}
    set_optimizer_state_dict(model, optimizers, state, options=ON_EVERY_PROCESS)


def average_weights(checkpoints: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of the checkpoints' weights, summed in float64 and returned in their own dtype."""
    sums: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for checkpoint in checkpoints:
        for file in sorted(checkpoint.glob("model*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                for key in weights.keys():  # noqa: SIM118
                    tensor = weights.get_tensor(key)
                    dtypes[key] = tensor.dtype
                    sums[key] = sums.get(key, 0) + tensor.double()
    return {key: (total / len(checkpoints)).to(dtypes[key]) for key, total in sums.items()}
