import json
import math

import pytest
from matplotlib import pyplot as plt

from trefoil.training.plot import plot_run


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws a run with these losses, and gives the axes of the losses."""
    monkeypatch.setattr(plt, "close", lambda figure: None)

    def draw(training, validation):
        entries = [{"step": step, "loss": loss} for step, loss in enumerate(training, start=1)]
        entries += [{"step": step, "validation_loss": loss, "validation_f1": loss} for step, loss in validation.items()]
        log = tmp_path / "log.jsonl"
        log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        plot_run(log, "f1", tmp_path / "curve.png")
        assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
        return plt.gcf().axes[0]

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
