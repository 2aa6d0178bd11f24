"""What was measured: lines as it comes, then tables, numbers and a picture for docs/performance.md."""

import json
import platform
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.ticker import NullLocator

from trefoil.training.throughput import matmul_speed

from ..claims.draw import COLORS, plt, save_picture, write_table
from .contest import Contest, Outcome

# dense bfloat16 with sums in float32, in operations a second, as NVIDIA's data sheets say them; by the names that devices say
PUBLISHED_PEAKS = {
    "NVIDIA H200": 989e12, "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 NVL": 835e12, "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA A100-SXM4-40GB": 312e12, "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12, "NVIDIA L40S": 362e12, "NVIDIA L4": 121e12, "NVIDIA GeForce RTX 4090": 165e12,
    "NVIDIA GeForce RTX 3090": 71e12,
}  # fmt: skip

SPEED = "| work | peer | ours, ms | theirs, ms | ours : theirs | quartiles | tokens/s, ours | of matrix speed |"
HEADERS = {
    "memory": "| work | peer | ours, MB | theirs, MB | ours : theirs |",
    "load": "| start | |",
    "growth": "| what changes | time of a step | exponent |",
    "padding": "| data | ours | Trainer, 8 rows | Trainer, 128 rows | by length, 8 rows | by length, 64 rows |",
}


def table(header: str, rows: list[str]) -> str:
    columns = header.count("|") - 1
    return "\n".join([header, "|---" * min(columns, 2) + "|---:" * max(columns - 2, 0) + "|", *rows])


class Report:
    """Tables of contests, by part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self.published_peak = PUBLISHED_PEAKS.get(self.name)
        # what a large matrix product reaches, here and now
        self.matrix_speed = matmul_speed(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
        self.rows: dict[str, list[str]] = {}
        self.numbers: list[dict[str, Any]] = []

    @property
    def speed_header(self) -> str:
        return SPEED if self.published_peak is None else f"{SPEED} of published peak |"

    def _add(self, part: str, row: str, **numbers: Any) -> None:
        print(f"{part}: {row}", flush=True)
        self.rows.setdefault(part, []).append(row)
        self.numbers.append({"part": part} | numbers)

    def add_outcome(self, part: str, outcome: Outcome) -> None:
        low, middle, high = outcome.quartiles
        ours, theirs = (1000 * seconds for seconds in outcome.seconds)
        speed = outcome.speed
        work, peer = outcome.contest.work, outcome.contest.peer
        peaks = [self.matrix_speed] + [self.published_peak] * (self.published_peak is not None)
        shares = [f"{outcome.flops / outcome.seconds[0] / peak:.0%}" if outcome.flops else "" for peak in peaks]
        self._add(
            part,
            f"| {work} | {peer} | {ours:.1f} | {theirs:.1f} | **{middle:.2f}** | {low:.2f} to {high:.2f} "
            f"| {speed:,.0f} | {' | '.join(shares)} |",
            work=work, peer=peer, ratios=[round(ratio, 4) for ratio in outcome.ratios], milliseconds=[ours, theirs],
            tokens_per_second=speed, target=outcome.contest.target,
        )  # fmt: skip

    def add_peaks(self, contest: Contest, ours: int, theirs: int) -> None:
        self._add(
            "memory",
            f"| {contest.work} | {contest.peer} | {ours / 1e6:.0f} | {theirs / 1e6:.0f} | **{ours / theirs:.2f}** |",
            work=contest.work, peer=contest.peer, bytes=[ours, theirs],
        )  # fmt: skip

    def add_loading(self, found: dict[str, float]) -> None:
        for name, seconds in found.items():
            if name == "copies":
                row = f"| memory to load a checkpoint of 1 GB | {seconds:.2f} times its size |"
            else:
                row = f"| {name} | {seconds:.2f} s |"
            self._add("load", row, name=name, value=seconds)

    def add_growth(self, base: dict[str, int], found: dict[str, tuple[dict[int, float], float]]) -> None:
        for name, (seconds, exponent) in found.items():
            values = ", ".join(f"{value}: {1000 * each:.0f} ms" for value, each in seconds.items())
            self._add("growth", f"| {name} | {values} | {exponent:.2f} |", name=name, base=base, seconds=seconds)

    def add_padding(self, found: dict[str, list[float]]) -> None:
        for name, shares in found.items():
            self._add(
                "padding", f"| {name} | {' | '.join(f'{each:.1%}' for each in shares)} |", name=name, shares=shares
            )

    def write(self, folder: Path) -> None:
        """Put the tables in their places in `performance.md`, and numbers and picture beside it."""
        for part, rows in self.rows.items():
            write_table(part, table(HEADERS.get(part, self.speed_header), rows), folder / "performance.md")
        machine = {"machine": platform.machine(), "torch": torch.__version__, "device": self.name}
        machine["threads"] = torch.get_num_threads()
        machine["matrix_flops_per_second"] = self.matrix_speed
        numbers = folder / "images" / "speed.json"
        before = json.loads(numbers.read_text(encoding="utf-8"))["found"] if numbers.exists() else []
        found = [each for each in before if each["part"] not in self.rows] + self.numbers
        numbers.write_text(json.dumps({"where": machine, "found": found}, indent=1) + "\n", encoding="utf-8")
        draw([each for each in found if "ratios" in each], folder / "images" / "speed.png")


TITLES = {
    "infer": "Pipelines on real texts", "train": "A step of training", "texts": "Training on real texts",
    "generate": "Generation", "refill": "Generation, rows filled anew as they end",
}  # fmt: skip


def draw(outcomes: list[dict[str, Any]], picture: Path) -> None:
    """For each part every pair's ratio as a dot, their median as a line, and the target as a triangle."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for outcome in outcomes:
        parts.setdefault(outcome["part"], []).append(outcome)
    counts = [len(each) for each in parts.values()]
    figure, axes = plt.subplots(
        len(parts), 1, figsize=(8, 1 + 0.5 * len(parts) + 0.2 * sum(counts)), height_ratios=[each + 1 for each in counts],
        sharex=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for place, (part, each) in zip(axes[:, 0], parts.items(), strict=True):
        for row, outcome in enumerate(each):
            ratios = outcome["ratios"]
            place.plot(
                ratios, [row] * len(ratios), "o", color=COLORS[0], alpha=0.35, markersize=4, label="a pair of runs"
            )
            place.plot(
                [median(ratios)] * 2, [row - 0.35, row + 0.35], color=COLORS[0], linewidth=2, label="their median"
            )
            if outcome["target"] is not None:
                place.plot(outcome["target"], row + 0.35, "^", color=COLORS[1], markersize=5, label="target")
        place.axvline(1, color="black", linewidth=0.8)
        place.set_yticks(range(len(each)), [f"{outcome['work']}, {outcome['peer']}" for outcome in each], fontsize=8)
        place.set_ylim(len(each) - 0.25, -0.75)
        place.set_title(TITLES[part], fontsize=10, loc="left")
        place.grid(alpha=0.3, axis="x")
    last = axes[-1, 0]
    last.set_xscale("log")
    most = max((ratio for outcome in outcomes for ratio in outcome["ratios"]), default=1) * 1.1
    ticks = [tick for tick in (0.5, 0.7, 1, 1.4, 2, 3, 5, 10) if tick <= most]
    last.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    last.xaxis.set_minor_locator(NullLocator())
    last.set_xlabel("speed of ours by that of theirs: right of 1, ours is faster")
    named = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(named.values(), named.keys(), loc="outside upper right", ncols=len(named), fontsize=9)
    save_picture(figure, picture, shades=32)
