"""Metrics of the server in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "audiotag_requests", "Requests to tag a sound, by HTTP status.", ["status"], registry=self._registry
        )
        self._latency = Histogram(
            "audiotag_request_seconds", "Time from the head of a request to its answer.", registry=self._registry
        )
        self._seconds = Counter("audiotag_sound_seconds", "Seconds of sound that were tagged.", registry=self._registry)
        self._unsent = Gauge(
            "audiotag_unsent_bytes", "Bytes of answers that clients have not read yet.", registry=self._registry
        )
        self.running = Gauge("audiotag_running", "Sounds being tagged or waiting for it.", registry=self._registry)

    def request(self, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(str(status)).inc()
        self._latency.observe(seconds)

    def watch_unsent(self, size: Callable[[], int]) -> None:
        """Report the result of `size` as the number of unsent bytes."""
        self._unsent.set_function(size)

    def sound(self, seconds: float) -> None:
        """Count a tagged sound of the given length."""
        self._seconds.inc(seconds)

    async def page(self, _: Request) -> Response:
        """Answer with all metrics as text."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
