"""Parameters of requests, and their limits."""

from __future__ import annotations

import numpy as np
import pytest

from audiotag import Tagger
from tests.audiotag.serve.servers import Server, wav

pytest.importorskip("uvicorn")


def test_parameters_are_those_of_the_command(server: Server, model: str) -> None:
    samples = (np.random.default_rng(1).standard_normal(16000) * 3000).astype("<i2")
    expected = Tagger(model).tag(samples, 16000, top=2, labels="Dog,Siren", threshold=0.01, name="<request>").to_dict()
    query = "raw=s16le&rate=16000&channels=1&top=2&labels=Dog,Siren&threshold=0.01"
    assert server.ask(f"tag?{query}", samples.tobytes()) == (200, expected)


def test_windows(server: Server, model: str) -> None:
    data = wav(3)
    expected = [row.to_dict() for row in Tagger(model).tag_windows(data, 1, 0.5, top=1, name="<request>")]
    assert len(expected) == 5
    assert server.ask("tag?window=1&hop=0.5&top=1", data) == (200, expected)


BAD_QUERIES = {
    "top=x": "top=x",
    "threshold=2": "threshold=2",
    "labels=Dogg": "did you mean",
    "hop=1": "hop needs window",
    "window=nan": "window=nan",
    "raw=mp3": "raw must be one of",
    "rate=8000": "need raw",
    "tops=3": "unknown parameter 'tops'",
    "spectrogram=yes": "neither 0 nor 1",
}


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_wrong_parameters(server: Server, query: str) -> None:
    status, content = server.ask(f"tag?{query}", wav())
    assert (status, content["error"]["status"]) == (400, 400)
    assert BAD_QUERIES[query] in content["error"]["message"]


def test_too_many_windows(server: Server) -> None:
    for query in ("window=0.02&hop=0.01&top=1", "window=5&hop=0.1&top=1"):
        status, content = server.ask(f"tag?{query}", wav(19))
        assert status == 413
        assert "windows and" in content["error"]["message"]
    assert len(server.ask("tag?window=1&hop=0.1&top=527", wav(19))[1]) == 181
    assert len(server.ask("tag?window=1200", wav())[1]) == 1
