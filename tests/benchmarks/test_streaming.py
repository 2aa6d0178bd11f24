"""The memory that a stream takes, in a process of its own."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "code"), [(2, 0), (0.1, 1)])
def test_memory_is_bounded(benchmark, tmp_path, limit, code):
    arguments = ["--gigabytes", "0.02", "--limit-gigabytes", limit, "--folder", tmp_path]
    printed = benchmark("benchmarks/streaming.py", *arguments, code=code)
    assert "peak memory: " in printed
