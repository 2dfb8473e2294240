"""Recordings that are analysed while they arrive, and requests that follow them."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.audiotag.serve.servers import Server, until, wav

pytest.importorskip("uvicorn")

from starlette.exceptions import HTTPException

from audiotag.serve.arriving import ArrivingFile
from audiotag.serve.streaming import Follower, WindowStreams
from tests.audiotag.serve.test_windows import ask

QUERY = "window=2&hop=2&name=x"


class Exchange:
    """A connection on which a request is sent in parts while the answer is read."""

    def __init__(self, server: Server, head: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=300)
        self.send(f"{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode())
        self.answer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def begin(self, length: int) -> None:
        self.send(f"Content-Length: {length}\r\n\r\n".encode())

    def read(self, text: bytes | None = None) -> bytes:
        """Read until a text has come, or to the end."""
        while text is None or text not in self.answer:
            data = self.socket.recv(1 << 16)
            if not data:
                assert text is None, self.answer
                break
            self.answer += data
        return self.answer

    def lines(self) -> list[Any]:
        """Return the lines of a whole answer, which comes in chunks."""
        parts = self.read().partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
        return [json.loads(line) for line in b"".join(parts).splitlines()]


@contextmanager
def exchange(server: Server, head: str) -> Iterator[Exchange]:
    made = Exchange(server, head)
    try:
        yield made
    finally:
        made.socket.close()


def test_lines_come_while_the_body_does(server: Server) -> None:
    body = wav(60)
    with exchange(server, f"POST /windows?{QUERY}") as sent:
        sent.begin(len(body))
        sent.send(body[: len(body) // 2])
        sent.read(b'"start"')  # the other half is only sent after the first result
        sent.send(body[len(body) // 2 :])
        assert sent.lines() == ask(server, QUERY, body)[1]


def test_a_request_that_follows_an_upload(server: Server) -> None:
    body = wav(60)
    with exchange(server, f"POST /windows?{QUERY}&upload=a") as sent:
        sent.begin(len(body))
        with exchange(server, "GET /windows?upload=a") as following:
            following.send(b"\r\n")
            sent.send(body[: len(body) // 2])
            following.read(b'"start"')
            sent.send(body[len(body) // 2 :])
            assert following.lines() == ask(server, QUERY, body)[1]
        assert sent.read().startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(("body", "status"), [(b"no sound", 422), (b"", 422)])
def test_the_follower_gets_the_error(server: Server, body: bytes, status: int) -> None:
    with exchange(server, "GET /windows?upload=b") as following, exchange(server, "POST /windows?upload=b") as sent:
        following.send(b"\r\n")
        sent.begin(len(body))
        sent.send(body)
        for each in (following, sent):
            assert each.read().startswith(b"HTTP/1.1 %d " % status)


def test_two_uploads_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None

    async def received(*_: Any) -> None:
        pass

    async def run() -> list[BaseException | None]:
        streams = WindowStreams(nothing, nothing, nothing, nothing, 1, 1.0, 1.0, 1, 10)
        monkeypatch.setattr(streams, "_receive_and_send", received)
        uploads = [asyncio.create_task(streams._send_to_follower(nothing, nothing, "a")) for _ in range(2)]
        await asyncio.sleep(0)  # both begin to wait
        left, taken, end = (asyncio.get_running_loop().create_future() for _ in range(3))
        await streams.wait_for_lines("a", Follower(nothing, left, taken, end))
        return await asyncio.gather(*uploads, return_exceptions=True)

    first, second = asyncio.run(run())
    assert first is None
    assert isinstance(second, HTTPException)
    assert second.status_code == 409


def test_an_upload_that_breaks_off(server: Server) -> None:
    body = wav(60)
    with exchange(server, "GET /windows?upload=c") as following:
        following.send(b"\r\n")
        with exchange(server, "POST /windows?upload=c") as sent:
            sent.begin(len(body))
            sent.send(body[: len(body) // 2])
            following.read(b'"start"')
        assert "duration" not in following.lines()[-1]
    until(lambda: "audiotag_running 0" in server.ask("metrics")[1])


def test_a_follower_that_leaves_ends_the_analysis(server: Server) -> None:
    body = wav(60)
    with exchange(server, "POST /windows?upload=d") as sent:
        sent.begin(len(body))
        with exchange(server, "GET /windows?upload=d") as following:
            following.send(b"\r\n")
            sent.send(body[: len(body) // 2])
            following.read(b'"start"')
        until(lambda: "audiotag_running 0" in server.ask("metrics")[1])


def test_mistakes(server: Server) -> None:
    status, content = server.ask("windows")
    assert (status, content["error"]["message"]) == (
        400,
        "upload= is missing: the name that the upload of POST /windows has",
    )
    assert server.ask("tag?upload=a", wav(1))[0] == 400


def test_a_file_that_arrives(tmp_path: Path) -> None:
    content = wav(3)
    path = tmp_path / "a.wav"
    path.write_bytes(content[:1000])

    def write() -> None:
        with open(path, "ab") as file:
            for start in range(1000, len(content), 10000):
                file.write(content[start : start + 10000])
                file.flush()

    with io.BufferedReader(ArrivingFile(str(path), len(content))) as file:
        assert file.seek(0, 2) == len(content)
        file.seek(0)
        assert file.read(1000) == content[:1000]
        threading.Thread(target=write).start()
        assert file.read() == content[1000:]
        assert file.read() == b""
        file.seek(0)
        assert soundfile.info(file).frames == 96000
