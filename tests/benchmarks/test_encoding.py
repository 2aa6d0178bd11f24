"""What a first and a second start cost, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "encoding.py"


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "code"), [(60, 0), (0.001, 1)])
def test_the_second_start_finds_what_the_first_made(tmp_path, seconds, code):
    arguments = ["--gigabytes", "0.005", "--limit-seconds", str(seconds), "--folder", str(tmp_path)]
    process = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert process.returncode == code, process.stderr
    cells = [line.strip("| ").split(" | ") for line in process.stdout.splitlines() if line.startswith("|")]
    assert [row[0] for row in cells if row[0] in ("first", "second")] == ["first", "second"]
    first, second = (dict(zip(cells[0], row, strict=True)) for row in cells[2:])
    assert float(second["token ids, s"]) < float(first["token ids, s"])
    assert 100 < int(second["memory, MiB"]) < 2048
