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
from trefoil.visualization.attention import CROSS, ENCODER, AttentionMap, AttentionMaps, attention_maps
from trefoil.visualization.page import SCRIPT, attention_page

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


def unpacked(text, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2").reshape(shape) / 65535


def test_it_holds_all_weights_to_four_digits(model_and_tokenizer):
    maps = attention_maps(*model_and_tokenizer("encoder-decoder"), "오후 세 시 반")
    page = attention_page(maps, "세 시")
    assert [one["kind"] for one in content(page)] == [one.kind for one in maps]
    for found, expected in zip(content(page), maps, strict=True):
        assert (found["queries"], found["keys"]) == (expected.query_tokens, expected.key_tokens)
        assert (found["layers"], found["heads"]) == (2, 4)
        weights = unpacked(found["weights"], expected.weights.shape)
        np.testing.assert_allclose(weights, expected.weights.numpy(), atol=1e-5)
        rollout = unpacked(found["rollout"], expected.weights.shape[-2:])
        np.testing.assert_allclose(rollout, expected.rollout().numpy(), atol=1e-5)


def test_a_recurrent_model_has_nothing_to_roll_out(model_and_tokenizer):
    page = attention_page(attention_maps(*model_and_tokenizer("recurrent"), "오후 세 시 반"), "x")
    (only,) = content(page)
    assert only["kind"] == CROSS
    assert only["rollout"] is None


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


def test_a_long_text_stays_small():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 4, 200, 200, generator=generator).mul(2).softmax(dim=-1)
    labels = [f"token{number}" for number in range(200)]
    page = attention_page(AttentionMaps([AttentionMap(ENCODER, weights, labels, labels)], source="x"), "x")
    assert len(page) < weights.numel() * 2 * 4 / 3


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


@pytest.mark.skipif(CHROMIUM is None, reason="wants Chromium")
def test_it_comes_alive(tmp_path):
    (tmp_path / "map.html").write_text(attention_page(nasty_maps(), "x"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [CHROMIUM, *flags, "--timeout=5000", "--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path}/map.html"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    reader = Reader(done.stdout)
    assert ("body", {"data-ready": "yes"}) in reader.elements
    options = re.findall(r"<option[^>]*>([^<]*)", done.stdout)
    assert options[:5] == [ENCODER, "all 2 layers, averaged", "rolled out through all layers", "layer 1", "layer 2"]
    assert len([tag for tag, _ in reader.elements if tag == "button"]) == 3 * 4
