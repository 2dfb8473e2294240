"""`audiotag serve` as a process."""

from __future__ import annotations

import gc
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from audiotag import cli
from tests.audiotag.serve.servers import Server, counted, serving, until, wav

pytest.importorskip("uvicorn")


HEAD = b"POST /tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def end(server: Server, number: int) -> tuple[int, str]:
    """Return the exit code and last messages of a server that gets a signal."""
    server.process.send_signal(number)
    _, said = server.process.communicate(timeout=300)
    return server.process.returncode, said


def test_requests_in_progress_are_answered_before_the_end(model: str) -> None:
    with serving(model, "--workers", "1") as ending:
        data = wav()
        with socket.create_connection(("127.0.0.1", ending.port), timeout=300) as client:
            client.sendall(HEAD % len(data) + data[:-1000])
            until(lambda: ending.ask("health")[1]["waiting"] == 1)
            ending.process.send_signal(signal.SIGTERM)
            client.sendall(data[-1000:])
            answer = client.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200 ")
        _, said = ending.process.communicate(timeout=300)
        assert (ending.process.returncode, "Traceback" in said) == (0, False)


def test_sigterm_waits_for_no_client(model: str) -> None:
    """The client may not send its body, not read its answer, or wait for long work."""
    with serving(model, "--workers", "1", "--write-timeout", "100000") as ending:
        data = wav(30)
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", ending.port), timeout=300)) for _ in range(3)
            ]
            clients[0].sendall(HEAD % len(data) + data[:1000])
            large = HEAD.replace(b"/tag", b"/tag?window=1&hop=0.1&top=527") % len(data)
            clients[1].sendall(large + data)
            until(lambda: counted(ending)["audiotag_unsent_bytes"] > 0)
            clients[2].sendall(large + data)
            until(lambda: ending.ask("health")[1]["waiting"] >= 2)
            code, said = end(ending, signal.SIGTERM)
        assert (code, "Traceback" in said) == (0, False)


def test_ctrl_c(model: str) -> None:
    with serving(model) as ending:
        code, said = end(ending, signal.SIGINT)
        assert (code, "Traceback" in said) == (130, False)


def test_a_port_that_is_taken(server: Server, model: str) -> None:
    command = [sys.executable, "-m", "audiotag", "serve", "--model", model, "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "can't listen on 127.0.0.1" in done.stderr


def test_only_this_machine_reaches_it(server: Server) -> None:
    assert server.url.startswith("http://127.0.0.1:")


def test_garbage_is_collected_while_serving(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line starts without garbage collection; failed requests leave cycles of references."""
    collecting = []

    def serve(_: object, listener: socket.socket, __: str) -> None:
        listener.close()
        collecting.append(gc.isenabled())

    monkeypatch.setattr("audiotag.commands.serve._serve", serve)
    gc.disable()
    try:
        assert cli.main(["serve", "--model", model, "--port", "0"]) == 0
    finally:
        gc.enable()
        gc.unfreeze()
    assert collecting == [True]
