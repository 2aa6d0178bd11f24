"""The memory that a stream takes, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "streaming.py"


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "code"), [(2, 0), (0.1, 1)])
def test_memory_is_bounded(tmp_path, limit, code):
    arguments = ["--gigabytes", "0.02", "--limit-gigabytes", str(limit), "--folder", str(tmp_path)]
    process = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert process.returncode == code, process.stderr
    assert "peak memory: " in process.stdout
