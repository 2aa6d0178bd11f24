"""`trefoil doctor`, or `python -m trefoil.doctor`: what is installed, what a command would use, and what to mend."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from .configuration.version import __version__

PACKAGE = "trefoil-transformers"
GIGABYTE = 2**30
LITTLE_MEMORY = LITTLE_DISK = 2.0  # GB, with which the smallest models are trained
LITTLE_SHARED = 0.25  # GB, with which worker processes can hand batches over
FOR_DEVELOPERS = ("test", "lint", "ecosystem", "docs")


def examine() -> dict[str, Any]:
    """All that is found, as JSON can say it; `warnings` are lines, each with its remedy."""
    found: dict[str, Any] = {
        "versions": _versions(),
        "processor": _processor(),
        "gpus": _gpus(),
        "memory": _memory(),
        "disk": _disk(),
        "extras": _extras(),
        "used": _used(),
    }
    return found | {"warnings": _warnings(found)}


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The same for a person to read."""
    cpu, memory, disk, used = found["processor"], found["memory"], found["disk"], found["used"]
    gpus = [
        f"{gpu['name']}, {gpu['gigabytes']:.0f} GB, compute capability {gpu['capability']}" for gpu in found["gpus"]
    ]
    free = (
        f"{memory['available']:.1f} GB free of {memory['total']:.1f} GB" if memory else "psutil, of [train], would tell"
    )
    lines = [
        "versions    " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        f"processor   {cpu['name']}: {cpu['cores']} cores, of which torch uses {cpu['threads']}; {', '.join(cpu['instructions'])}",
        f"GPUs        {'; '.join(gpus) or 'none'}",
        f"memory      {free}",
        f"disk        {disk['free']:.1f} GB free at {disk['cache']}, where downloads and token ids are kept",
    ]
    for name, extra in found["extras"].items():
        missing = f"without {', '.join(extra['missing'])}" if extra["missing"] else "installed"
        lines.append(f"[{name}]".ljust(12) + missing)
    lines.append(f"would use   {', '.join(f'{key} {value}' for key, value in used.items())}")
    return lines + [f"warning: {line}" for line in found["warnings"]]


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "huggingface_hub", "safetensors", "tokenizers", "accelerate", "datasets", "peft")
    known = {name: version for name in names if (version := _version(name)) is not None}
    return {"trefoil": __version__, "Python": platform.python_version(), "system": platform.platform(), **known}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    import torch

    of_torch = torch.backends.cpu.get_cpu_capability()
    more: dict[str, Callable[[], bool]] = {
        "bf16 (AVX-512)": torch.cpu._is_avx512_bf16_supported,
        "bf16 (AMX)": torch.cpu._is_amx_tile_supported,
    }
    instructions = [of_torch, *(name for name, is_there in more.items() if is_there())]
    return {
        "name": _processor_name(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "instructions": instructions,
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[dict[str, Any]]:
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        of_gpu = torch.cuda.get_device_properties(index)
        capability = f"{of_gpu.major}.{of_gpu.minor}"
        gpus.append({"name": of_gpu.name, "gigabytes": of_gpu.total_memory / GIGABYTE, "capability": capability})
    return gpus


def _memory() -> dict[str, float] | None:
    """In GB; a container's own bounds are not looked at. None where nothing is installed that tells."""
    try:
        import psutil
    except ModuleNotFoundError:
        return None
    memory = psutil.virtual_memory()
    return {"total": memory.total / GIGABYTE, "available": memory.available / GIGABYTE}


def _disk() -> dict[str, Any]:
    from huggingface_hub.constants import HF_HOME

    there = next(place for place in (Path(HF_HOME), *Path(HF_HOME).parents) if place.exists())
    return {"cache": HF_HOME, "free": shutil.disk_usage(there).free / GIGABYTE}


def _extras() -> dict[str, dict[str, list[str]]]:
    """Of each extra that users install, what is there and what is missing, or of a version that does not fit."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:  # code that lies somewhere and is not installed
        return {}
    extras: dict[str, dict[str, list[str]]] = {"base": {"installed": [], "missing": []}}
    for one in map(Requirement, lines):
        extra = str(one.marker).partition('extra == "')[2].rstrip('"') or "base"
        if extra in FOR_DEVELOPERS or one.name == PACKAGE:
            continue
        version = _version(one.name)
        fits = version is not None and one.specifier.contains(version, prereleases=True)
        of_extra = extras.setdefault(extra, {"installed": [], "missing": []})
        of_extra["installed" if fits else "missing"].append(f"{one.name}{f' {version}' if fits else one.specifier}")
    return extras


def _used() -> dict[str, str]:
    import torch
    from transformers.utils import is_flash_attn_2_available

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    attention = "sdpa (flash_attention_2 may be chosen)" if is_flash_attn_2_available() else "sdpa"
    used = {"device": device, "attention": attention}
    try:
        from .training.precision import fastest
    except ModuleNotFoundError:
        return used
    return {"device": device, "mixed precision": fastest(), "attention": attention}


def _warnings(found: Mapping[str, Any]) -> list[str]:
    cpu, extras = found["processor"], found["extras"]
    warnings = []
    if not found["gpus"] and (Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi")):
        warnings.append(
            "there is a GPU of NVIDIA's, but this torch cannot use it: install the build for its driver, see pytorch.org"
        )
    if cpu["threads"] < cpu["cores"] and not found["gpus"]:
        limit = os.environ.get("OMP_NUM_THREADS")
        cause = f"OMP_NUM_THREADS={limit}; unset it" if limit else f"set OMP_NUM_THREADS={cpu['cores']}"
        warnings.append(f"torch uses {cpu['threads']} of {cpu['cores']} cores: {cause}")
    if found["used"].get("mixed precision") == "no":
        warnings.append("bf16 would be slow here: leave training.mixed_precision=auto, which computes in float32")
    if found["memory"] and found["memory"]["available"] < LITTLE_MEMORY:
        warnings.append("little memory is free: end other programs, or set batches.tokens_per_device=1024")
    if found["disk"]["free"] < LITTLE_DISK:
        warnings.append(f"the disk is almost full: set HF_HOME to a place with more room than {found['disk']['cache']}")
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).total < LITTLE_SHARED * GIGABYTE:
        warnings.append("little shared memory, which batches.workers needs: docker run --shm-size=1g")
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        warnings.append("HF_HUB_OFFLINE is set, so nothing comes from the Hub: unset it, unless that is meant")
    if not extras:
        warnings.append(f"{PACKAGE} is not installed, only its code is here: pip install . in a checkout")
    elif wrong := extras["base"]["missing"]:
        warnings.append(f"there is no {', '.join(wrong)}: pip install {' '.join(map(repr, wrong))}")
    return warnings


def main() -> int:
    print("\n".join(lines_of(examine())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
