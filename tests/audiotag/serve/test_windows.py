"""POST /windows: lines while a recording is analysed."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiotag.errors import AudioError
from audiotag.models import catalog
from audiotag.scoring import Clip
from audiotag.sound.windows import Grid
from audiotag.tagger import Tagger
from tests.audiotag.serve.servers import Server, serving, until, wav

pytest.importorskip("uvicorn")

from audiotag.serve.decoders import Sound
from audiotag.serve.windows import CELL, WindowsRequest, lines


def ask(server: Server, query: str, body: bytes) -> tuple[int, list[Any]]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)) as client:
        client.request("POST", f"/windows?{query}", body)
        answer = client.getresponse()
        return answer.status, [json.loads(line) for line in answer.read().splitlines()]


def test_the_scores_are_those_of_tag(server: Server) -> None:
    status, (head, *windows, end) = ask(server, "window=2&hop=1&name=x", wav(5))
    assert status == 200
    assert len(head["labels"]) == 527
    assert (head["window"], head["hop"]) == (2, 1)
    _, rows = server.ask("tag?window=2&hop=1&top=527", wav(5))
    assert [(w["start"], w["end"]) for w in windows] == [(row["start"], row["end"]) for row in rows]
    for window, row in zip(windows, rows):
        scores = np.frombuffer(base64.b64decode(window["scores"]), "<u2") / 65535
        expected = {tag["index"]: tag["score"] for tag in row["tags"]}
        np.testing.assert_allclose(scores, [expected[i] for i in range(527)], atol=1e-5)
        assert 0.2 < window["peak"] < 1
    _, whole = server.ask("tag?top=10", wav(5))
    assert end["duration"] == 5
    assert end["of"] == "clip"
    assert [(t["label"], t["score"]) for t in end["tags"]] == [(t["label"], t["score"]) for t in whole["tags"]]
    assert end["spectrogram"].startswith("data:image/png;base64,")


def test_raw_samples_and_short_sounds(server: Server) -> None:
    samples = (np.random.default_rng(0).standard_normal(16000) * 3000).astype("<i2")
    status, (_, window, end) = ask(server, "raw=s16le&rate=16000", samples.tobytes())
    assert status == 200
    assert (window["start"], window["end"], end["duration"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("query", "body", "status", "cause"),
    [
        ("window=0", b"x", 400, "window"),
        ("window=2&hop=0.05", b"x", 400, "hop must be at least"),
        ("nonsense=1", b"x", 400, "nonsense"),
        ("window=2&name=a.wav", b"no sound", 422, "a.wav: is not sound in a format"),
        ("window=2", b"", 422, "empty"),
    ],
)
def test_mistakes(server: Server, query: str, body: bytes, status: int, cause: str) -> None:
    answered, (content,) = ask(server, query, body)
    assert answered == status
    assert cause in content["error"]["message"]


def test_sound_that_is_missing_is_told_in_the_last_line(server: Server) -> None:
    whole = wav(20)
    status, (_, *windows, end) = ask(server, "window=2&hop=1&name=cut.wav", whole[: len(whole) // 2])
    assert status == 200
    assert len(windows) == 9
    assert end["duration"] == 10
    _, row = server.ask("tag", whole[: len(whole) // 2])
    assert end["warning"] == row["warning"]


def test_an_error_after_some_windows_is_the_last_line() -> None:
    class Breaking:
        def stream(self, sound: Sound, abandoned: Any, notes: list[str], arriving: Any) -> Iterator[Any]:
            yield np.zeros(5 * 32000, np.float32)
            raise AudioError(sound.name, "is damaged")

    request = WindowsRequest("", "a.wav", Grid(2, 1), 60)
    made = lines(Tagger(), Breaking(), request)  # type: ignore[arg-type]  # it has all that `lines` uses
    seen = [next(made) for _ in range(5)]
    assert [line.get("start") for line in seen] == [None, 0, 1, 2, 3]
    with pytest.raises(AudioError, match="is damaged"):
        next(made)


@pytest.mark.trials
def test_a_model_with_frames_has_cells_of_its_own(shared: Path, tmp_path: Path) -> None:
    catalog.convert(shared / "data/families/fmn06/fmn06.pt", tmp_path / "fmn06.onnx")
    tagger = Tagger(tmp_path / "fmn06.onnx")
    samples = np.random.default_rng(0).standard_normal(23 * 16000 + 100).astype(np.float32) / 100
    samples[17 * 16000 : 18 * 16000] *= 30

    class Blocks:
        def stream(self, sound: Sound, abandoned: Any, notes: list[str], arriving: Any) -> Iterator[Any]:
            yield from np.array_split(samples, 7)

    request = WindowsRequest("", "a.wav", Grid(2, 1), 60)
    head, *cells, end = lines(tagger, Blocks(), request)  # type: ignore[arg-type]  # it has all that `lines` uses
    assert (head["window"], head["hop"], end["duration"]) == (CELL, CELL, 23.006)
    assert [cell["end"] for cell in cells[:-1]] == [cell["start"] for cell in cells[1:]]
    starts = np.array([cell["start"] for cell in cells])
    # the last piece ends with the clip, so its frames are slightly shifted against the others
    np.testing.assert_allclose(starts, np.arange(len(cells)) * CELL, atol=0.021)
    frames = list(tagger.scorer.events(Clip(samples, 16000, None, ""), None, None, []))
    for cell in cells:
        inside = [frame.scores for frame in frames if cell["start"] < (frame.start + frame.end) / 2 < cell["end"]]
        scores = np.frombuffer(base64.b64decode(cell["scores"]), "<u2") / 65535
        np.testing.assert_allclose(scores, np.max(inside, axis=0), rtol=0, atol=1e-4)
        loud = 17 < (cell["start"] + cell["end"]) / 2 < 18
        assert (cell["peak"] > 0.3) == loud


def test_a_client_that_leaves_costs_nothing_more(server: Server) -> None:
    body = wav(60)
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as client:
        head = f"POST /windows?window=2&hop=0.1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        client.recv(100)

    def running() -> float:
        _, text = server.ask("metrics")
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith("audiotag_running ")))

    until(lambda: running() == 0)
    assert ask(server, "window=2", wav(2))[0] == 200


def test_the_files_of_the_page(server: Server) -> None:
    for name in ("main.js", "engine.js", "result.js", "page.css"):
        status, text = server.ask(f"page/{name}")
        assert status == 200
        assert len(text) > 500
    assert server.ask("page/nothing.js")[0] == 404
    assert server.ask("page/index.html")[0] == 404


def test_recordings_wait_for_each_other(model: str) -> None:
    """Each needs a decoder process, of which there is one per worker."""
    with serving(model, "--workers", "1", "--queue", "4") as server:

        def one(seed: int) -> tuple[int, int]:
            status, found = ask(server, "window=2&hop=0.25", wav(10, seed=seed))
            return status, len(found)

        with ThreadPoolExecutor(12) as clients:
            answers = list(clients.map(one, range(12)))
        assert set(answers) <= {(200, 35), (503, 1)}
        assert (200, 35) in answers
        assert one(0) == (200, 35)
