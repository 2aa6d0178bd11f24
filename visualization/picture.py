"""Attention maps as a picture, with a font found for every character where there is one."""

import sys
import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from .attention import CROSS, AttentionMap, AttentionMaps

BASE_FONT = "DejaVu Sans"  # comes with matplotlib
# faces whose sans-serif look goes with it, in the order of preference; any other font comes after
PREFERRED = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Nanum Gothic", "Apple SD Gothic Neo", "Malgun Gothic",
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans", "Arial Unicode MS", "Unifont")  # fmt: skip
GAP = 0.04  # between the heads of an overview, as a part of their size


def attention_picture(maps: AttentionMaps, path: str | PathLike) -> None:
    """Draw, for each kind of attention, the average, what it rolls out to, and all layers and heads.

    Characters that no font here has are drawn as boxes, and a line on standard error says so.

    Args:
        maps: What `attention_maps` gives.
        path: The PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    characters = {character for one in maps for label in (*one.query_tokens, *one.key_tokens) for character in label}
    families, missing = find_fonts(characters)
    if missing:
        print(
            f"the picture shows boxes for {' '.join(sorted(missing)[:10])}: no font that matplotlib can draw has "
            f"{'them' if len(missing) > 1 else 'it'}; install one (for Korean fonts-nanum or fonts-noto-cjk), or write "
            "an .html page",
            file=sys.stderr,
        )
    with plt.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        sizes = [_size(one) for one in maps]
        rows = [height + 1.6 for _, height in sizes]
        width = max(3 * width + 5.0 for width, _ in sizes)
        figure = plt.figure(figsize=(width, sum(rows)), layout="constrained")
        for part, one in zip(_parts(figure, rows), maps, strict=True):
            _draw(part, one)
        figure.savefig(path, dpi=min(150, 16000 / max(width, sum(rows))))
        plt.close(figure)


def _parts(figure: Any, rows: list[float]) -> list[Any]:
    parts = figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False)
    return [part for (part,) in parts]


def _size(one: AttentionMap) -> tuple[float, float]:
    """Width and height of a map in inches."""
    longest = max(len(one.query_tokens), len(one.key_tokens))
    cell = min(0.26, 14 / longest)
    return max(2.2, cell * len(one.key_tokens)), max(1.6, cell * len(one.query_tokens))


def _draw(part: Any, one: AttentionMap) -> None:
    layers, heads = one.weights.shape[:2]
    averaged = [f"{count} {name}s" for count, name in ((layers, "layer"), (heads, "head")) if count > 1]
    title = f"average of {' and '.join(averaged)}" if averaged else "weights"
    panels = [(title, one.average())]
    if one.kind != CROSS or layers > 1 or one.encoder_weights is not None:
        panels.append(("rolled out through all layers", one.rollout()))
    has_overview = layers * heads > 1
    part.suptitle(f"{one.kind[0].upper()}{one.kind[1:]}", fontweight="bold", x=0.01, ha="left")
    axes = part.subplots(1, 3)
    for place, (name, matrix) in zip(axes, panels, strict=False):
        _draw_map(part, place, matrix, one, name)
    rest = axes[len(panels) :]
    if has_overview:
        _draw_overview(rest[0], one)
        rest = rest[1:]
    for place in rest:
        place.remove()


def _draw_map(part: Any, axes: Any, matrix: torch.Tensor, one: AttentionMap, title: str) -> None:
    image = axes.imshow(matrix.numpy(), cmap="viridis", vmin=0, aspect="equal", interpolation="nearest")
    longest = max(len(one.query_tokens), len(one.key_tokens))
    size = min(9.0, 72 * 14 / longest * 0.8)
    axes.set_xticks(range(len(one.key_tokens)), _plain(one.key_tokens), fontsize=size)
    axes.set_yticks(range(len(one.query_tokens)), _plain(one.query_tokens), fontsize=size)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", rotation=60, length=0)
    axes.tick_params(axis="y", length=0)
    for label in axes.get_xticklabels():
        label.set(ha="left", va="bottom", rotation_mode="anchor")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(title, fontsize=10)
    part.colorbar(image, ax=axes, shrink=0.6, pad=0.02).ax.tick_params(labelsize=8)


def _draw_overview(axes: Any, one: AttentionMap) -> None:
    """All layers and heads side by side, each from 0 to its own largest weight."""
    layers, heads, queries, keys = one.weights.shape
    gap_y, gap_x = max(1, round(GAP * queries)), max(1, round(GAP * keys))
    whole = torch.full((layers * (queries + gap_y) - gap_y, heads * (keys + gap_x) - gap_x), float("nan"))
    for layer in range(layers):
        for head in range(heads):
            weights = one.weights[layer, head]
            top, left = layer * (queries + gap_y), head * (keys + gap_x)
            whole[top : top + queries, left : left + keys] = weights / weights.max()
    axes.imshow(whole.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    axes.set_xticks([head * (keys + gap_x) + keys / 2 for head in range(heads)], range(1, heads + 1), fontsize=8)
    axes.set_yticks(
        [layer * (queries + gap_y) + queries / 2 for layer in range(layers)], range(1, layers + 1), fontsize=8
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set(xlabel="head", ylabel="layer")
    axes.xaxis.set_label_position("top")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title("each layer and head", fontsize=10)


def _plain(labels: Iterable[str]) -> list[str]:
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
