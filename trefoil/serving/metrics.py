"""What Prometheus reads at `/metrics`."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """
    Args:
        places: How many texts wait or are worked on.
    """

    def __init__(self, places: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "trefoil_requests", "Requests that have ended", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "trefoil_request_seconds",
            "From a request's head to its end",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.rows = Histogram(
            "trefoil_step_rows", "Texts that the model took together", buckets=ROWS, registry=self.registry
        )
        self.tokens = Counter("trefoil_tokens", "Tokens read and written", ["kind"], registry=self.registry)
        Gauge("trefoil_places", "Texts that wait or are worked on", registry=self.registry).set_function(places)

    def text(self) -> bytes:
        return generate_latest(self.registry)
