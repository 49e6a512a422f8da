"""What the server counts, as Prometheus text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """Counters of one application: each application has its own registry, so that two in a process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("isthmus_requests", "Requests answered.", ("route", "status"), registry=self._registry)
        self.seconds = Histogram(
            "isthmus_request_seconds",
            "Seconds from the headers of a request to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.call_rows = Histogram(
            "isthmus_call_rows", "Rows of each call of the model.", buckets=ROWS, registry=self._registry
        )
        self.in_flight = Gauge(
            "isthmus_requests_in_flight", "Requests that are not answered yet.", registry=self._registry
        )

    def text(self) -> bytes:
        """All counters in Prometheus' text format."""
        found: bytes = generate_latest(self._registry)
        return found
