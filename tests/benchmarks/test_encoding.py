"""What a first and a second start cost, each in a process of its own."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "code"), [(60, 0), (0.001, 1)])
def test_the_second_start_finds_what_the_first_made(benchmark, tmp_path, seconds, code):
    arguments = ["--gigabytes", "0.005", "--limit-seconds", seconds, "--folder", tmp_path]
    printed = benchmark("benchmarks/encoding.py", *arguments, code=code)
    cells = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("|")]
    assert [row[0] for row in cells if row[0] in ("first", "second")] == ["first", "second"]
    first, second = (dict(zip(cells[0], row, strict=True)) for row in cells[2:])
    assert float(second["token ids, s"]) < float(first["token ids, s"])
    assert 100 < int(second["memory, MiB"]) < 2048
