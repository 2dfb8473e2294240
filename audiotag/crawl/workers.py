"""Start, main loop and end of worker processes.

On Linux, workers are forked from a process that has loaded the model and done nothing else, the
nursery: they start at once and share its memory, so that weights occupy memory and processor
caches once instead of once per worker. The nursery itself is forked from the command if that
still has a single thread, otherwise spawned. On other systems each worker is spawned and loads
the model itself.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import connection, reduction, resource_tracker
from typing import Any, NamedTuple, NoReturn, Protocol

from audiotag.console import relay_engine
from audiotag.crawl.job import LONG, EncodedRows, End, resume_collection
from audiotag.errors import Error

FORK = sys.platform == "linux"
"""Whether to fork; on other systems libraries used by numpy may not survive a fork, or there is no fork."""

CHUNK = 1 << 16
"""Bytes of rows that a worker collects before it sends a message."""

POSITION_SECONDS = 0.5
"""Minimum seconds between two positions."""

_PEER_GONE = (EOFError, BrokenPipeError, ConnectionResetError)
"""Errors that mean the peer has closed the pipe."""

_PR_SET_PDEATHSIG = 1


class Work(Protocol):
    """The work that processes do; it is pickled for spawned ones."""

    def load(self) -> Any:
        """Load what the work needs and return a description of it that can be pickled. Raises Error."""
        ...

    def warm_up(self) -> None:
        """Do everything slow that happens only once, such as compiling."""
        ...

    def listen(self, reached: Callable[[float], None]) -> None:
        """Have a function called, in the middle of the work on an item, with the seconds of it that are done."""
        ...

    def events(self, item: Any) -> Iterator[EncodedRows | End]:
        """Yield the rows of an item, then its end."""
        ...


class Ready(NamedTuple):
    """A worker's first message, or an Error if loading failed; `model` is the result of `Work.load`.

    Every further message is about the first item that the worker still has: a pair of rows and the
    item's `End` with the last of them, otherwise None; or a number, the seconds of it that are done.
    """

    pid: int
    model: Any


class Process(Protocol):
    """A worker as the parent sees it: once ready, its pipe takes lists of items; it ends when the worker dies."""

    pipe: connection.Connection
    origin: object
    """The process whose death also kills this worker."""

    def end(self, pid: int | None, patience: float = 0) -> int | None:
        """Close the pipe, and kill the process unless it exits by itself.

        Args:
            pid: the process id from `Ready`, None if the worker was not ready.
            patience: seconds to wait for the process to exit by itself.

        Returns:
            The exit code, negative for a signal; None if the process died with its parent.
        """
        ...


class Source(Protocol):
    """Creates worker processes."""

    def prepare(self) -> None:
        """Do the part of starting that unblocks signals; call it before `start`."""
        ...

    def start(self) -> Process:
        """Start a worker without waiting for it; signals blocked now stay blocked in it. Raises OSError."""
        ...

    def close(self) -> None:
        """Stop accepting requests and kill all workers."""
        ...


def process_source(job: Work) -> Source:
    """Return the way to create workers on this system."""
    return Forks(job) if FORK else Spawns(job)


class Spawns:
    """Spawns each worker as a new process that loads the model itself."""

    def __init__(self, job: Work) -> None:
        self._job = job

    def prepare(self) -> None:
        _track_resources()

    def start(self) -> Process:
        return _Spawned(_run_spawned, self._job)

    def close(self) -> None:
        pass


class Forks:
    """Forks workers from the nursery, with which they die."""

    def __init__(self, job: Work) -> None:
        self._job = job
        self._nursery: _Spawned | None = None

    def prepare(self) -> None:
        if not _alone():
            _track_resources()

    def start(self) -> Process:
        if self._nursery is None or not self._nursery.process.is_alive():
            self.close()
            self._nursery = _Spawned(_run_nursery, self._job, "fork" if _alone() else "spawn")
        return _Forked(self._nursery)

    def close(self) -> None:
        if self._nursery is not None:
            self._nursery.end(None)


def _alone() -> bool:
    """Return whether this process has a single thread, so that a forked child can use its imported modules."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _track_resources() -> None:
    """Start multiprocessing's resource tracker now: its start, otherwise part of the first spawn, unblocks signals."""
    if os.name == "posix":
        resource_tracker.ensure_running()


class _Spawned:
    def __init__(self, target: Callable[[Work, connection.Connection], None], job: Work, method: str = "spawn") -> None:
        context: Any = multiprocessing.get_context(method)
        self.pipe, theirs = context.Pipe()
        self.origin: object = self
        ours = self.pipe if method == "fork" else None
        self.process = context.Process(target=_run, args=(target, job, theirs, ours), daemon=True)
        with theirs:
            self.process.start()

    def end(self, pid: int | None, patience: float = 0) -> int | None:
        self.pipe.close()
        if patience:
            self.process.join(patience)
        self.process.kill()
        self.process.join()
        code: int | None = self.process.exitcode
        return code


class _Forked:
    def __init__(self, nursery: _Spawned) -> None:
        self._nursery = nursery
        self.origin: object = nursery
        self.pipe, theirs = multiprocessing.Pipe()
        assert nursery.process.pid is not None
        with theirs, suppress(ConnectionError):  # the nursery is dead: reading the pipe will show that
            nursery.pipe.send(None)
            reduction.send_handle(nursery.pipe, theirs.fileno(), nursery.process.pid)

    def end(self, pid: int | None, patience: float = 0) -> int | None:
        self.pipe.close()
        if pid is None:
            return self._nursery.end(None, patience)
        try:
            self._nursery.pipe.send((pid, patience))
            code: int = self._nursery.pipe.recv()
        except (EOFError, OSError):
            return None
        return code


def describe_exit(code: int | None) -> str:
    """Describe an exit code in words; None means that the process died with its parent."""
    if code is None:
        return "the process that it came from died"
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


# -- in the worker processes ---------------------------------------------------------------


def _run(
    target: Callable[[Work, connection.Connection], None],
    job: Work,
    pipe: connection.Connection,
    other_end: connection.Connection | None,
) -> None:
    if other_end is not None:  # inherited by a forked process
        other_end.close()
    with suppress(*_PEER_GONE):
        target(job, pipe)


def _run_spawned(job: Work, pipe: connection.Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    _die_with(parent.pid)
    threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()
    model = _prepare(job)
    pipe.send(model if isinstance(model, Error) else Ready(os.getpid(), model))
    _work(job, pipe)


def _run_nursery(job: Work, control: connection.Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    _die_with(parent.pid)
    model = _prepare(job)
    while True:
        request = control.recv()
        if request is None:
            try:
                handle = reduction.recv_handle(control)
            except RuntimeError:  # the parent failed to send it
                return
            with connection.Connection(handle) as pipe:
                pipe.send(model if isinstance(model, Error) else _fork(job, model, pipe, control))
        else:
            control.send(_reap(*request))


def _fork(job: Work, model: Any, pipe: connection.Connection, control: connection.Connection) -> Ready | Error:
    nursery = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        return Error(f"worker processes can't be forked: {error.strerror}")
    if pid:
        return Ready(pid, model)
    code = 1
    try:
        _die_with(nursery)
        control.close()
        with suppress(*_PEER_GONE):
            _work(job, pipe)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _reap(pid: int, patience: float) -> int:
    """End a child as `Process.end` describes and return its exit code."""
    deadline = time.monotonic() + patience
    while not (found := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.001)
    if not found[0]:
        os.kill(pid, signal.SIGKILL)
        found = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(found[1])


def _prepare(job: Work) -> Any:
    """Load and warm up; return the description of what was loaded, or the Error."""
    gc.disable()
    relay_engine()
    try:
        model = job.load()
        job.warm_up()
    except Error as error:
        return error
    resume_collection()
    return model


def _work(job: Work, pipe: connection.Connection) -> NoReturn:
    said = 0.0

    def reached(seconds: float) -> None:
        nonlocal said
        if seconds >= LONG and time.monotonic() >= said + POSITION_SECONDS:
            said = time.monotonic()
            pipe.send(seconds)

    job.listen(reached)
    while True:
        for item in pipe.recv():
            _process(job, item, pipe)


def _process(job: Work, item: Any, pipe: connection.Connection) -> None:
    """Send the rows of an item in chunks, and its end with the last one."""
    chunk = bytearray()
    for event in job.events(item):
        if isinstance(event, End):
            pipe.send((bytes(chunk), event))
        else:
            chunk += event.data
            if len(chunk) >= CHUNK:
                pipe.send((bytes(chunk), None))
                chunk.clear()


def _die_with(parent: int | None) -> None:
    """Have Linux kill this process when its parent dies, whatever it is doing then."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _exit_with(parent: int) -> None:
    """Exit when the parent dies; for other systems, in a thread."""
    connection.wait([parent])
    os._exit(1)
