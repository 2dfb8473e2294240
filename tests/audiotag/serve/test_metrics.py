from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("prometheus_client")

from audiotag.serve.metrics import Metrics


def values(metrics):
    text = asyncio.run(metrics.page(None)).body.decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_everything_is_counted():
    metrics = Metrics()
    metrics.watch_unsent(lambda: 123)
    metrics.request(200, 0.5)
    metrics.request(200, 1.5)
    metrics.request(422, 0.25)
    metrics.sound(10.0)
    with metrics.running.track_inprogress():
        found = values(metrics)
    assert found['audiotag_requests_total{status="200"}'] == 2
    assert found['audiotag_requests_total{status="422"}'] == 1
    assert found["audiotag_request_seconds_sum"] == 2.25
    assert found["audiotag_request_seconds_count"] == 3
    assert found["audiotag_sound_seconds_total"] == 10
    assert found["audiotag_unsent_bytes"] == 123
    assert (found["audiotag_running"], values(metrics)["audiotag_running"]) == (1, 0)


def test_applications_do_not_share_metrics():
    Metrics().request(200, 1.0)
    assert 'audiotag_requests_total{status="200"}' not in values(Metrics())
