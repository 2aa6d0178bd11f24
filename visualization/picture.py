"""Attention maps as a picture, with a font found for every character where there is one."""

import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from .attention import AttentionMap, AttentionMaps
from .pooling import Block, block_of, pooled

BASE_FONT = "DejaVu Sans"  # comes with matplotlib
# faces whose sans-serif look goes with it, in the order of preference; any other font comes after
PREFERRED = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Nanum Gothic", "Apple SD Gothic Neo", "Malgun Gothic",
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans", "Arial Unicode MS", "Unifont")  # fmt: skip
DPI = 200  # of every picture, where its sides allow it
LARGEST = 16000  # pixels of a side
SMALLEST_LABEL = 5.0  # points; where cells are smaller, not every token has its label
MOST_CELLS = 128  # of a head's side in an overview; of longer texts, a cell holds several tokens
GAP = 0.04  # between the heads of an overview, as a part of their size


def attention_picture(maps: AttentionMaps, path: str | PathLike) -> None:
    """Draw, for each kind of attention, the average, what it rolls out to, and all layers and heads.

    Characters that no font here has are drawn as boxes, and a line on standard error says so.

    Args:
        maps: What `attention_maps` gives.
        path: The PNG file to write.
    """
    characters = {character for one in maps for label in (*one.query_tokens, *one.key_tokens) for character in label}
    with drawing(characters, ", or write an .html page") as plt:
        panels = [_panels(one) for one in maps]
        sizes = [_size(one) for one in maps]
        columns = max(map(len, panels))
        width, height = columns * (max(width for width, _ in sizes) + 1.9), sum(height + 1.5 for _, height in sizes)
        figure, grid = plt.subplots(
            len(panels), columns, figsize=(width, height), height_ratios=[height for _, height in sizes],
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for row, one, drawn in zip(grid, maps, panels, strict=True):
            for axes, (title, matrix) in zip(row, drawn, strict=False):
                if matrix is None:
                    _draw_overview(axes, one)
                else:
                    _draw_map(figure, axes, matrix, one)
                axes.set_title(title, fontsize=11, loc="left", pad=12)
                axes.tick_params(length=0)
                axes.spines[:].set_visible(False)
                axes.set_anchor("NW")
            for axes in row[len(drawn) :]:
                axes.remove()
        figure.savefig(path, dpi=min(DPI, LARGEST / max(width, height)))
        plt.close(figure)


@contextmanager
def drawing(characters: Iterable[str], otherwise: str = "") -> Iterator[Any]:
    """matplotlib's `pyplot`, with fonts that have these characters.

    Args:
        otherwise: What else than to install one can be done where no font has them.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    families, missing = find_fonts(characters)
    if missing:
        print(
            f"the picture shows boxes for {' '.join(sorted(missing)[:10])}: no font that matplotlib can draw has "
            f"{'them' if len(missing) > 1 else 'it'}; install one (for Korean fonts-nanum or fonts-noto-cjk){otherwise}",
            file=sys.stderr,
        )
    settings: Any = {
        "font.family": families, "figure.constrained_layout.h_pad": 0.12, "figure.constrained_layout.w_pad": 0.12,
    }  # fmt: skip
    with plt.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield plt


def _size(one: AttentionMap) -> tuple[float, float]:
    """Width and height of a map in inches."""
    cell = _cell(one)
    return max(2.4, cell * len(one.key_tokens)), max(1.8, cell * len(one.query_tokens))


def _cell(one: AttentionMap) -> float:
    """Width and height of a cell in inches."""
    return min(0.27, 14 / max(len(one.query_tokens), len(one.key_tokens)))


def _panels(one: AttentionMap) -> list[tuple[str, torch.Tensor | None]]:
    """Titles and matrices of what is drawn of a map; None for the overview."""
    layers, heads = one.weights.shape[:2]
    kind = f"{one.kind[0].upper()}{one.kind[1:]}"
    averaged = [f"{count} {name}s" for count, name in ((layers, "layer"), (heads, "head")) if count > 1]
    panels: list[tuple[str, torch.Tensor | None]] = [
        (f"{kind}\naverage of {' and '.join(averaged)}" if averaged else kind, one.average())
    ]
    if one.rolls_out:
        panels.append((f"{kind}\nrolled out through all layers", one.rollout()))
    if layers * heads > 1:
        down, across = _block(one)
        cells = f"; a cell is the largest of {down} × {across}" if down * across > 1 else ""
        panels.append((f"{kind}\neach layer and head, to its own largest weight{cells}", None))
    return panels


def _block(one: AttentionMap) -> Block:
    queries, keys = one.weights.shape[-2:]
    return block_of(queries, keys, MOST_CELLS)


def _draw_map(figure: Any, axes: Any, matrix: torch.Tensor, one: AttentionMap) -> None:
    image = axes.imshow(matrix.numpy(), cmap="viridis", vmin=0, aspect="equal", interpolation="nearest")
    room = 0.8 * 72 * _cell(one)
    size = min(9.0, max(SMALLEST_LABEL, room))
    every = math.ceil(size / room)
    for set_ticks, labels in ((axes.set_xticks, one.key_tokens), (axes.set_yticks, one.query_tokens)):
        set_ticks(range(0, len(labels), every), plain(labels[::every]), fontsize=size)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", rotation=60)
    for label in axes.get_xticklabels():
        label.set(ha="left", va="bottom", rotation_mode="anchor")
    # beside the map itself, which may be narrower than its column
    width, _ = _size(one)
    bar = figure.colorbar(image, cax=axes.inset_axes((1 + 0.1 / width, 0.2, 0.12 / width, 0.6)))
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _draw_overview(axes: Any, one: AttentionMap) -> None:
    """All layers and heads side by side, each from 0 to its own largest weight."""
    layers, heads = one.weights.shape[:2]
    _, first = pooled(one.weights[0, 0], _block(one))
    rows, columns = first.shape
    gap_y, gap_x = max(1, round(GAP * rows)), max(1, round(GAP * columns))
    whole = torch.full((layers * (rows + gap_y) - gap_y, heads * (columns + gap_x) - gap_x), float("nan"))
    for layer in range(layers):
        for head in range(heads):
            _, largest = pooled(one.weights[layer, head], _block(one))
            top, left = layer * (rows + gap_y), head * (columns + gap_x)
            whole[top : top + rows, left : left + columns] = largest / largest.max()
    axes.imshow(whole.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    axes.set_xticks([head * (columns + gap_x) + columns / 2 for head in range(heads)], range(1, heads + 1), fontsize=8)
    axes.set_yticks([layer * (rows + gap_y) + rows / 2 for layer in range(layers)], range(1, layers + 1), fontsize=8)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel="head", ylabel="layer")


def plain(labels: Iterable[str]) -> list[str]:
    """Labels in which a dollar sign does not begin a formula."""
    return [label.replace("$", r"\$") for label in labels]


def find_fonts(characters: Iterable[str]) -> tuple[list[str], set[str]]:
    """Font families of matplotlib that have these characters, and the characters that none has."""
    from matplotlib import font_manager

    families, missing = [BASE_FONT], set(characters)
    missing -= _covered(font_manager.findfont(BASE_FONT))
    if not missing:
        return families, missing
    known = {Path(entry.fname) for entry in font_manager.fontManager.ttflist}
    for file in map(Path, font_manager.findSystemFonts()):
        if file not in known:  # installed after matplotlib made its list
            try:
                font_manager.fontManager.addfont(file)
            except (RuntimeError, OSError, ValueError):
                continue
    plain = [
        entry
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal", "regular")
    ]
    plain = [entry for entry in plain if "LastResort" not in entry.fname]  # has every character, as a box
    rank = {name: place for place, name in enumerate(PREFERRED)}
    for entry in sorted(plain, key=lambda entry: (rank.get(entry.name, len(rank)), entry.name)):
        if found := missing & _covered(entry.fname):
            families.append(entry.name)
            missing -= found
        if not missing:
            break
    return families, missing


def _covered(file: str) -> set[str]:
    """The characters that a font draws as outlines."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        return {chr(code) for code in font.get_charmap()} if font.scalable else set()
    except (RuntimeError, OSError, ValueError):
        return set()
