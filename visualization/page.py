"""Attention maps as one HTML page, which needs no network: for a browser, or for a frame in another page."""

import base64
import hashlib
import html
import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .attention import CROSS, DECODER, ENCODER, AttentionMap, AttentionMaps, require_few
from .pooling import block_of, pooled

LARGEST_PAGE = 5_000_000  # bytes, whatever the length, the layers and the heads
MOST_WEIGHTS = 200_000_000  # of which some 2 GB are held while the page is made: 24 layers of 16 heads and 720 tokens
CELLS = 64  # that a side has at most before a part is looked at token by token
FOR_CELLS = 0.6  # of the room, at most; the rest is for weights token by token
EXACT, ROUGH = 65535, 255  # steps of a weight: two bytes or one before compression

ABOUT = {
    ENCODER: "Each row is a token of the text; its weights say which tokens it looks at.",
    DECODER: "Each row is a token that the decoder reads; it sees itself and what is left of it.",
    CROSS: "Each row is a token that is written; its weights say where the decoder looks in the source to write it.",
}
ABOUT_ROLLOUT = (
    "Attention rollout (Abnar & Zuidema 2020): heads averaged, half of each position kept by the residual connection, "
    "and all layers multiplied."
)
ABOUT_CROSS_ROLLOUT = (
    "Rolled out through the encoder's, the cross- and the decoder's attention, heads averaged and half of each position "
    "kept by each residual connection: what each written token takes from the source."
)
AVERAGE, ROLLOUT = "average", "rollout"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src '{hash}'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{texts}
<div class="controls">
<label>Attention <select id="map"></select></label>
<label>Layer <select id="layer"></select></label>
<label>Head <select id="head"></select></label>
<label>Colours <select id="scale"><option value="most">0 to the largest weight</option>
<option value="one">0 to 1</option><option value="uniform">relative to equal weights</option></select></label>
<label>Size <input id="zoom" type="range" min="2" max="48"></label>
<span class="legend" aria-label="colour scale"><span id="least">0</span><span id="bar"></span><span id="most"></span></span>
</div>
<p id="about">Reading the weights …</p>
<p id="grain"></p>
<div id="scroll"><div id="view" tabindex="0" role="group"><canvas id="plot"></canvas><div id="row" hidden></div>
<div id="column" hidden></div><div id="box" hidden></div><div id="tip" hidden></div></div></div>
<output id="said" aria-live="polite"></output>
<p class="hint">Queries in rows, keys in columns; point at a cell, touch it, or use the arrow keys, for its weight.
␣ stands for a space, ₁ ₂ for tokens that share a character. <span id="precision"></span></p>
<section id="overview"><h2>All layers and heads</h2><div id="grid"></div></section>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""

# they lie beside this file under its name, whatever that is where a Space runs
SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")

Matrix = Callable[[], torch.Tensor]  # (queries, keys), made when it is needed
Content = dict[str, Any]


def attention_page(maps: AttentionMaps, title: str) -> str:
    """A whole HTML document with selectors for kind, layer and head, and the weight of each cell under the pointer.

    It is below `LARGEST_PAGE`. Where all weights find room in it, it holds them in 65,535 steps, else in 255; where they do
    not even so, each layer and head is there in cells of some tokens, with their mean and their largest weight, and as many as
    there is room for token by token too, averages first. The page says which.

    Args:
        maps: What `attention_maps` gives.
        title: The page's heading.

    Raises:
        ValueError: There are more than `MOST_WEIGHTS`; `attention_maps` can refuse them before they are computed.
    """
    require_few(sum(one.weights.numel() for one in maps), MOST_WEIGHTS)
    page = partial(
        PAGE.format,
        hash="sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        title=html.escape(title),
        style=STYLE,
        texts="\n".join(
            f'<p class="text"><b>{name}</b> <bdi>{html.escape(text)}</bdi></p>' for name, text in _texts(maps)
        ),
        script=SCRIPT,
    )
    contents = [_content(one) for one in maps]
    _fill(contents, list(maps), LARGEST_PAGE - _size(page(data=_json(contents))))
    return page(data=_json(contents))


def _texts(maps: AttentionMaps) -> list[tuple[str, str]]:
    """What was read and written, and what it is called."""
    kinds = {one.kind for one in maps}
    if maps.target is None:
        return [("source" if CROSS in kinds else "text", maps.source)]
    if CROSS in kinds:
        return [("source", maps.source), ("target", maps.target)]
    if DECODER in kinds:  # one text, which the decoder went on with
        return [("text", maps.source + maps.target)]
    return [("first text", maps.source), ("second text", maps.target)]


def _content(one: AttentionMap) -> Content:
    """All but the weights."""
    layers, heads, queries, keys = one.weights.shape
    return {
        "kind": one.kind,
        "layers": layers,
        "heads": heads,
        "queries": one.query_tokens,
        "keys": one.key_tokens,
        "steps": EXACT,
        "block": block_of(queries, keys, CELLS),
        "views": {},
        "about": ABOUT[one.kind],
        "about_rollout": ABOUT_CROSS_ROLLOUT if one.kind == CROSS else ABOUT_ROLLOUT,
        "sees_left_only": one.kind == DECODER,
    }


def _views(one: AttentionMap) -> dict[str, Matrix]:
    """Every choice of layer and head, by the name that the page knows it by, what says most of all first."""
    layers, heads, *_ = one.weights.shape
    of_layers = [*([None] if layers > 1 else []), *range(layers)]
    of_heads = [*([None] if heads > 1 else []), *range(heads)]
    choices = [(layer, head) for layer in of_layers for head in of_heads]
    choices.sort(key=lambda choice: (-choice.count(None), choice[0] is None))
    first, *others = [
        (
            f"{AVERAGE if layer is None else layer}/{AVERAGE if head is None else head}",
            partial(one.average, layer, head),
        )
        for layer, head in choices
    ]
    return dict([first, *([(ROLLOUT, one.rollout)] if one.rolls_out else []), *others])


def _fill(contents: list[Content], maps: list[AttentionMap], room: int) -> None:
    """Gives the contents their weights, in at most so many bytes of JSON."""
    views = [
        (content, key, matrix)
        for content, one in zip(contents, maps, strict=True)
        for key, matrix in _views(one).items()
    ]
    for steps in (EXACT, ROUGH):
        for content in contents:
            content["steps"] = steps
        if _holds_all(views, room):
            return
    _set_blocks(contents, room)
    used = 0
    for content, key, matrix in views:
        content["views"][key] = view = _in_cells(matrix(), content)
        used += _size_of(key, view)
    for content, key, matrix in views:
        more = _by_token(matrix(), content)
        grown = used + _size_of(key, more) - _size_of(key, content["views"][key])
        if grown <= room:
            content["views"][key], used = more, grown


def _holds_all(views: list[tuple[Content, str, Matrix]], room: int) -> bool:
    """Whether all weights find room token by token; the contents hold them then."""
    used = 0
    for content, key, matrix in views:
        content["views"][key] = view = _by_token(matrix(), content)
        used += _size_of(key, view)
        if used > room:
            return False
    return True


def _set_blocks(contents: list[Content], room: int) -> None:
    """The smallest blocks whose cells find room for sure."""
    most = CELLS
    while most > 1 and sum(_most_of_cells(content) for content in contents) > FOR_CELLS * room:
        most //= 2
        for content in contents:
            content["block"] = block_of(len(content["queries"]), len(content["keys"]), most)


def _most_of_cells(content: Content) -> float:
    """Bytes of all views in cells, if nothing could be compressed."""
    down, across = content["block"]
    cells = -(-len(content["queries"]) // down) * -(-len(content["keys"]) // across)
    views = (content["layers"] + 1) * (content["heads"] + 1) + 1
    return views * (2 * cells * 4 / 3 + 150)  # names and brackets


def _by_token(weights: torch.Tensor, content: Content) -> Content:
    return {"weights": _packed(weights, content["steps"])}


def _in_cells(weights: torch.Tensor, content: Content) -> Content:
    mean, largest = pooled(weights, content["block"])
    return {"mean": _packed(mean, content["steps"]), "largest": _packed(largest, content["steps"])}


def _packed(weights: torch.Tensor, steps: int) -> tuple[float, str]:
    """The largest of them, and all as steps of the square root of their part of it: small weights have smaller steps."""
    top = max(float(weights.max()), 1e-12)
    whole = (weights / top).sqrt().mul(steps).round().clamp(0, steps).to(torch.int32)
    content = whole.numpy().astype("<u2" if steps == EXACT else "u1").tobytes()
    return top, base64.b64encode(zlib.compress(content)).decode()


def _size(text: str) -> int:
    return len(text.encode())


def _size_of(key: str, view: Content) -> int:
    return _size(_json({key: view}))


def _json(content: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
