"""How good a classifier is, as pictures: which labels it takes for which, and whether its probabilities can be believed."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from .picture import DPI, drawing, plain

CELL = 0.42  # inches, of a matrix
SMALLEST = 3.0  # inches, of a matrix
COUNTED = 40  # labels; of more, cells have no room for a number
COLORS = ("#0072B2", "#D55E00")  # Okabe & Ito 2008


def confusion_picture(labels: Sequence[str], counts: Sequence[Sequence[int]], path: str | PathLike) -> None:
    """Draw a confusion matrix: how many examples of each label were given which.

    Args:
        labels: In the order of rows and columns.
        counts: `(true, predicted)`.
        path: The file to write.
    """
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    side = max(SMALLEST, CELL * len(labels))
    with drawing({character for label in labels for character in label}) as plt:
        figure, axes = plt.subplots(figsize=(side + 2.4, side + 1.6), layout="constrained")
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        size = max(5.0, min(10.0, 0.5 * 72 * side / len(labels)))
        for row, (of_row, of_shares) in enumerate(zip(counts, shares, strict=True)):
            for column, (count, share) in enumerate(zip(of_row, of_shares, strict=True)):
                if count and len(labels) <= COUNTED:
                    color = "white" if share > 0.6 else "black"
                    fitting = min(size, 1.4 * 72 * side / len(labels) / len(f"{count:,}"))
                    axes.text(
                        column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=fitting, in_layout=False
                    )  # fmt: skip
        places, names = range(len(labels)), plain(labels)
        axes.set_xticks(places, names, fontsize=size, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names, fontsize=size)
        axes.set(xlabel="predicted", ylabel="true")
        bar = figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true label")
        bar.outline.set_visible(False)
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def reliability_picture(calibration: Mapping[str, Any], path: str | PathLike) -> None:
    """Draw how often answers of each probability are right, above how many there are (Guo et al. 2017, figure 1).

    Args:
        calibration: `bins` with `from`, `to`, `examples`, `probability` and `right`, and `expected_error`, in percent.
        path: The file to write.
    """
    bins = calibration["bins"]
    lefts = [100 * one["from"] for one in bins]
    width = 100 * (bins[0]["to"] - bins[0]["from"])
    with drawing(()) as plt:
        figure, (above, below) = plt.subplots(
            2, 1, figsize=(4.4, 5.2), height_ratios=(3, 1), sharex=True, layout="constrained"
        )
        above.bar(lefts, [one["right"] for one in bins], width, align="edge", color=COLORS[0], edgecolor="white")
        above.plot([0, 100], [0, 100], color="black", linewidth=1, linestyle="--", label="as often as it says")
        above.plot(
            [one["probability"] for one in bins], [one["right"] for one in bins], "o", color=COLORS[1], markersize=4,
            label="mean probability of the bin",
        )  # fmt: skip
        above.set(ylabel="right (%)", ylim=(0, 100), xlim=(0, 100))
        above.set_title(f"Expected calibration error {calibration['expected_error']:.1f} %", fontsize=11)
        above.legend(fontsize=8, loc="upper left")
        below.bar(lefts, [one["examples"] for one in bins], width, align="edge", color=COLORS[0], edgecolor="white")
        below.set(xlabel="probability of the answer (%)", ylabel="examples")
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.set_axisbelow(True)
        figure.savefig(path, dpi=DPI)
        plt.close(figure)
