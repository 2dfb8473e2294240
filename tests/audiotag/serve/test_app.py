"""`audiotag serve`, by a real client and in a real browser."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from audiotag import Tagger
from tests.audiotag.serve.servers import Server, counted, form, many, serving, wav

pytest.importorskip("uvicorn")


def test_the_answer_is_the_row_of_the_command(server: Server, model: str) -> None:
    data = wav()
    expected = Tagger(model).tag(data, top=3, name="a.wav").to_dict()
    assert server.ask("tag?top=3&name=a.wav", data) == (200, expected)
    body, kind = form(data, "a.wav")
    assert server.ask("tag?top=3", body, **{"Content-Type": kind}) == (200, expected)


NO_SOUND = {
    "nothing": b"",
    "text": b"This is no sound.\n" * 100,
    "noise": np.random.default_rng(0).bytes(1000),
    "half a header": wav()[:30],
    "not a number": b"RIFF",
}


@pytest.mark.parametrize("case", NO_SOUND)
def test_what_is_no_sound(server: Server, case: str) -> None:
    status, content = server.ask("tag", NO_SOUND[case])
    assert status == 422
    assert content["error"]["message"].startswith("<request>: ")


def test_other_pages(server: Server) -> None:
    assert server.ask("tag")[0] == 405
    assert server.ask("nothing")[0] == 404
    status, labels = server.ask("labels")
    assert (status, len(labels), labels[0]["label"]) == (200, 527, "Speech")
    status, health = server.ask("health")
    assert (status, health["status"], health["model"]["name"]) == (200, "ok", "linear.onnx")
    before = counted(server)
    server.ask("tag", wav(2))
    server.ask("tag", b"text")
    after = counted(server)
    assert after["audiotag_sound_seconds_total"] - before["audiotag_sound_seconds_total"] == 2
    for status_label in ('{status="200"}', '{status="422"}'):
        name = f"audiotag_requests_total{status_label}"
        assert after[name] - before.get(name, 0) == 1


def test_a_thousand_at_once(model: str) -> None:
    with serving(model) as patient:
        assert asyncio.run(many(patient, 1000, wav(0.1))) == [200] * 1000


def test_more_than_may_wait_are_told_to_come_back(model: str) -> None:
    with serving(model, "--queue", "4", "--workers", "1") as small:
        statuses = asyncio.run(many(small, 200, wav(5)))
        assert set(statuses) == {200, 503}
        assert small.ask("tag", wav())[0] == 200
