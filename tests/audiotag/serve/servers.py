"""A running server, and clients of it."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import soundfile


class Server:
    """A running server."""

    def __init__(self, model: str, *options: str) -> None:
        """Start it; in `options` may be further models. Unless they say so, requests may take any time to arrive."""
        command = [sys.executable, "-m", "audiotag", "serve", "--port", "0", "--model", model]
        command += ["--body-timeout", "100000", *options]
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
        """Return the status and content of an answer."""
        request = Request(self.url + path, body, headers, method="GET" if body is None else "POST")
        try:
            with urlopen(request, timeout=300) as answer:
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


def wav(seconds: float = 1.0, rate: int = 32000, seed: int = 0) -> bytes:
    samples = np.random.default_rng(seed).standard_normal(int(seconds * rate)) * 0.1
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def form(data: bytes, name: str = "clip.wav") -> tuple[bytes, str]:
    """Return a body with one file, and its type."""
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return head + data + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def exchange(server: Server, *parts: bytes, pause: float = 0.0) -> bytes:
    """Return the head of the answer to bytes that are sent as they are."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        answer = b""
        while data := client.recv(1 << 16):
            answer += data
            if b"\r\n\r\n" in answer:
                break
        return answer


def counted(server: Server) -> dict[str, float]:
    lines = server.ask("metrics")[1].splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def many(server: Server, count: int, data: bytes) -> list[int]:
    """Return the statuses of requests that are all under way at once."""

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /tag?top=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1]) if answer else 0

    return await asyncio.gather(*(one() for _ in range(count)))


def until(condition: Any, seconds: float = 300, state: Any = None) -> None:
    """Wait for a condition; after `seconds` fail with the text that `state` returns."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {state() if state else ''}"
        time.sleep(0.05)
