"""`audiotag serve`, by a real client and in a real browser."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import soundfile

from audiotag import Tagger

pytest.importorskip("uvicorn")


class Server:
    """A running server."""

    def __init__(self, model: str, *options: str) -> None:
        command = [sys.executable, "-m", "audiotag", "serve", "--port", "0", "--model", model, *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.said = ""
        for line in self.process.stderr:
            self.said += line
            if "listening on" in line:
                break
        else:
            raise AssertionError(self.said)
        self.url = line.split()[-1]
        self.port = int(self.url.rstrip("/").rsplit(":", 1)[1])

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and content of an answer."""
        request = Request(self.url + path, body, headers, method="GET" if body is None else "POST")
        try:
            with urlopen(request, timeout=30) as answer:
                status, content, kind = answer.status, answer.read(), answer.headers["content-type"]
        except HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers["content-type"]
        return status, json.loads(content) if kind == "application/json" else content.decode()


@contextmanager
def serving(model: str, *options: str) -> Iterator[Server]:
    server = Server(model, *options)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def server(model: str) -> Iterator[Server]:
    with serving(model, "--max-mib", "2", "--max-seconds", "20", "--body-timeout", "1") as started:
        yield started


def wav(seconds: float = 1.0, rate: int = 32000, seed: int = 0) -> bytes:
    samples = np.random.default_rng(seed).standard_normal(int(seconds * rate)) * 0.1
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def form(data: bytes, name: str = "clip.wav") -> tuple[bytes, str]:
    """A body with one file, and its type."""
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return head + data + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def test_the_answer_is_the_row_of_the_command(server: Server, model: str) -> None:
    data = wav()
    expected = Tagger(model).tag(data, top=3, name="a.wav").to_dict()
    assert server.ask("tag?top=3&name=a.wav", data) == (200, expected)
    body, kind = form(data, "a.wav")
    assert server.ask("tag?top=3", body, **{"Content-Type": kind}) == (200, expected)


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
    "raw=mp3": "raw is one of",
    "rate=8000": "describe raw samples",
    "tops=3": "no parameter is called 'tops'",
    "spectrogram=yes": "neither 0 nor 1",
}


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_wrong_parameters(server: Server, query: str) -> None:
    status, content = server.ask(f"tag?{query}", wav())
    assert (status, content["error"]["status"]) == (400, 400)
    assert BAD_QUERIES[query] in content["error"]["message"]


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


def test_broken_forms(server: Server) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"--x--\r\n", b"nothing", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'):
        assert server.ask("tag", body, **headers)[0] == 400


def test_too_large_and_too_long(server: Server) -> None:
    large = bytes(3 << 20)
    assert server.ask("tag", large)[0] == 413
    assert server.ask("tag", form(large)[0], **{"Content-Type": form(b"")[1]})[0] == 413
    status, content = server.ask("tag", wav(21, 8000))
    assert (status, content["error"]["message"]) == (413, "<request>: longer than 20 s")


def exchange(server: Server, *parts: bytes, pause: float = 0.0) -> bytes:
    """The head of the answer to bytes that are sent as they are."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        answer = b""
        while data := client.recv(1 << 16):
            answer += data
            if b"\r\n\r\n" in answer:
                break
        return answer


def test_a_body_of_unknown_length_is_counted(server: Server) -> None:
    head = b"POST /tag HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % (3 << 20) + bytes(3 << 20) + b"\r\n0\r\n\r\n"
    assert exchange(server, head, chunk).startswith(b"HTTP/1.1 413 ")


def test_too_many_windows(server: Server) -> None:
    for query in ("window=0.02&hop=0.01&top=1", "window=5&hop=0.1&top=1"):
        status, content = server.ask(f"tag?{query}", wav(19))
        assert status == 413
        assert "windows and" in content["error"]["message"]
    assert len(server.ask("tag?window=1&hop=0.1&top=527", wav(19))[1]) == 181
    assert len(server.ask("tag?window=1200", wav())[1]) == 1


def test_uploads_that_wait_have_room_in_all() -> None:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request as Asked

    from audiotag.serve.body import Room, receive

    async def upload(size: int, room: Room) -> bytes:
        async def body() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(size), "more_body": False}

        async with receive(Asked({"type": "http", "headers": []}, body), 100, 1, room) as received:
            if room.left > 50:
                with pytest.raises(HTTPException) as caught:
                    await upload(80, room)
                assert caught.value.status_code == 503
            return received.file.read()

    room = Room(150)
    assert asyncio.run(upload(80, room)) == bytes(80)
    with pytest.raises(HTTPException, match="413"):
        asyncio.run(upload(101, room))
    assert room.left == 150


def test_a_client_that_asks_first_is_told_before_it_sends(server: Server) -> None:
    head = b"POST /tag HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    assert exchange(server, head).startswith(b"HTTP/1.1 413 ")


def test_slow_clients_and_garbage(server: Server) -> None:
    head = b"POST /tag HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    assert exchange(server, head, b"RIFF").startswith(b"HTTP/1.1 408 ")
    assert exchange(server, b"\x16\x03\x01 garbage\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert server.ask("health")[0] == 200


def test_heads_that_do_not_come(server: Server) -> None:
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    half = b"POST /tag HTTP/1.1\r\nHo"
    for head in (b"", half):
        assert exchange(server, head).startswith(b"HTTP/1.1 408 ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(health)
        answers = client.recv(1 << 16)
        time.sleep(0.2)
        client.sendall(half)
        while data := client.recv(1 << 16):
            answers += data
    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 408 ") == 1


def test_clients_that_go_away(server: Server) -> None:
    for sent in (b"", b"POST /tag", b"POST /tag HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nRIFF"):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(sent)
    assert server.ask("tag", wav())[0] == 200
    assert server.process.poll() is None


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


def counted(server: Server) -> dict[str, float]:
    lines = server.ask("metrics")[1].splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def many(server: Server, count: int, data: bytes) -> list[int]:
    """The statuses of requests that are all under way at once."""

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /tag?top=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1]) if answer else 0

    return await asyncio.gather(*(one() for _ in range(count)))


def test_a_thousand_at_once(server: Server) -> None:
    assert asyncio.run(many(server, 1000, wav(0.1))) == [200] * 1000


def test_more_than_may_wait_are_told_to_come_back(model: str) -> None:
    with serving(model, "--queue", "4", "--workers", "1") as small:
        statuses = asyncio.run(many(small, 200, wav(5)))
        assert set(statuses) == {200, 503}
        assert small.ask("tag", wav())[0] == 200


def test_what_is_under_way_is_answered_before_the_end(model: str) -> None:
    with serving(model, "--workers", "1") as ending:
        data = wav(60)
        head = b"POST /tag HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
        with socket.create_connection(("127.0.0.1", ending.port), timeout=30) as client:
            client.sendall(head + data[:-1000])
            time.sleep(0.2)
            ending.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            client.sendall(data[-1000:])
            answer = client.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200 ")
        _, said = ending.process.communicate(timeout=10)
        assert "Traceback" not in said


def test_ctrl_c(model: str) -> None:
    with serving(model) as ending:
        ending.process.send_signal(signal.SIGINT)
        _, said = ending.process.communicate(timeout=10)
        assert "Traceback" not in said


def test_a_port_that_is_taken(server: Server, model: str) -> None:
    command = [sys.executable, "-m", "audiotag", "serve", "--model", model, "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "can't listen on 127.0.0.1" in done.stderr


def test_only_this_machine_reaches_it(server: Server) -> None:
    assert server.url.startswith("http://127.0.0.1:")


def test_the_page_tags_a_file(server: Server, tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "noise.wav"
    path.write_bytes(wav(8))
    browser.get(server.url)
    browser.find_element("id", "file").send_keys(str(path))
    until(lambda: len(browser.find_elements("css selector", ".cells")) == 8)
    assert "noise.wav, 8.00 s" in browser.find_element("id", "title").text
    assert len(browser.find_elements("css selector", "#tags li")) == 10
    assert browser.execute_script("return document.getElementById('mel').naturalWidth") > 100
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_page_says_what_is_wrong(server: Server, tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "text.wav"
    path.write_text("no sound")
    browser.get(server.url)
    browser.find_element("id", "file").send_keys(str(path))
    until(lambda: "not sound in a format" in browser.find_element("id", "status").text)
    assert not browser.find_element("id", "result").is_displayed()


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
