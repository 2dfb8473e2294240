"""A server of checkpoints, for tests of downloads."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from audiotag.models.catalog import pull
from audiotag.models.download import PullError


class Server:
    """One file over HTTP, with ranges; `cut_after` ends the connection after so many bytes of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.cut_after: int | None = None
        self.ranges = True
        self.status = 200
        self.requests: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # clients that hang up are part of the tests
        self.url = f"http://127.0.0.1:{self.http.server_port}/release"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.data) and wanted:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cut_after])

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def refusal(*arguments, error=PullError, **options) -> str:
    with pytest.raises(error) as caught:
        pull(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def left_over(home: Path) -> list[str]:
    return sorted(p.name for p in (home / "models").iterdir() if p.suffix != ".lock")
