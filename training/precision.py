"""In which precision a run computes, where its recipe and `accelerate launch` both have a say."""

import importlib.util
import os
import platform

import torch
from accelerate.utils import AORecipeKwargs, KwargsHandler

from ..configuration.errors import UserError
from ..data.progress import say
from ..recipes.schema import TrainingRecipe

KNOWN = ("no", "bf16", "fp16", "fp8")  # to the launcher


def mixed_precision(recipe: TrainingRecipe) -> str:
    """The recipe's, or else the launcher's.

    Raises:
        UserError: They disagree, the launcher's is one that recipes do not have, or nothing here can compute in it.
    """
    asked: str | None = recipe.mixed_precision
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked == "auto":
        asked = fastest() if launched == "no" else None
    if launched not in KNOWN:
        raise UserError(f"accelerate launch --mixed_precision {launched}: a run's is one of {', '.join(KNOWN)}")
    # the launcher says no also where nobody asked it
    if asked is not None and launched not in ("no", asked):
        raise UserError(
            f"training.mixed_precision={asked!r}, but accelerate launch was given --mixed_precision {launched}; give both "
            "the same, or one of them"
        )
    chosen = asked or launched
    if chosen == "fp8":
        _require_fp8()
    if chosen == "tf32":
        _require_tf32()
    if chosen == "bf16" and not torch.cuda.is_available() and fastest() == "no" and os.environ.get("RANK", "0") == "0":
        say(
            f"mixed precision bf16: {_device()} without instructions for it is many times as slow as in float32; set auto"
        )
    return chosen


def fastest() -> str:
    """bf16, where the device has instructions for products of such matrices; without them, on a CPU with AVX2, they took fifty
    times as long as float32's."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if platform.machine().lower() in ("x86_64", "amd64"):
        has_them = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        has_them = _mkldnn_has_bf16()
    return "bf16" if has_them else "no"


def _mkldnn_has_bf16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def accelerates(precision: str | None) -> str | None:
    """What accelerate is told of a precision, and torch, on which the rest depends: matrix products of float32 round their
    factors to TF32, all with `tf32`, and with a precision of 16 or 8 bits those that stay in float32."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = precision not in (None, "no")
    return "no" if precision == "tf32" else precision


def _require_tf32() -> None:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        raise UserError(f"mixed precision tf32: {_device()} cannot, Ampere and later can; use no")


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"


def _require_fp8() -> None:
    if importlib.util.find_spec("torchao") is None:
        raise UserError("mixed precision fp8 needs torchao: pip install torchao")
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9):
        raise UserError(f"mixed precision fp8: {_device()} cannot, Ada, Hopper and later can; use bf16")


def recipe_handlers(precision: str | None) -> list[KwargsHandler]:
    """What accelerate is told of fp8: that weights stay the parameters that they are."""
    return [AORecipeKwargs(enable_fsdp_float8_all_gather=False)] if precision == "fp8" else []
