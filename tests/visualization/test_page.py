"""The page: what it holds, that nothing in it is taken for code, and, where there is a Chromium, that it comes alive."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from trefoil.visualization import page as page_module
from trefoil.visualization.attention import CROSS, DECODER, ENCODER, AttentionMap, AttentionMaps, attention_maps
from trefoil.visualization.page import SCRIPT, attention_page
from trefoil.visualization.pooling import pooled

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = ["</script>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&amp;", "'\"", "{data}", "값", "😀"]


class Reader(HTMLParser):
    """What a browser would make of the page: elements, their attributes, and their text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open = dict(attributes).get("id", tag)

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        self.texts[self.open] = self.texts.get(self.open, "") + data


def nasty_maps():
    weights = torch.eye(len(NASTY)).expand(2, 3, -1, -1)
    return AttentionMaps([AttentionMap(ENCODER, weights, NASTY, NASTY)], source="".join(NASTY), target=NASTY[1])


def content(page):
    return json.loads(Reader(page).texts["data"])


def unpacked(packed, steps, shape):
    top, text = packed
    whole = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2" if steps == 65535 else "u1")
    return top * (whole.reshape(shape) / steps) ** 2


def tolerance(weights, steps):
    """Half a step of the square root, of weights that are parts of their largest."""
    top = weights.max()
    return (weights * top).sqrt() / steps + top / (4 * steps**2) + 1e-6


def wanted(one, key):
    if key == "rollout":
        return one.rollout()
    layer, head = (None if part == "average" else int(part) for part in key.split("/"))
    return one.average(layer, head)


def check(view, weights, found):
    """That what a page holds of a view is so, to its precision."""
    shape, steps = weights.shape, found["steps"]
    if "weights" in view:
        kinds = {"weights": weights}
    else:
        kinds = dict(zip(("mean", "largest"), pooled(weights, found["block"]), strict=True))
    assert view.keys() == kinds.keys()
    for name, right in kinds.items():
        differences = (torch.from_numpy(unpacked(view[name], steps, right.shape)) - right).abs()
        assert (differences <= tolerance(right, steps)).all(), (name, shape)


def many(layers, heads, length, keys=None, sharp=2.0, kind=ENCODER):
    """Attention of long texts that is hard to compress."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(layers, heads, length, keys or length, generator=generator).mul(sharp)
    if kind == DECODER:
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    queries = [f"token{number}" for number in range(length)]
    return AttentionMap(kind, scores.softmax(dim=-1), queries, [f"key{number}" for number in range(keys or length)])


def test_it_holds_all_weights_to_four_digits(model_and_tokenizer):
    maps = attention_maps(*model_and_tokenizer("encoder-decoder"), "오후 세 시 반")
    page = attention_page(maps, "세 시")
    assert [one["kind"] for one in content(page)] == [one.kind for one in maps]
    for found, expected in zip(content(page), maps, strict=True):
        assert (found["queries"], found["keys"]) == (expected.query_tokens, expected.key_tokens)
        assert (found["layers"], found["heads"], found["steps"]) == (2, 4, 65535)
        assert len(found["views"]) == 3 * 5 + 1
        for key, view in found["views"].items():
            assert "weights" in view
            check(view, wanted(expected, key), found)
            weights = unpacked(view["weights"], 65535, expected.weights.shape[-2:])
            np.testing.assert_allclose(weights, wanted(expected, key).numpy(), atol=2e-5)


def test_a_recurrent_model_has_nothing_to_roll_out(model_and_tokenizer):
    page = attention_page(attention_maps(*model_and_tokenizer("recurrent"), "오후 세 시 반"), "x")
    (only,) = content(page)
    assert only["kind"] == CROSS
    assert only["views"].keys() == {"0/0"}


def test_what_is_said_is_not_taken_for_code():
    page = attention_page(nasty_maps(), "</title><script>alert(1)</script>")
    reader = Reader(page)
    assert content(page)[0]["queries"] == NASTY
    assert [tag for tag, _ in reader.elements].count("script") == 2
    assert not [tag for tag, _ in reader.elements if tag == "img"]
    assert reader.texts["title"] == reader.texts["h1"] == "</title><script>alert(1)</script>"
    assert "".join(NASTY) in reader.texts["bdi"]


def test_it_needs_no_network_and_runs_no_other_script():
    page = attention_page(nasty_maps(), "x")
    reader = Reader(page)
    assert not re.findall(r"""https?://|@import|url\(|src=["']|<link""", html.unescape(page).replace(NASTY[2], ""))
    policies = [attributes["content"] for tag, attributes in reader.elements if "http-equiv" in attributes]
    digest = base64.b64encode(hashlib.sha256(reader.texts["script"].encode()).digest()).decode()
    assert policies == [f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]


def test_it_says_how_it_is_to_be_read():
    elements = Reader(attention_page(nasty_maps(), "x")).elements
    assert ("html", {"lang": "en"}) in elements
    assert ("meta", {"charset": "utf-8"}) in elements


@pytest.mark.parametrize(
    ("sizes", "room", "steps", "has_cells", "block"),
    [
        ({"layers": 2, "heads": 2, "length": 100}, 300_000, 65535, False, [2, 2]),
        ({"layers": 2, "heads": 2, "length": 100}, 150_000, 255, False, [2, 2]),
        ({"layers": 2, "heads": 2, "length": 200}, 250_000, 255, True, [4, 4]),
        # where cells so small find no room, they are larger
        ({"layers": 2, "heads": 2, "length": 70, "keys": 130, "kind": CROSS}, 100_000, 255, True, [3, 5]),
        ({"layers": 3, "heads": 4, "length": 90, "kind": DECODER}, 100_000, 255, True, [6, 6]),
        ({"layers": 6, "heads": 8, "length": 64}, 150_000, 255, True, [4, 4]),
    ],
)
def test_a_page_keeps_below_its_size_and_says_what_it_leaves_out(monkeypatch, sizes, room, steps, has_cells, block):
    monkeypatch.setattr(page_module, "LARGEST_PAGE", room)
    one = many(**sizes)
    page = attention_page(AttentionMaps([one], source="x" * 2000), "x")
    assert len(page.encode()) <= room
    (found,) = content(page)
    assert (found["steps"], found["block"]) == (steps, block)
    kinds = {key: set(view) for key, view in found["views"].items()}
    assert ({"mean", "largest"} in kinds.values()) == has_cells
    assert "weights" in kinds["average/average"]  # the averages come first
    for key in ("rollout", "average/average", "0/0", f"{sizes['layers'] - 1}/average", "average/1"):
        if key in kinds:
            check(found["views"][key], wanted(one, key), found)


def test_all_maps_of_a_model_share_the_room(monkeypatch):
    monkeypatch.setattr(page_module, "LARGEST_PAGE", 200_000)
    maps = AttentionMaps([many(2, 4, 80), many(2, 4, 80, kind=DECODER), many(2, 4, 80, kind=CROSS)], "x", "y")
    page = attention_page(maps, "x")
    assert len(page.encode()) <= 200_000
    assert [len(one["views"]) for one in content(page)] == [16, 16, 16]


@pytest.mark.slow
@pytest.mark.parametrize("sharp", [0.0, 0.3, 4.0])
def test_a_map_of_bert_base_at_its_longest_is_below_five_megabytes(sharp):
    one = many(12, 12, 512, sharp=sharp)
    page = attention_page(AttentionMaps([one], source="x"), "x")
    assert len(page.encode()) <= 5_000_000
    (found,) = content(page)
    assert found["block"] == [8, 8]
    assert "weights" in found["views"]["average/average"]
    for key in ("average/average", "rollout", "3/4"):
        check(found["views"][key], wanted(one, key), found)


@pytest.mark.parametrize(
    ("kinds", "target", "names"),
    [
        ([ENCODER], None, [("text", "a ")]),
        ([ENCODER], "b", [("first text", "a "), ("second text", "b")]),
        ([DECODER], None, [("text", "a ")]),
        ([DECODER], "b", [("text", "a b")]),
        ([ENCODER, DECODER, CROSS], "b", [("source", "a "), ("target", "b")]),
        ([CROSS], "b", [("source", "a "), ("target", "b")]),
    ],
)
def test_a_text_is_called_what_it_is(kinds, target, names):
    page = attention_page(AttentionMaps([many(1, 1, 3, kind=kind) for kind in kinds], "a ", target), "x")
    assert re.findall(r"<b>([^<]*)</b> <bdi>([^<]*)</bdi>", page) == names


def test_a_page_that_would_be_too_large_is_not_made(monkeypatch):
    maps = nasty_maps()
    weights = maps[ENCODER].weights.numel()
    monkeypatch.setattr(page_module, "MOST_WEIGHTS", weights)
    assert attention_page(maps, "x")
    monkeypatch.setattr(page_module, "MOST_WEIGHTS", weights - 1)
    with pytest.raises(ValueError, match=f"has {weights} weights, but {weights - 1} are shown at most; give a shorter"):
        attention_page(maps, "x")


def test_the_colours_are_viridis():
    from matplotlib import colormaps

    stops = re.findall(r'"([0-9a-f]{6})"', SCRIPT)
    colours = np.array([[int(stop[start : start + 2], 16) for start in (0, 2, 4)] for stop in stops])
    places = np.linspace(0, 1, 256)
    drawn = np.stack([np.interp(places, np.linspace(0, 1, len(stops)), part) for part in colours.T], axis=1)
    np.testing.assert_allclose(drawn, colormaps["viridis"](places)[:, :3] * 255, atol=7)


@pytest.fixture
def in_chromium(tmp_path):
    """A function: a page -> its HTML once Chromium has run it."""

    def dumped(page):
        (tmp_path / "map.html").write_text(page, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        ends = ["--timeout=5000", "--virtual-time-budget=5000", "--dump-dom"]
        command = [CHROMIUM, *flags, *ends, f"file://{tmp_path}/map.html"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout

    return dumped


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="wants Chromium")
def test_it_comes_alive(in_chromium):
    shown = in_chromium(attention_page(nasty_maps(), "x"))
    reader = Reader(shown)
    assert ("body", {"data-ready": "yes"}) in reader.elements
    options = re.findall(r"<option[^>]*>([^<]*)", shown)
    assert options[:5] == [ENCODER, "all 2 layers, averaged", "rolled out through all layers", "layer 1", "layer 2"]
    assert len([tag for tag, _ in reader.elements if tag == "button"]) == 3 * 4


TOUCHED = """<script>
const wait = setInterval(() => {
  if (!document.body.dataset.ready) return;
  clearInterval(wait);
  const plot = document.getElementById("plot"), { right, bottom } = plot.getBoundingClientRect();
  for (const kind of ["pointerdown", "pointerup", "pointerleave"])
    plot.dispatchEvent(new PointerEvent(kind, { pointerType: "POINTER", clientX: right - 60, clientY: bottom - 10 }));
}, 50);
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="wants Chromium")
@pytest.mark.parametrize(("pointer", "stays"), [("touch", True), ("mouse", False)])
def test_what_a_finger_touched_stays_marked_when_it_is_lifted(in_chromium, pointer, stays):
    page = attention_page(nasty_maps(), "x")
    page = re.sub(r"<meta http-equiv[^>]*>", "", page) + TOUCHED.replace("POINTER", pointer)
    assert bool(Reader(in_chromium(page)).texts.get("said", "").strip()) == stays
