"""Attention maps as one HTML page, which needs no network: for a browser, or for a frame in another page."""

import base64
import hashlib
import html
import json
import zlib
from pathlib import Path
from typing import Any

import torch

from .attention import CROSS, DECODER, ENCODER, AttentionMap, AttentionMaps, require_few

MOST_WEIGHTS = 40_000_000  # some 60 MB: 12 layers of 12 heads and 512 tokens still have a page
STEPS = 65535  # a weight travels as so many steps from 0 to 1: two bytes before compression

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
<option value="one">0 to 1</option></select></label>
<label>Size <input id="zoom" type="range" min="2" max="48"></label>
<span class="legend" aria-label="colour scale"><span>0</span><span id="bar"></span><span id="most"></span></span>
</div>
<p id="about"></p>
<div id="scroll"><div id="view" tabindex="0" role="group"><canvas id="plot"></canvas><div id="row" hidden></div>
<div id="column" hidden></div><div id="box" hidden></div><div id="tip" hidden></div></div></div>
<output id="said" aria-live="polite"></output>
<p class="hint">Queries in rows, keys in columns; point at a cell, or use the arrow keys, for its weight.
␣ stands for a space, ₁ ₂ for tokens that share a character.</p>
<section id="overview"><h2>All layers and heads</h2><div id="grid"></div></section>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""

# they lie beside this file under its name, whatever that is where a Space runs
SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


def attention_page(maps: AttentionMaps, title: str) -> str:
    """A whole HTML document with selectors for kind, layer and head, and the weight of each cell under the pointer.

    It holds all weights in steps of 1/65535, deflated: about a byte a weight, 8 MB for 12 layers of 12 heads and 220
    tokens, and 30 kB for a sentence and a small model.

    Args:
        maps: What `attention_maps` gives.
        title: The page's heading.

    Raises:
        ValueError: There are more than `MOST_WEIGHTS`; `attention_maps` can refuse them before they are computed.
    """
    require_few(sum(one.weights.numel() for one in maps), MOST_WEIGHTS)
    texts = [("source", maps.source)] + ([("target", maps.target)] if maps.target else [])
    return PAGE.format(
        hash="sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        title=html.escape(title),
        style=STYLE,
        texts="\n".join(f'<p class="text"><b>{name}</b> <bdi>{html.escape(text)}</bdi></p>' for name, text in texts),
        data=_json([_content(one) for one in maps]),
        script=SCRIPT,
    )


def _content(one: AttentionMap) -> dict[str, Any]:
    layers, heads, _, _ = one.weights.shape
    return {
        "kind": one.kind,
        "layers": layers,
        "heads": heads,
        "queries": one.query_tokens,
        "keys": one.key_tokens,
        "steps": STEPS,
        "weights": _packed(one.weights),
        "rollout": _packed(one.rollout()) if one.rolls_out else None,
        "about": ABOUT[one.kind],
        "about_rollout": ABOUT_CROSS_ROLLOUT if one.kind == CROSS else ABOUT_ROLLOUT,
    }


def _packed(weights: torch.Tensor) -> str:
    steps = (weights * STEPS).round().clamp(0, STEPS).to(torch.int32).numpy().astype("<u2")
    return base64.b64encode(zlib.compress(steps.tobytes())).decode()


def _json(content: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
