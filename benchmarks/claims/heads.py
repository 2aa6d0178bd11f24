"""Claim f: several heads do better than one of the same total width (Vaswani et al. 2017, §3.2.2 and table 3, rows A)."""

from statistics import mean
from typing import Any

from .draw import Table, panels, save
from .runs import Run

HEADS, SEEDS = (1, 2, 4, 8), (0, 1)
RECIPE = "encoder-decoder-translation-embedded-ko-en"


def heads_run(heads: int, seed: int, *overrides: str, name: str = "") -> Run:
    return Run(
        f"heads/{name}{heads}-seed{seed}",
        RECIPE,
        (f"model.config.num_attention_heads={heads}", f"seed={seed}", "training.max_steps=1000",
         "training.evaluate_every=1000", "training.trackers=[]", *overrides),
    )  # fmt: skip


def runs(multi30k: str | None) -> list[Run]:
    return [heads_run(heads, seed) for heads in HEADS for seed in SEEDS]


def measure(trained: list[Run]) -> dict[str, Any]:
    found = iter(trained)
    return {str(heads): [next(found).results()["test"]["exact_match"] for _ in SEEDS] for heads in HEADS}


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    table = Table(["heads", "width of each", *(f"exact match, seed {seed}" for seed in SEEDS), "mean"])
    table.rows = [
        [heads, 128 // int(heads), *(f"{score:.1f}" for score in scores), f"{mean(scores):.1f}"]
        for heads, scores in measured.items()
    ]
    return {"heads": table}


def draw(measured: dict[str, Any]) -> None:
    figure, axes = panels(1)
    heads = [int(count) for count in measured]
    axes.plot(heads, [mean(scores) for scores in measured.values()], label="mean")
    for seed, scores in zip(SEEDS, zip(*measured.values(), strict=True), strict=True):
        axes.plot(heads, scores, color="grey", marker="x+"[seed], linestyle="", label=f"seed {seed}")
    axes.set_xscale("log", base=2)
    axes.set(
        xlabel="heads, which share a width of 128", ylabel="exact match (%)", ylim=(0, 100), xticks=HEADS,
        xticklabels=HEADS, title="Korean to English, 1,000 steps",
    )  # fmt: skip
    axes.legend(fontsize=8)
    save(figure, "heads")
