"""Many clients get the answers that each would get alone."""

from pathlib import Path

import pytest

pytest.importorskip("fastapi")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shakespeare", "korean-reviews"])
def test_answers_are_those_alone(benchmark, name):
    printed = benchmark(
        "benchmarks/serving.py",
        ROOT / "models" / name,
        "--requests",
        60,
        "--clients",
        8,
        "--alone",
        50,
        "--new-tokens",
        4,
    )
    assert "8 clients: 60 requests in " in printed
    assert "every answer is the one of its text alone" in printed
