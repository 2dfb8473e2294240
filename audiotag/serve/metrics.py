"""What the server counts, in Prometheus's format."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response


class Metrics:
    """Counters of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "audiotag_requests", "Requests to tag a sound, by HTTP status.", ["status"], registry=self._registry
        )
        self._latency = Histogram(
            "audiotag_request_seconds", "From the head of a request to its answer.", registry=self._registry
        )
        self._seconds = Counter("audiotag_sound_seconds", "Length of what was tagged.", registry=self._registry)
        self.running = Gauge("audiotag_running", "Sounds being tagged or waiting for it.", registry=self._registry)

    def request(self, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(str(status)).inc()
        self._latency.observe(seconds)

    def sound(self, seconds: float) -> None:
        """A sound of that length was tagged."""
        self._seconds.inc(seconds)

    async def page(self, _: Request) -> Response:
        """All counters as text."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
