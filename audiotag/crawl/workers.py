"""Worker processes: how they come to be, what they do, and how they end.

On Linux they are forked from a process that has loaded the model and done nothing else: they
are there at once and share its memory, so that weights take up room, also in the processors'
caches, once and not once per worker. That process, the nursery, is itself forked from the
command while that has one thread and nothing much in memory, else spawned. On other systems
each worker is spawned and loads its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection, reduction, resource_tracker
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from audiotag import garbage
from audiotag.console import relay_engine
from audiotag.crawl.job import End, Job
from audiotag.errors import Error

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel

FORK = sys.platform == "linux"
"""Elsewhere system libraries that numpy uses may not survive it, or there is no such thing."""

CHUNK = 1 << 16
"""Bytes of rows that a worker collects before it sends them."""

_UNHEARD = (EOFError, BrokenPipeError, ConnectionResetError)
"""Nobody is at the other end of a pipe."""

_PR_SET_PDEATHSIG = 1


class Ready(NamedTuple):
    """A worker's first message; in its place comes an Error if there is no model.

    Each other one is a pair: rows of the first file that the worker still has; None or, with the
    last of them, the file's `End`.
    """

    pid: int
    model: ResolvedModel


class Process(Protocol):
    """A worker, seen from this side: its pipe takes lists of paths once it is ready, and is at its end if it dies."""

    pipe: connection.Connection
    origin: object
    """What it dies with."""

    def end(self, pid: int | None, patience: float = 0) -> int | None:
        """Kill it, unless it ends by itself in so many seconds, and close the pipe.

        Args:
            pid: what it has told, if it was ready.
            patience: seconds.

        Returns:
            the exit code, negative for a signal; None if something else took it along.
        """
        ...


class Source(Protocol):
    """Where workers come from."""

    def prepare(self) -> None:
        """Do what comes before `start` and may let signals through."""
        ...

    def start(self) -> Process:
        """Begin to start one; it never gets the signals that are blocked now. Raises OSError."""
        ...

    def close(self) -> None:
        """No more are needed, nor those that are."""
        ...


def source(job: Job) -> Source:
    """Where workers for a job come from on this system."""
    return Forks(job) if FORK else Spawns(job)


class Spawns:
    """Each worker is a new process that loads the model."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def prepare(self) -> None:
        _track_resources()

    def start(self) -> Process:
        return _Spawned(_be_spawned, self._job)

    def close(self) -> None:
        pass


class Forks:
    """Workers are children of one process that is spawned, the nursery, and die with it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._nursery: _Spawned | None = None

    def prepare(self) -> None:
        if not _alone():
            _track_resources()

    def start(self) -> Process:
        if self._nursery is None or not self._nursery.process.is_alive():
            self.close()
            self._nursery = _Spawned(_be_nursery, self._job, "fork" if _alone() else "spawn")
        return _Forked(self._nursery)

    def close(self) -> None:
        if self._nursery is not None:
            self._nursery.end(None)


def _alone() -> bool:
    """Whether this process has one thread: then a child may go on with what it has imported."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _track_resources() -> None:
    """Start multiprocessing's process for that, as is done with the first that is spawned: it unblocks signals."""
    if os.name == "posix":
        resource_tracker.ensure_running()


class _Spawned:
    def __init__(self, target: Callable[[Job, connection.Connection], None], job: Job, method: str = "spawn") -> None:
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
        with theirs, suppress(ConnectionError):  # the nursery is dead: then the pipe is at its end
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


def in_words(code: int | None) -> str:
    """How a process ended."""
    if code is None:
        return "the process that it came from died"
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


# -- in those processes -----------------------------------------------------------------


def _run(
    target: Callable[[Job, connection.Connection], None],
    job: Job,
    pipe: connection.Connection,
    other_end: connection.Connection | None,
) -> None:
    if other_end is not None:  # a fork has it, too
        other_end.close()
    with suppress(*_UNHEARD):
        target(job, pipe)


def _be_spawned(job: Job, pipe: connection.Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    _die_with(parent.pid)
    threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    model = _prepare(job)
    pipe.send(model if isinstance(model, Error) else Ready(os.getpid(), model))
    _work(job, pipe)


def _be_nursery(job: Job, control: connection.Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    _die_with(parent.pid)
    model = _prepare(job)
    while True:
        request = control.recv()
        if request is None:
            try:
                handle = reduction.recv_handle(control)
            except RuntimeError:  # it could not be sent
                return
            with connection.Connection(handle) as pipe:
                pipe.send(model if isinstance(model, Error) else _fork(job, model, pipe, control))
        else:
            control.send(_reap(*request))


def _fork(job: Job, model: ResolvedModel, pipe: connection.Connection, control: connection.Connection) -> Ready | Error:
    nursery = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        return Error(f"no more processes: {error.strerror}")
    if pid:
        return Ready(pid, model)
    code = 1
    try:
        _die_with(nursery)
        control.close()
        with suppress(*_UNHEARD):
            _work(job, pipe)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _reap(pid: int, patience: float) -> int:
    """End a child, as `Process.end` says; its exit code."""
    deadline = time.monotonic() + patience
    while not (found := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.001)
    if not found[0]:
        os.kill(pid, signal.SIGKILL)
        found = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(found[1])


def _prepare(job: Job) -> ResolvedModel | Error:
    garbage.pause()
    relay_engine()
    try:
        model = job.load().summary()
        job.warm_up()
    except Error as error:
        return error
    garbage.resume()
    return model


def _work(job: Job, pipe: connection.Connection) -> NoReturn:
    while True:
        for path in pipe.recv():
            _do(job, path, pipe)


def _do(job: Job, path: str, pipe: connection.Connection) -> None:
    """Send the rows of a file in chunks, and its end with the last one."""
    chunk = bytearray()
    for event in job.events(path):
        if isinstance(event, End):
            pipe.send((bytes(chunk), event))
        else:
            chunk += event.data
            if len(chunk) >= CHUNK:
                pipe.send((bytes(chunk), None))
                chunk.clear()


def _die_with(parent: int | None) -> None:
    """Linux sees to it, also when this process is in the middle of something."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _follow(parent: int) -> None:
    """Elsewhere a thread does, when it gets to run."""
    connection.wait([parent])
    os._exit(1)
