import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark():
    """Runs a benchmark in a process of its own; returns what it printed."""

    def run(*words, code=0):
        command = [sys.executable, *map(str, words)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == code, process.stderr
        return process.stdout

    return run
