"""Slow, silent and vanishing clients."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.audiotag.serve.servers import Server, counted, exchange, serving, until, wav

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def server(model: str) -> Iterator[Server]:
    """A server that waits two seconds for a request."""
    with serving(model, "--body-timeout", "2") as started:
        yield started


def test_slow_clients_and_garbage(server: Server) -> None:
    head = b"POST /tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    assert exchange(server, head, b"RIFF").startswith(b"HTTP/1.1 408 ")
    assert exchange(server, b"\x16\x03\x01 garbage\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert server.ask("health")[0] == 200


def test_heads_that_do_not_come(server: Server) -> None:
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    half = b"POST /tag HTTP/1.1\r\nHo"
    for head in (b"", half):
        assert exchange(server, head).startswith(b"HTTP/1.1 408 ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as client:
        client.sendall(health)
        answers = client.recv(1 << 16)
        client.sendall(half)
        while data := client.recv(1 << 16):
            answers += data
    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 408 ") == 1


def test_clients_that_go_away(model: str) -> None:
    with serving(model) as server:
        for sent in (b"", b"POST /tag", b"POST /tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nRIFF"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(sent)
        assert server.ask("tag", wav())[0] == 200
        assert server.process.poll() is None


def test_a_client_that_does_not_read_its_answer(model: str) -> None:
    """Its answer is not kept: the connection is aborted once it has accepted nothing for the time of a write."""
    data = wav(20)
    head = b"POST /tag?window=1&hop=0.1&top=527 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data)
    with serving(model, "--write-timeout", "1") as server, ExitStack() as stack:
        clients = []
        for _ in range(3):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.settimeout(300)
            stack.enter_context(client)
            client.connect(("127.0.0.1", server.port))
            client.sendall(head + data)
            clients.append(client)
        until(lambda: counted(server).get('audiotag_requests_total{status="200"}') == 3)
        until(lambda: counted(server)["audiotag_unsent_bytes"] == 0)
        for client in clients:
            received = 0
            with suppress(ConnectionResetError):
                while chunk := client.recv(1 << 16):
                    received += len(chunk)
            assert received < 5_000_000  # of more than ten


def test_work_for_clients_that_have_left_is_dropped(model: str) -> None:
    """Both work that waits and work that has begun."""
    data = wav(60)
    head = b"POST /tag?window=1&hop=0.02&top=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data)
    with serving("untrained-mn01", "--workers", "1") as server:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(head + data)
                until(lambda: counted(server)["audiotag_running"] == 1)
            until(lambda: counted(server)["audiotag_running"] == 0)
        found = counted(server)
        assert found['audiotag_requests_total{status="499"}'] == 3
        assert found["audiotag_sound_seconds_total"] == 0
        assert server.ask("tag", wav())[0] == 200
