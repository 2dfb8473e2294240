"""A job for tests of the pool: the names of files tell it what to do."""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from audiotag.crawl import workers
from audiotag.crawl.job import EncodedRows, End
from audiotag.crawl.pool import Pool
from audiotag.crawl.workers import CHUNK
from audiotag.errors import ModelError
from audiotag.models.catalog import ResolvedModel
from audiotag.results import Failure

ROOT = Path(__file__).resolve().parents[3]


MODEL = ResolvedModel("fake", b"content", True, "")


LINUX = pytest.mark.skipif(not workers.FORK, reason="Linux only")


LIMIT = 300
"""Seconds after which waiting for an event has failed; much longer than it takes on any machine."""


def wait_for(condition, what):
    """Wait until the condition holds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Job:
    """A job that files control by their names.

    "meet N NAME" ends once N workers work on such files at the same time.
    """

    def __init__(self, folder: Path, at_load: str = "") -> None:
        self.folder = folder
        self.at_load = at_load
        self.worker = 0

    def load(self):
        self.loader = os.getpid()
        note_pid(self.folder / "loads")
        if self.at_load == "die":
            os._exit(7)
        if self.at_load == "refuse":
            raise ModelError("no such model")
        if self.at_load == "change":
            return replace(MODEL, source=str(os.getpid()).encode()).summary()
        return MODEL.summary()

    def warm_up(self):
        with open(self.folder / "loads") as file:
            self.first = len(file.readlines()) == 1

    def listen(self, reached):
        self.reached = reached

    def events(self, path):
        faulthandler.disable()  # of a test's process: it would report
        if self.worker != os.getpid():
            self.worker = os.getpid()
            note_pid(self.folder / "works")
        what, _, detail = path.partition(" ")
        if what == "exit":
            os._exit(3)
        elif what == "signal":
            os.kill(os.getpid(), int(detail))
        elif what == "once" and not (self.folder / detail).exists():
            (self.folder / detail).touch()
            yield EncodedRows(b"half of it\n" * CHUNK)
            os.kill(os.getpid(), signal.SIGSEGV)
        elif what == "hang":
            note_pid(self.folder / "hangs")
            time.sleep(1000)
        elif what == "hold":
            ctypes.PyDLL(None).sleep(1000)  # without letting go of the interpreter's lock
        elif what == "meet":
            note_pid(self.folder / "met")
            wait_for(lambda: len(pids(self.folder / "met")) >= int(detail.split()[0]), "the workers never met")
            yield EncodedRows(f"{os.getpid()} ".encode())
        elif what == "sleep":
            time.sleep(float(detail.split()[0]))
        elif what == "large":
            for _ in range(int(detail.split()[0])):
                yield EncodedRows(b"x" * 999 + b"\n")
        elif what == "long":
            self.reached(float(detail))
        elif what == "fail":
            yield EncodedRows(b"before\n")
            yield End(path, Failure(path, "AudioError", "bad"), 1.0)
            return
        elif what == "first":
            note_pid(self.folder / "met")
            wait_for(lambda: len(pids(self.folder / "met")) >= int(detail), "the workers never met")
            yield EncodedRows(b"alone " if self.first else b"later ")
        elif what == "orphan" and not (self.folder / detail).exists():
            (self.folder / detail).touch()
            if os.getppid() == self.loader:  # it may be dead already
                os.kill(self.loader, signal.SIGKILL)
            time.sleep(1000)
        yield EncodedRows(f"{path}\n".encode())
        yield End(path, None, 2.0)


def run(folder, paths, count=2, timeout=None, at_load=""):
    """Run the pool and return {path: (its rows, its end)}."""
    found, data = {}, b""
    with Pool(Job(folder, at_load), count, timeout) as pool:
        model = pool.model()
        assert (model.name, model.source, model.sha256) == ("fake", "", hashlib.sha256(b"content").hexdigest())
        for event in pool.run(paths):
            if isinstance(event, EncodedRows):
                data += event.data
            elif event is not None:
                assert event.path not in found
                found[event.path], data = (data, event), b""
    assert data == b""
    assert set(found) == {path.path if isinstance(path, Failure) else path for path in paths}
    return found


def note_pid(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


def pids(path):
    return {int(line) for line in path.read_text().splitlines()} if path.exists() else set()


def loads(folder):
    return len(pids(folder / "loads"))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
