"""The picture of a run: training and validation loss, and the metric, against optimiser steps."""

import json
import math
from pathlib import Path
from typing import Any


def read_log(log: Path) -> list[dict[str, Any]]:
    """The entries of a run's log, in the order of the steps."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


NAMES = {
    "bleu": "BLEU", "chrf": "chrF", "f1": "F1", "character_f1": "F1 of characters",
    "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum",
}  # fmt: skip
TRAINING, VALIDATION, METRIC = "#0072B2", "#D55E00", "#009E73"  # Okabe & Ito 2008
LOSS_UNIT = "loss (nats per label)"


def name_of(metric: str) -> str:
    """A metric as figures call it."""
    return NAMES.get(metric, metric.replace("_", " "))


def plot_run(log: Path, metric: str, picture: Path, minimized: bool = False, label_smoothing: float = 0.0) -> None:
    """Draw a run's log as a PNG file.

    Args:
        minimized: Less of the metric is better.
        label_smoothing: Of the training loss, which then is not to be compared with that of validation.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    entries = read_log(log)

    def series(key: str) -> tuple[list[int], list[float]]:
        points = [(entry["step"], entry[key]) for entry in entries if math.isfinite(entry.get(key, math.nan))]
        return [step for step, _ in points], [value for _, value in points]

    figure, (losses, scores) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharex=True)
    steps, values = series("loss")
    window = min(20, len(values) // 5)
    has_mean = window > 2
    smoothed = f", labels smoothed by {label_smoothing:g}" if label_smoothing else ""
    thin = {"alpha": 0.3, "linewidth": 0.8} if has_mean else {}
    losses.plot(steps, values, color=TRAINING, label=f"training{smoothed}", **thin)
    if has_mean:
        means = [sum(values[end - window : end]) / window for end in range(window, len(values) + 1)]
        middles = steps[window // 2 :][: len(means)]
        losses.plot(middles, means, color=TRAINING, label=f"its mean over {window} points")
    losses.plot(*series("validation_loss"), color=VALIDATION, marker="o", markersize=3, label="validation")
    losses.set(ylabel=LOSS_UNIT, title="Loss")
    # the first losses, of a model that knows nothing, would press the rest together
    shown = values[len(values) // 100 :] + series("validation_loss")[1]
    if shown:
        losses.set_ylim(0.95 * min(shown), 1.02 * max(shown))
    losses.legend(fontsize=9)
    name = name_of(metric)
    title = f"{name[0].upper()}{name[1:]} of the validation split"
    steps, values = series(f"validation_{metric}")
    scores.plot(steps, values, color=METRIC, marker="o", markersize=3)
    if values:
        best = (min if minimized else max)(range(len(steps)), key=values.__getitem__)
        scores.plot(steps[best], values[best], "o", color=METRIC, markersize=9, fillstyle="none")
        title += f"; best: {values[best]:.4g}"
    scores.set(ylabel=name, title=title)
    for axes in (losses, scores):
        axes.set(xlabel="optimiser step")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=200)
    plt.close(figure)
