import json
import math

import pytest
from matplotlib import pyplot as plt

from trefoil.training.plot import plot_run


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws a run with these losses, and gives the axes of the losses, or of the scores."""
    monkeypatch.setattr(plt, "close", lambda figure: None)

    def draw(training, validation, metric="f1", place=0, **options):
        entries = [{"step": step, "loss": loss} for step, loss in enumerate(training, start=1)]
        entries += [
            {"step": step, "validation_loss": loss, f"validation_{metric}": loss} for step, loss in validation.items()
        ]
        log = tmp_path / "log.jsonl"
        log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        plot_run(log, metric, tmp_path / "curve.png", **options)
        assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
        return plt.gcf().axes[place]

    yield draw
    monkeypatch.undo()
    plt.close("all")


FALLING = [6 * math.exp(-step / 60) + 0.2 for step in range(300)]


def test_a_validation_loss_above_the_training_loss_is_seen(drawn):
    bottom, top = drawn(FALLING, {100: 3.0, 200: 5.5, 300: 9.0}).get_ylim()
    assert bottom < min(FALLING)
    assert 9.0 < top < 9.5


def test_the_first_losses_do_not_press_the_rest_together(drawn):
    _, top = drawn([90.0, 80.0, 70.0, *FALLING[3:]], {300: 0.3}).get_ylim()
    assert top < 6.5


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_losses_that_are_not_finite_leave_the_axes_be(drawn, odd):
    bottom, top = drawn([*FALLING, odd], {100: 1.0, 300: odd}).get_ylim()
    assert 0 < bottom < top < 7


def test_a_run_without_losses_is_drawn(drawn):
    drawn([], {})


def names_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_smoothed_labels_are_told(drawn):
    told = names_of(drawn(FALLING, {100: 1.0}, label_smoothing=0.1))
    assert told == ["training, labels smoothed by 0.1", "its mean over 20 points", "validation"]
    assert names_of(drawn([2.0, 1.0], {2: 1.0})) == ["training", "validation"]


@pytest.mark.parametrize(
    ("metric", "minimized", "title"),
    [("bleu", False, "BLEU of the validation split; best: 5.5"),
     ("exact_match", True, "Exact match of the validation split; best: 3")],
)  # fmt: skip
def test_the_metric_has_a_name_its_best_value_and_the_steps_of_the_losses(drawn, metric, minimized, title):
    scores = drawn(FALLING, {100: 3.0, 200: 5.5}, metric, place=1, minimized=minimized)
    assert scores.get_title() == title
    assert scores.get_xlim()[0] < 1
    assert scores.get_xlim()[1] > 299
