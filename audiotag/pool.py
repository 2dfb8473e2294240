"""Processes that work through files: one that dies or hangs costs no other file, and none outlives this process.

Files are handed to spawned workers one by one over pipes of their own, so that nothing is
shared that a dying worker could leave locked or half written. A worker's answer is known
to belong to the first file that it still has.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from typing import IO, TYPE_CHECKING, Any

from audiotag.errors import CrashError, Error, ModelError, OutputError, TimeLimitError, printable
from audiotag.messages import relay_engine
from audiotag.results import Failure
from audiotag.signals import blocked
from audiotag.work import End, Event, Job, Rows

if TYPE_CHECKING:
    from audiotag.models import ResolvedModel

MIN_DEPTH, MAX_DEPTH = 2, 16
"""Files that a worker has: one that it is at, and some so that it needn't wait for the next."""

AHEAD = 0.1
"""Seconds of work that it has: on a busy machine it may take as long until this process is heard."""

QUEUE = 1000
"""Paths that are read ahead."""

CHUNK = 1 << 16
"""Bytes of rows that a worker collects before it sends them."""

SPOOL = 1 << 20
"""Bytes of one file's rows that are kept in memory until it is done; more go to a temporary file."""

ATTEMPTS = 2
"""How often a file may end its worker, or a worker its start in a row."""

TICK = 0.25
"""Seconds after which `Pool.run` gives a sign of life; the precision of time limits."""

_QUICK = 0.02
_PR_SET_PDEATHSIG = 1


class Pool:
    """Workers, started as they are needed, the first one alone: what it has to compile is there for the others.

    Args:
        job: what they do.
        workers: how many.
        timeout: seconds that one file may take.
    """

    def __init__(self, job: Job, workers: int, timeout: float | None = None) -> None:
        self._job = job
        self._count = workers
        self._timeout = timeout
        self._workers: list[_Worker] = []
        self._model: ResolvedModel | None = None
        self._retries: deque[_Task] = deque()
        self._failed_starts = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    def start(self) -> ResolvedModel:
        """Start the first worker; the model that it loaded.

        Raises ModelError, and Error if the worker dies.
        """
        while self._model is None:
            for _ in self._listen(self._workers[0] if self._workers else self._spawn()):
                pass
        return self._model

    def run(self, paths: Iterable[str | Failure]) -> Generator[Event | None, None, None]:
        """Do the job on all paths; failures among them are passed on. To be called once, after `start`.

        The events of a file come one after the other: its rows, then its end. None is a sign of
        life: nothing happened for `TICK` seconds.

        Raises what iterating over `paths` raises, Error if workers die at their start, and
        OutputError if there is no room for temporary files.
        """
        source = _ReadAhead(paths)
        looked = time.monotonic()
        while True:
            yield from self._hand_out(source)
            busy = [worker for worker in self._workers if worker.tasks]
            if not busy and source.ended and not self._retries:
                return
            hungry = not source.ended and len(busy) < self._count
            ready = connection.wait([worker.pipe for worker in self._workers], _QUICK if hungry else TICK)
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                yield from self._listen(worker)
            if not ready:
                yield None
            # the time that this process was stopped, or waited for whoever reads its output, is no file's fault
            now = time.monotonic()
            lost, looked = max(0.0, now - looked - 2 * TICK), now
            yield from self._check_time(now, lost)

    def _hand_out(self, source: _ReadAhead) -> Iterator[Event]:
        while True:
            # one that is idle, else the one that can take most
            worker = min(self._workers, key=lambda worker: (bool(worker.tasks), -worker.room), default=None)
            more = len(self._workers) < self._count
            if not more and (worker is None or worker.room <= 0):
                return
            task = self._retries.popleft() if self._retries else source.next()
            if task is None:
                return
            if isinstance(task, Failure):
                yield End(task.path, task)
                continue
            if worker is None or (more and worker.tasks):
                worker = self._spawn()
            worker.give(task)

    def _spawn(self) -> _Worker:
        worker = _Worker(self._job)
        self._workers.append(worker)
        return worker

    def _listen(self, worker: _Worker) -> Iterator[Event]:
        """Take one message of a worker, or notice that it died."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if isinstance(message, Exception):
            raise message
        if not worker.ready:
            worker.ready, self._failed_starts = True, 0
            worker.since = time.monotonic()
            if self._model is not None and self._model.sha256 != message.sha256:
                raise ModelError(f"{printable(message.name)}: the model changed during the run")
            self._model = message
            return
        data, end = message
        try:
            worker.spool.write(data)
        except OSError as error:
            raise OutputError(tempfile.gettempdir(), error.strerror or str(error)) from None
        if end is not None:
            worker.tasks.popleft()
            yield from worker.take(end)

    def _check_time(self, now: float, lost: float) -> Iterator[Event]:
        for worker in list(self._workers):
            worker.since += lost
            late = self._timeout is not None and now - worker.since > self._timeout
            # what it has said, but nobody has heard yet, may be the end of its file
            if late and worker.ready and worker.tasks and not worker.pipe.poll():
                task = worker.tasks.popleft()
                self._remove(worker)
                problem = TimeLimitError(task.path, f"took longer than {self._timeout:g} s")
                yield End(task.path, Failure.of(task.path, problem))

    def _bury(self, worker: _Worker) -> Iterator[Event]:
        """Of the files of a worker that died, the one that it was at is tried again in a fresh one."""
        task = worker.tasks.popleft() if worker.ready and worker.tasks else None
        how = self._remove(worker, patience=1)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == ATTEMPTS:
                raise Error(f"worker processes die while they start: {how}")
        elif task is not None:
            task.attempts += 1
            if task.attempts < ATTEMPTS:
                self._spawn().give(task)
            else:
                problem = CrashError(task.path, f"ended two processes that worked on it: {how}")
                yield End(task.path, Failure.of(task.path, problem))

    def _remove(self, worker: _Worker, patience: float = 0) -> str:
        """End a worker and let others have its files; how it ended."""
        self._workers.remove(worker)
        self._retries.extend(worker.tasks)
        return worker.end(patience)


@dataclass
class _Task:
    path: str
    attempts: int = 0


class _Worker:
    """A process, seen from this side."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(job, theirs), daemon=True)
        # a terminal's Ctrl-C, or a batch system's SIGTERM, reaches all processes: what it means is decided in this one
        if os.name == "posix":
            resource_tracker.ensure_running()  # or else it is started below, and unblocks the signals
        with blocked():
            self.process.start()
        theirs.close()
        self.tasks: deque[_Task] = deque()
        self.ready = False
        self.since = time.monotonic()
        self._pace = AHEAD  # seconds per file, averaged over the last ones
        self.spool = _spool()

    @property
    def room(self) -> int:
        """How many more files it shall have."""
        return min(max(MIN_DEPTH, int(AHEAD / max(self._pace, 1e-6))), MAX_DEPTH) - len(self.tasks)

    def give(self, task: _Task) -> None:
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(task)
        with suppress(OSError):  # it died: that is seen when its answer is awaited
            self.pipe.send(task.path)

    def take(self, end: End) -> Iterator[Event]:
        """The events of the file that ended."""
        now = time.monotonic()
        self._pace += (now - self.since - self._pace) / MAX_DEPTH
        self.since = now
        with self.spool as spool:
            self.spool = _spool()
            spool.seek(0)
            while data := spool.read(CHUNK):
                yield Rows(data)
        yield end

    def end(self, patience: float = 0) -> str:
        """Kill the process if it doesn't end by itself in so many seconds; how it ended, in words."""
        if patience:
            self.process.join(patience)
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.spool.close()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name} (out of memory?)" if name == "SIGKILL" else name


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(SPOOL)


@dataclass
class _ReadAhead:
    """Iterates in a thread, as the next path may be long in coming."""

    paths: Iterable[str | Failure]
    ended: bool = False
    _queue: queue.Queue[Any] = field(default_factory=lambda: queue.Queue(QUEUE))

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for path in self.paths:
                self._queue.put(path if isinstance(path, Failure) else _Task(path))
            self._queue.put(None)
        except Exception as error:
            self._queue.put(error)

    def next(self) -> _Task | Failure | None:
        """The next one, None if there is none yet or no more."""
        if self.ended:
            return None
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        self.ended = item is None
        result: _Task | Failure | None = item
        return result


# -- in the worker ----------------------------------------------------------------------


def _work(job: Job, pipe: connection.Connection) -> None:
    _die_with_parent()
    relay_engine()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            model = job.load().summary()
            job.warm_up()
        except Error as error:
            pipe.send(error)
            return
        pipe.send(model)
        while True:
            _do(job, pipe.recv(), pipe)


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


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":  # which doesn't depend on this process still running Python
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:
            os._exit(1)
