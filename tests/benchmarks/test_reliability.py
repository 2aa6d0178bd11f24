"""Faults are made, and found: that they change nothing, tests of what meets with them hold."""

import sys

import pytest

from benchmarks import reliability


def test_what_differs_is_named():
    expected = ({1: 0.5}, [], {"steps": 1}, b"0")
    assert reliability.differences(expected, expected) == "none"
    assert reliability.differences(expected, ({1: 0.6}, [], {"steps": 1}, b"1")) == "losses and weights"


def test_checksums_are_timed(tmp_path):
    *_, row = reliability.table_of_checksums(tmp_path / "x", 0.001).splitlines()
    assert all(float(cell) >= 0 for cell in row.split("|")[2:4])


def test_a_table_takes_its_place_on_the_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table room -->\nold\n<!-- end -->\nb\n")
    monkeypatch.setattr(reliability, "table_of_room", lambda folder, kills: f"| {kills} |")
    monkeypatch.setattr(sys, "argv", ["reliability", str(page), "room", "--kills", "3"])
    reliability.main()
    assert page.read_text() == "a\n<!-- table room -->\n| 3 |\n<!-- end -->\nb\n"


def test_what_a_process_holds_is_told_of_three_times():
    watched = object.__new__(reliability.Watched)
    watched.held = [(done, done * 1_000_000, 7 + (done >= 50), 2) for done in range(100)]
    assert watched.cells(100) == ["12.0", "52.0", "97.0", "7 8 8", "2 2 2"]
    watched.held = watched.held[:90]
    with pytest.raises(AssertionError, match=r"nothing was seen of the work between 95"):
        watched.cells(100)


@pytest.mark.slow
def test_long_work_is_watched(tmp_path):
    _, _, *rows = reliability.table_of_soak(tmp_path / "x", 300).splitlines()
    assert len(rows) == 3
    for row in rows:
        early, _, late = (float(cell) for cell in row.split("|")[3:6])
        assert 0 < late < early + 50


@pytest.mark.slow
def test_the_trainer_gets_the_same_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(reliability, "DAMAGES", {"missing": reliability.DAMAGES["missing"]})
    monkeypatch.setattr(reliability, "DAMAGED_BY_TRAINER", ("optimizer.pt", "trainer_state.json"))
    lines = reliability.table_of_anchors(tmp_path / "x", 1, 1).splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[0] for row in rows[:2]] == ["killed at any instant", "killed while it writes a checkpoint"]
    assert all(int(row[3]) + int(row[5]) == 1 for row in rows[:2])
    assert rows[2:] == [
        ["missing", "`optimizer.pt`", "1", "0", "", "0", "1", "0"],
        ["missing", "`trainer_state.json`", "1", "1", "FileNotFoundError", "0", "0", "0"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["signals", "damage", "room", "publishing"])
def test_faults_are_made(tmp_path, name):
    rows = getattr(reliability, f"table_of_{name}")(tmp_path / "x", 1).splitlines()[2:]
    assert rows
    if name != "publishing":
        assert all(row.rstrip("| ").endswith("none") for row in rows)
