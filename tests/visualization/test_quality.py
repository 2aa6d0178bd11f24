"""The pictures of a classifier, for few labels and for many."""

import pytest
from matplotlib import image
from matplotlib import pyplot as plt

from trefoil.visualization import quality
from trefoil.visualization.quality import confusion_picture, reliability_picture


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function: what draws, what of -> the figure, and the size of its file."""
    monkeypatch.setattr(plt, "close", lambda figure: None)
    monkeypatch.setattr(quality, "DPI", 100)  # of the figure, so that its texts have their sizes

    def draw(picture, *content):
        picture(*content, tmp_path / "picture.png")
        height, width = image.imread(tmp_path / "picture.png").shape[:2]
        return plt.gcf(), (width, height)

    yield draw
    monkeypatch.undo()
    plt.close("all")


@pytest.mark.parametrize("count", [2, pytest.param(24, marks=pytest.mark.slow)])
def test_a_matrix_says_each_count_and_each_label(drawn, count):
    labels = [f"label ${number}$" for number in range(count)]
    counts = [[1000 if row == column else row * (column % 3) for column in range(count)] for row in range(count)]
    figure, size = drawn(confusion_picture, labels, counts)
    axes = figure.axes[0]
    assert {text.get_text() for text in axes.texts} == {f"{one:,}" for row in counts for one in row if one}
    assert [text.get_text() for text in axes.get_yticklabels()] == [label.replace("$", r"\$") for label in labels]
    assert min(text.get_fontsize() for text in [*axes.texts, *axes.get_xticklabels()]) >= 5
    assert min(size) > 400
    width = axes.get_window_extent().width / count  # of a cell, which holds its number
    assert all(text.get_window_extent().width < width for text in axes.texts)


def test_a_reliability_diagram(drawn):
    bins = [
        {"from": 0.5, "to": 0.6, "examples": 4, "probability": 55.0, "right": 75.0},
        {"from": 0.9, "to": 1.0, "examples": 12, "probability": 97.0, "right": 50.0},
    ]
    figure, size = drawn(reliability_picture, {"bins": bins, "expected_error": 40.25})
    above, below = figure.axes
    assert [(bar.get_x(), bar.get_height()) for bar in above.patches] == [(50, 75), (90, 50)]
    assert [bar.get_height() for bar in below.patches] == [4, 12]
    assert "40.2" in above.get_title()
    assert min(size) > 400
