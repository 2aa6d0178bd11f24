"""How many examples hypothesis tries: few in the fast tests, more in those marked slow, and the same ones each time."""

import pytest

hypothesis = pytest.importorskip("hypothesis")


def examples(count, **options):
    """Settings for a test; none has a deadline, and nothing is kept on the disk."""
    health = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
    return hypothesis.settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=health, **options
    )


FEW, MANY = pytest.param(0.5, id="few"), pytest.param(20, id="many", marks=pytest.mark.slow)


def times(function, count, times, *arguments):
    """Runs a test that hypothesis makes, on so many times its usual examples."""
    examples(round(count * times))(function)(*arguments)
