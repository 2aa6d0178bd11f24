"""Claim g: a recurrent layer costs O(T·d²), one step after the other, attention O(T²·d), all positions at once (Vaswani et al. 2017,
table 1); what a fused kernel and grouped heads change.

    python -m benchmarks.claims.cost LAYER LENGTH     # one measurement, in a process of its own
"""

import json
import math
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.modeling.attention import MultiHeadAttention
from trefoil.modeling.recurrence import RecurrentLayer

from .draw import Table, panels, save
from .runs import ROOT, Run

WIDTH, HEADS, GROUPS = 256, 8, 2
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
LAYERS = {
    "LSTM": ("lstm", HEADS), "attention": ("eager", HEADS), "attention, sdpa": ("sdpa", HEADS),
    "grouped, sdpa": ("sdpa", GROUPS),
}  # fmt: skip


def runs(multi30k: str | None) -> list[Run]:
    return []


def attention_config(groups: int, implementation: str) -> PreTrainedConfig:
    sizes = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": groups}
    config = trefoil.preset_config("decoder-small", **sizes)
    config._attn_implementation = implementation
    return config


def make_layer(kind: str, groups: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A causal layer, `(1, T, C)` to `(1, T, C)`."""
    torch.manual_seed(0)
    if kind == "lstm":
        recurrent = RecurrentLayer(WIDTH, WIDTH, "lstm", bidirectional=False)
        return lambda states: recurrent(states, states.new_zeros(1, 2, WIDTH))[0]
    config = attention_config(groups, kind)
    attention = MultiHeadAttention(config, 0, is_causal=True)

    def attend(states: torch.Tensor) -> torch.Tensor:
        mask = None  # sdpa's own causal mask: nothing of the size T² is written down
        if kind == "eager":
            mask = torch.ones(states.shape[1], states.shape[1], dtype=torch.bool).tril()[None, None]
        return attention(states, attention_mask=mask)[0]

    return attend


def _peak_memory() -> float:
    """MiB that this process has held at most."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says on Linux begins with the peak of the process that started this one
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii"))
        if found:
            return int(found[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure_one(name: str, length: int) -> dict[str, float]:
    """Seconds and peak memory of a forward and a backward pass over one sequence, on one thread."""
    torch.set_num_threads(1)
    layer = make_layer(*LAYERS[name])

    def step(size: int) -> float:
        states = torch.randn(1, size, WIDTH, requires_grad=True)
        started = time.perf_counter()
        layer(states).sum().backward()
        return time.perf_counter() - started

    step(16)
    before = _peak_memory()
    first = step(length)
    memory = _peak_memory() - before
    repeats = max(3, min(30, int(2 / first)))
    return {"seconds": statistics.median(step(length) for _ in range(repeats)), "mebibytes": memory}


def measure(trained: list[Run]) -> dict[str, Any]:
    """Each layer at each length, interleaved by length, with the exponents of the last three lengths."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in LAYERS}
    for length in LENGTHS:
        for name in LAYERS:
            command = [sys.executable, "-m", "benchmarks.claims.cost", name, str(length)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise UserError(f"{name} at {length} tokens failed: {(done.stderr.splitlines() or ['killed'])[-1]}")
            found[name][str(length)] = json.loads(done.stdout.splitlines()[-1])
    exponents = {name: {what: _exponent(of, what) for what in ("seconds", "mebibytes")} for name, of in found.items()}
    return {"points": found, "exponents": exponents, "cache": _cache_sizes()}


def _exponent(of: dict[str, dict[str, float]], what: str) -> float:
    """The slope of a line through the last three points, on logarithmic axes."""
    lengths = [math.log(int(length)) for length in of][-3:]
    values = [math.log(max(point[what], 1e-3)) for point in of.values()][-3:]
    return statistics.linear_regression(lengths, values).slope


def _cache_sizes() -> dict[str, float]:
    """Mebibytes that one layer keeps to go on from `LENGTHS[-1]` tokens: a state, or keys and values."""
    sizes = {"LSTM": 2 * WIDTH * 4 / 2**20}
    for name, groups in (("attention", HEADS), ("grouped", GROUPS)):
        config = attention_config(groups, "sdpa")
        cache = DynamicCache(config=config)
        attention = MultiHeadAttention(config, 0, is_causal=True)
        attention(torch.zeros(1, LENGTHS[-1], WIDTH), past_key_values=cache)
        sizes[name] = sum(part.nbytes for part in (cache.layers[0].keys, cache.layers[0].values)) / 2**20
    return sizes


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    table = Table(["layer", *(f"{length} tokens" for length in LENGTHS), "time grows as", "memory grows as"])
    for name, of in measured["points"].items():
        exponents = measured["exponents"][name]
        cells = [f"{1000 * point['seconds']:.0f} ms, {point['mebibytes']:.0f} MiB" for point in of.values()]
        table.rows.append([name, *cells, *(f"T^{exponents[what]:.2f}" for what in ("seconds", "mebibytes"))])
    cache = Table([f"kept after {LENGTHS[-1]} tokens", "MiB a layer"])
    cache.rows = [[name, f"{size:.3f}" if size < 0.1 else f"{size:.1f}"] for name, size in measured["cache"].items()]
    return {"cost": table, "cost-cache": cache}


def draw(measured: dict[str, Any]) -> None:
    figure, both = panels(2)
    shown = (("seconds", 1000, "milliseconds", "Time"), ("mebibytes", 1, "MiB", "Peak memory"))
    for axes, (what, scale, unit, title) in zip(both, shown, strict=True):
        for name, of in measured["points"].items():
            points = [(int(length), scale * point[what]) for length, point in of.items() if point[what] > 0]
            grows = f"$T^{{{measured['exponents'][name][what]:.2f}}}$"
            axes.loglog(*zip(*points, strict=True), base=2, label=f"{name}: {grows}")
        axes.set_yscale("log", base=10)
        axes.set(xlabel="tokens T", ylabel=unit, title=f"{title} of one layer, {WIDTH} wide, both passes",
                 xticks=LENGTHS, xticklabels=[f"{length:,}" for length in LENGTHS])  # fmt: skip
        axes.legend(fontsize=8)
    save(figure, "cost")


if __name__ == "__main__":
    print(json.dumps(measure_one(sys.argv[1], int(sys.argv[2]))))
