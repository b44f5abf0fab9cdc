"""What a server counts, in the text format of Prometheus; nothing in it tells what people asked."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "miniclip_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "miniclip_request_seconds",
            "Time until a request was answered.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "miniclip_batch_size",
            "Images, or texts, in one run of the model.",
            ("tower",),
            buckets=_SIZES,
            registry=self.registry,
        )
        self.in_hand = self._gauge("miniclip_requests_in_hand", "Requests being answered.")
        self.texts_waiting = self._gauge("miniclip_texts_waiting", "Texts that wait for the model.")
        self.images_waiting = self._gauge("miniclip_images_waiting", "Images that are not done.")
        self.restarts = self._gauge("miniclip_decoder_restarts", "Decoders that were replaced.")

    def saw_batch(self, tower: str, size: int) -> None:
        """Count a run of the model; called from the threads that run it."""
        self.batches.labels(tower).observe(size)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, method, status).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self.registry)
