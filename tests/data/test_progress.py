"""What long work shows on a terminal and in a log, and that it can be told to show nothing."""

import io
import sys

import pytest

from trefoil.data import progress
from trefoil.data.progress import LogLines, in_steps, progress_bar, say, silence


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are added to it."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_in_a_log_lines_come_from_time_to_time(clock, capsys):
    lines = LogLines("encoding", 5000, first_after=2)
    for done, seconds in ((0, 1), (1000, 3), (2000, 20), (3000, 34)):
        clock[0] = seconds
        lines.show(done)
    assert capsys.readouterr().err == "encoding: 1,000 of 5,000\nencoding: 3,000 of 5,000\n"


@pytest.mark.parametrize(("items", "shown"), [([1, 2, 3], "reading: 2 of 3\n"), (iter([1, 2, 3]), "reading: 2\n")])
def test_items_pass_through(clock, capsys, items, shown):
    seen = []
    for item in progress_bar(items, "reading"):
        seen.append(item)
        clock[0] += 20
    assert seen == [1, 2, 3]
    assert capsys.readouterr().err == shown


def test_on_a_terminal_there_is_a_bar_that_goes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert list(progress_bar([1, 2], "reading")) == [1, 2]
    assert "reading:   0%" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()


def test_steps_are_lines_of_a_log_or_parts_of_a_bar(capsys, monkeypatch):
    def work():
        with in_steps("importing x", 2) as begin:
            begin("reading")
            begin("writing")

    work()
    assert capsys.readouterr().err == "importing x: reading\nimporting x: writing\n"
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    work()
    assert "importing x:   0%" in terminal.getvalue()
    assert "importing x:  50%" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()


def test_silence(monkeypatch, capsys, clock):
    with silence():
        say("something")
        for _ in progress_bar([1, 2], "reading", first_after=0):
            clock[0] += 40
        with in_steps("importing", 1) as begin:
            begin("reading")
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert not progress.shows_bars()
    assert progress.shows_bars()
    assert capsys.readouterr().err == ""
