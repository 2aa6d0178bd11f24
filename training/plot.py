"""The picture of a run: training and validation loss, and the metric, against optimiser steps."""

import json
import math
from pathlib import Path
from typing import Any


def read_log(log: Path) -> list[dict[str, Any]]:
    """The entries of a run's log, in the order of the steps."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def plot_run(log: Path, metric: str, picture: Path, minimized: bool = False) -> None:
    """Draw a run's log as a PNG file.

    Args:
        minimized: Less of the metric is better.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    entries = read_log(log)

    def series(key: str) -> tuple[list[int], list[float]]:
        points = [(entry["step"], entry[key]) for entry in entries if math.isfinite(entry.get(key, math.nan))]
        return [step for step, _ in points], [value for _, value in points]

    figure, (losses, scores) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    steps, values = series("loss")
    losses.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=0.8)
    window = max(1, min(20, len(values) // 5))
    means = [sum(values[end - window : end]) / window for end in range(window, len(values) + 1)]
    losses.plot(steps[window - 1 :], means, color="tab:blue", label=f"training, mean of {window} logged steps")
    losses.plot(*series("validation_loss"), color="tab:orange", marker="o", markersize=3, label="validation")
    losses.set(xlabel="optimiser step", ylabel="loss (nats per label)", title="Loss")
    # the first losses, of a model that knows nothing, would press the rest together
    shown = values[len(values) // 100 :] + series("validation_loss")[1]
    if shown:
        losses.set_ylim(0.95 * min(shown), 1.02 * max(shown))
    losses.legend()
    steps, metric_values = series(f"validation_{metric}")
    scores.plot(steps, metric_values, color="tab:green", marker="o", markersize=3)
    if metric_values:
        best = (min if minimized else max)(range(len(steps)), key=metric_values.__getitem__)
        scores.annotate(
            f"{metric_values[best]:.4g}", (steps[best], metric_values[best]), textcoords="offset points",
            xytext=(0, 7 if minimized else -14), ha="center",
        )  # fmt: skip
    scores.set(xlabel="optimiser step", ylabel=metric, title=f"Validation {metric}")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
