"""What scale costs, tried on a tiny model in processes of its own."""

import pytest

from benchmarks import scale


def cells(printed):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line[:1] == "|"]


@pytest.fixture
def rows_of(benchmark):
    """The cells of the tables that it prints."""
    return lambda *words: cells(benchmark("-m", "benchmarks.scale", *words))


def test_the_computed_table(capsys):
    scale.computed()
    assert cells(capsys.readouterr().out)[2:] == [
        ["124 million", "1.5", "2.0", "1.0", "0.5", "0.2", "0.0"],
        ["1 billion", "12.0", "16.0", "8.0", "4.0", "2.0", "0.2"],
        ["8 billion", "96.0", "128", "64.0", "32.0", "16.0", "2.0"],
    ]


@pytest.mark.slow
def test_checkpoints_are_timed(rows_of, tmp_path):
    rows = rows_of("checkpoints", "--hidden-size", "64", "--rounds", "2", "--folder", tmp_path)
    assert [row[0] for row in rows[2:]] == ["training waits for the disk", "training goes on"]
    assert all(float(row[1]) >= 0 for row in rows[2:])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_memory_falls_with_the_number_of_processes(rows_of):
    rows = rows_of("memory", "--hidden-size", "256")
    measured = {row[0]: [float(cell) for cell in row[2].split(",")] for row in rows[2:]}
    assert [len(values) for values in measured.values()] == [1, 2, 2, 4, 2]
    assert max(measured["FSDP2 on 4"]) < min(measured["DDP on 2"]) / 2
