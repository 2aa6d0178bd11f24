"""Figures and tables of docs/attention.md: one look for all of them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from trefoil.visualization.picture import plain

from .runs import ROOT

DOCUMENT = ROOT / "docs" / "attention.md"
PICTURES = ROOT / "docs" / "images" / "attention"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
MARKERS = "osD^vPX"
DPI = 200


@dataclass
class Table:
    """A table in Markdown; numbers are right-aligned."""

    header: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def panels(count: int, width: float = 5.2, height: float = 3.8, **options: Any) -> tuple[Any, Any]:
    """A figure with `count` axes side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained", **options)
    for one in [axes] if count == 1 else axes:
        one.grid(alpha=0.3)
        one.set_prop_cycle(color=COLORS, marker=list(MARKERS))
    return figure, axes


def beyond(axes: Any, border: float) -> None:
    """Shade what lies right of a border, which the legend says is longer than in training."""
    most = axes.get_xlim()[1]
    axes.axvspan(border, most, color="grey", alpha=0.15, linewidth=0, label="longer than in training")
    axes.set_xlim(right=most)


def weights_of(axes: Any, weights: Any, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """Attention weights from 0 to 1, the tokens that look against those that are looked at, with their colours' bar."""
    image = axes.imshow(weights, cmap="viridis", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), plain(columns), fontsize=8, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), plain(rows), fontsize=8)
    axes.set(title=title, xlabel="looked at")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, label="weight")
    bar.outline.set_visible(False)


def save(figure: Any, name: str, shades: int | None = 128) -> Path:
    PICTURES.mkdir(parents=True, exist_ok=True)
    return save_picture(figure, PICTURES / f"{name}.png", shades)


def save_picture(figure: Any, file: Path, shades: int | None = 128) -> Path:
    """A PNG file of so many colours, which has a third of the size that it would have with all; None: with all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    plt.close(figure)
    picture = Image.open(drawn).convert("RGB")
    (picture if shades is None else picture.quantize(shades)).save(file, optimize=True)
    return file


def write_table(name: str, table: Table | str, page: Path | None = None) -> None:
    """Put a table in its place in a document, by default that of the claims, between `<!-- table NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: The document has no such place.
    """
    page = page or DOCUMENT
    text = page.read_text(encoding="utf-8")
    start, end = f"<!-- table {name} -->\n", "<!-- end -->"
    if start not in text:
        raise ValueError(f"{page}: no place for the table {name!r}; add {start.strip()!r} and {end.strip()!r}")
    before, rest = text.split(start, 1)
    page.write_text(f"{before}{start}{table}\n{end}" + rest.split(end, 1)[1], encoding="utf-8")
