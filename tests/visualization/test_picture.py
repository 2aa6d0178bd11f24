"""The picture, and the fonts that it is drawn with."""

import pytest
import torch
from conftest import seldom
from matplotlib import image

from trefoil.visualization.attention import CROSS, ENCODER, AttentionMap, AttentionMaps, attention_maps
from trefoil.visualization.picture import attention_picture, find_fonts

NOWHERE = "\U0010fffd"  # of private use: no font has it


@pytest.mark.slow
@pytest.mark.parametrize("family", seldom(["encoder-decoder", "recurrent"], "encoder-decoder"))
def test_every_kind(model_and_tokenizer, tmp_path, family):
    attention_picture(attention_maps(*model_and_tokenizer(family), "half past three"), tmp_path / "map.png")
    pixels = image.imread(tmp_path / "map.png")
    assert min(pixels.shape[:2]) > 200
    assert len({tuple(pixel) for pixel in pixels[::4, ::4].reshape(-1, pixels.shape[-1]).round(2).tolist()}) > 20


def maps_of(labels):
    weights = torch.eye(len(labels)).expand(1, 1, -1, -1)
    return AttentionMaps([AttentionMap(CROSS, weights, labels, labels)], source="x")


def test_a_missing_font_is_said_in_one_line(tmp_path, capsys, recwarn):
    attention_picture(maps_of(["a", NOWHERE, "$x$", "$"]), tmp_path / "map.png")
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"shows boxes for {NOWHERE}: no font" in told
    assert (tmp_path / "map.png").is_file()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_nothing_is_said_where_nothing_is_missing(tmp_path, capsys):
    attention_picture(maps_of(["half", "␣past", "é₁", "⏎"]), tmp_path / "map.png")
    assert capsys.readouterr().err == ""


def test_the_colour_bar_stands_beside_its_map(tmp_path, monkeypatch):
    """also beside one that is narrower than another below it"""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *_, **__: (figures.append(figure), figure.draw_without_rendering())
    )
    labels = ["a"] * 24
    maps = [AttentionMap(CROSS, torch.eye(24)[None, None, :, :keys], labels, labels[:keys]) for keys in (10, 24)]
    attention_picture(AttentionMaps(maps, source="x"), tmp_path / "map.png")
    drawn = [axes for axes in figures[0].axes if axes.images]
    assert len(drawn) == 2
    for axes in drawn:
        (bar,) = axes.child_axes
        gap = bar.get_window_extent().x0 - axes.get_window_extent().x1
        assert 0 < gap / figures[0].dpi < 0.2  # inches


def test_korean_has_a_font_or_is_missing():
    families, missing = find_fonts("half 세 시")
    assert families[0] == "DejaVu Sans"
    assert not set("half ") & missing
    assert (missing == set("세시")) == (len(families) == 1)


@pytest.mark.slow
def test_a_long_text(tmp_path):
    weights = torch.rand(1, 1, 170, 170)
    labels = ["token"] * 170
    attention_picture(AttentionMaps([AttentionMap(ENCODER, weights, labels, labels)], source="x"), tmp_path / "map.png")
    assert max(image.imread(tmp_path / "map.png").shape) <= 16000
