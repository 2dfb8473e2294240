"""Foreign host names, ambiguous requests, and headers of responses."""

from __future__ import annotations

import pytest

pytest.importorskip("uvicorn")

from audiotag.serve.guard import Guard, host_name
from tests.audiotag.serve.servers import Server, exchange


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8000", "localhost"),
        ("LocalHost.", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("a.example:1", "a.example"),
        ("", ""),
    ],
)
def test_host_names(header: str, name: str) -> None:
    assert host_name(header) == name


def test_allowed_hosts() -> None:
    guard = Guard(None, ["Tagger.example.", "0.0.0.0"])  # type: ignore[arg-type]  # it is never called
    for host in ("tagger.example:8000", "localhost", "a.localhost:1", "10.1.2.3", "[fe80::1]:8000"):
        assert guard._allows(host)
    for host in ("evil.example", "tagger.example.evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""):
        assert not guard._allows(host)


def test_a_foreign_host_is_refused(server: Server) -> None:
    """A page of another site could reach the server by a name that resolves to this machine."""
    for host in (b"evil.example", b"evil.example:%d" % server.port, b"localhost.evil.example"):
        answer = exchange(server, b"GET /health HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
        assert answer.startswith(b"HTTP/1.1 421 ")
    for host in (b"localhost", b"127.0.0.1:%d" % server.port, b"[::1]"):
        assert exchange(server, b"GET /health HTTP/1.1\r\nHost: %s\r\n\r\n" % host).startswith(b"HTTP/1.1 200 ")


def test_two_lengths_are_refused(server: Server) -> None:
    head = b"POST /tag HTTP/1.1\r\nHost: localhost\r\n"
    for lengths in (
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"Content-Length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    ):
        answer = exchange(server, head + lengths + b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in answer.lower()


def test_headers_of_every_response(server: Server) -> None:
    for request in (b"GET /", b"GET /labels", b"GET /metrics", b"GET /nothing", b"POST /labels"):
        answer = exchange(server, request + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").lower()
        assert b"x-content-type-options: nosniff" in answer
        assert b"frame-ancestors 'none'" in answer
