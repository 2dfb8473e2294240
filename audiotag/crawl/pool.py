"""Workers on files: one that dies or hangs costs no other file, and none outlives this process.

Files are handed to workers over pipes of their own, so that nothing is shared that a dying
worker could leave locked or half written. A worker's answer is known to belong to the first
file that it still has.
"""

from __future__ import annotations

import atexit
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import connection
from typing import IO, TYPE_CHECKING

from audiotag.crawl.job import End, Event, Job, Rows
from audiotag.crawl.signals import blocked, undisturbed
from audiotag.crawl.workers import CHUNK, Process, Ready, in_words, source
from audiotag.errors import CrashError, Error, ModelError, OutputError, TimeLimitError, printable
from audiotag.results import Failure

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel

AHEAD = 0.1
"""Seconds of work that a worker has besides the file that it is at: on a busy machine it may take as long until this
process is heard."""

MAX_AHEAD = 100
"""Files that it has besides, at most."""

PATHS = 4096
"""Bytes of paths that it has at most, unless it is one path: more may not fit into a pipe, for which nobody waits."""

MEMORY = 16
"""Files over which a worker's pace is averaged."""

NAP = 0.02
"""Seconds that answers may lie: to wake up for each costs more than the rest of what is done with it."""

QUEUE = 1000
"""Paths that are read ahead."""

SPOOL = 1 << 20
"""Bytes of one file's rows that are kept in memory until it is done; more go to a temporary file."""

ATTEMPTS = 2
"""How often a file may end its worker."""

DEATHS = 3
"""How often processes may die over no file, before one of them has done a file."""

TICK = 0.25
"""Seconds after which `Pool.run` gives a sign of life at the latest; the precision of time limits."""

_QUICK = 0.01
_PATIENCE = 1.0


class Pool:
    """Workers, started as they are needed, the first one alone: what it has to compile is there for the others.

    Args:
        job: what they do.
        workers: how many.
        timeout: seconds that one file may take.
    """

    def __init__(self, job: Job, workers: int, timeout: float | None = None) -> None:
        self._source = source(job)
        self._count = workers
        self._timeout = timeout
        self._workers: list[_Worker] = []
        self._model: ResolvedModel | None = None
        self._retries: deque[_Task] = deque()
        self._deaths = 0

    def __enter__(self) -> Pool:
        atexit.register(self.close)  # an interrupt can keep `__exit__` from being called
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers."""
        with undisturbed():
            for worker in self._workers:
                worker.end()
            self._source.close()
        atexit.unregister(self.close)

    def start(self) -> None:
        """Begin to start the first worker, for which `model` waits."""
        self._start_one()

    def model(self) -> ResolvedModel:
        """Wait for the first worker; the model that it loaded.

        Raises ModelError, and Error if the worker dies.
        """
        while self._model is None:
            if not self._workers:
                self._start_one()
            for _ in self._hear(self._workers[0]):
                pass
        return self._model

    def run(self, paths: Iterable[str | Failure]) -> Generator[Event | None, None, None]:
        """Do the job on all paths; failures among them are passed on. To be called once, after `model`.

        The events of a file come one after the other: its rows, then its end. None is a sign of
        life: no file had an end for a while.

        Raises what iterating over `paths` raises, Error if workers die at their start, and
        OutputError if there is no room for temporary files.
        """
        ahead = _ReadAhead(paths)
        looked = time.monotonic()
        while True:
            yield from self._hand_out(ahead)
            busy = [worker for worker in self._workers if worker.tasks]
            if not busy and ahead.ended and not self._retries:
                return
            hungry = not ahead.ended and len(busy) < self._count
            if busy and not hungry:
                time.sleep(min(NAP, *(worker.ahead / 2 for worker in busy)))
            ready = connection.wait([worker.pipe for worker in self._workers], _QUICK if hungry else TICK)
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                if worker in self._workers:  # still: others may have taken it along
                    yield from self._listen(worker)
            if not ready:
                yield None
            # the time that this process was stopped, or waited for whoever reads its output, is no file's fault
            now = time.monotonic()
            lost, looked = max(0.0, now - looked - 2 * TICK), now
            yield from self._check_time(now, lost)

    def _hand_out(self, ahead: _ReadAhead) -> Iterator[Event]:
        for failure in ahead.failures():
            yield End(failure.path, failure)
        waiting = ahead.waiting + len(self._retries)
        free = sum(not worker.tasks for worker in self._workers)
        for _ in range(min(self._count - len(self._workers), waiting - free)):
            self._start_one()
        # so that all have something to do until the end, those that are still starting, too
        given = sum(len(worker.tasks) for worker in self._workers)
        share = -(-(waiting + given) // self._count) if ahead.complete else MAX_AHEAD
        starting = self._count - sum(worker.ready for worker in self._workers)
        takers = [worker for worker in self._workers if worker.room(share) > 0]
        while takers and waiting:
            worker = min(takers, key=lambda worker: len(worker.tasks))
            if worker.tasks and waiting <= starting:
                break
            worker.give(self._retries.popleft() if self._retries else ahead.next())
            waiting -= 1
            if worker.room(share) <= 0:
                takers.remove(worker)
        for worker in self._workers:
            worker.send()

    def _start_one(self) -> _Worker:
        self._source.prepare()
        try:
            with undisturbed(), blocked():  # until it is known that there is something to end
                self._workers.append(_Worker(self._source.start()))
        except OSError as error:
            raise Error(f"worker processes can't be started: {error.strerror or error}") from None
        return self._workers[-1]

    def _listen(self, worker: _Worker) -> Iterator[Event]:
        """Take what a worker has said, but not for ever."""
        for _ in range(MAX_AHEAD):
            yield from self._hear(worker)
            if worker not in self._workers or not worker.pipe.poll():
                break
        worker.keep_pace()

    def _hear(self, worker: _Worker) -> Iterator[Event]:
        """Take one message of a worker, or notice that it died."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Ready):
            if self._model is not None and self._model.sha256 != message.model.sha256:
                raise ModelError(f"{printable(message.model.name)}: the model changed during the run")
            self._model = message.model
            worker.begin(message.pid)
            return
        data, end = message
        if end is not None:
            self._deaths = 0
        try:
            yield from worker.take(data, end)
        except OSError as error:
            raise OutputError(tempfile.gettempdir(), error.strerror or str(error)) from None

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
        code = self._remove(worker, _PATIENCE)
        if not worker.ready:
            self._deaths += 1
            if self._deaths == DEATHS:
                raise Error(f"worker processes die while they start: {in_words(code)}")
            # the others that wait for what died with it
            for other in [other for other in self._workers if other.origin is worker.origin and not other.ready]:
                self._remove(other)
        elif task is not None and code is None:
            self._retries.append(task)
        elif task is not None:
            task.attempts += 1
            if task.attempts < ATTEMPTS:
                self._start_one().give(task)
            else:
                problem = CrashError(task.path, f"ended two processes that worked on it: {in_words(code)}")
                yield End(task.path, Failure.of(task.path, problem))

    def _remove(self, worker: _Worker, patience: float = 0) -> int | None:
        """End a worker and let others have its files; its exit code, None if what it came from took it along."""
        self._workers.remove(worker)
        self._retries.extend(worker.tasks)
        with undisturbed():
            return worker.end(patience)


@dataclass
class _Task:
    path: str
    attempts: int = 0

    @cached_property
    def size(self) -> int:
        return len(self.path.encode(errors="surrogatepass"))


class _Worker:
    """A process and the files that it has."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._pid: int | None = None  # of one that is ready
        self.pipe, self.origin = process.pipe, process.origin
        self.tasks: deque[_Task] = deque()
        self.since = time.monotonic()
        """When it began with the first of them."""
        self._unsent: list[str] = []
        self._size = 0
        self._spool: IO[bytes] | None = None
        self._pace = 1.0  # seconds per file, averaged over the last ones
        self._paced, self._paced_done = 0.0, 0  # when that was last looked at, and files that were done
        self._done = 0

    def begin(self, pid: int) -> None:
        """It is ready."""
        self._pid = pid
        self.since = self._paced = time.monotonic()

    @property
    def ready(self) -> bool:
        return self._pid is not None

    def room(self, share: int) -> int:
        """How many more files it shall have, if that many of those that are left are its share."""
        if not self.ready or (self.tasks and self._size >= PATHS):
            return 0
        ahead = min(int(AHEAD / max(self._pace, 1e-6)), MAX_AHEAD)
        return min(1 + ahead, share) - len(self.tasks)

    @property
    def ahead(self) -> float:
        """Seconds that it needs for the files after the first."""
        return self._pace * (len(self.tasks) - 1)

    def give(self, task: _Task) -> None:
        if not self.tasks:
            self.since = self._paced = time.monotonic()
        self.tasks.append(task)
        self._size += task.size
        self._unsent.append(task.path)

    def send(self) -> None:
        """What it was given, if it is ready."""
        if self.ready and self._unsent:
            with suppress(OSError):  # it died: that is seen when its answer is awaited
                self.pipe.send(self._unsent)
            self._unsent = []

    def take(self, data: bytes, end: End | None) -> Iterator[Event]:
        """Rows of the first file; the events of the file, if it ended."""
        if end is None or self._spool is not None:
            self._spool = self._spool or _spool()
            self._spool.write(data)
        if end is None:
            return
        self._size -= self.tasks.popleft().size
        self._done += 1
        self.since = time.monotonic()
        if self._spool is None:
            yield Rows(data)
        else:
            with self._spool as spool:
                self._spool = None
                spool.seek(0)
                while data := spool.read(CHUNK):
                    yield Rows(data)
        yield end

    def keep_pace(self) -> None:
        """Take account of the files that it has done since it was last called."""
        new = self._done - self._paced_done
        if new:
            weight = min(1.0, new / min(self._done, MEMORY))
            self._pace += ((self.since - self._paced) / new - self._pace) * weight
            self._paced, self._paced_done = self.since, self._done

    def end(self, patience: float = 0) -> int | None:
        if self._spool is not None:
            self._spool.close()
        return self._process.end(self._pid, patience)


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(SPOOL)


class _ReadAhead:
    """Iterates in a thread, as the next path may be long in coming."""

    def __init__(self, paths: Iterable[str | Failure]) -> None:
        self._found: deque[_Task] = deque()
        self._failures: deque[Failure] = deque()
        self._error: Exception | None = None
        self._wanted = threading.Event()
        self.complete = False
        """Whether all are found."""
        threading.Thread(target=self._read, args=(paths,), daemon=True).start()

    def _read(self, paths: Iterable[str | Failure]) -> None:
        try:
            for path in paths:
                if isinstance(path, Failure):
                    self._failures.append(path)
                else:
                    self._found.append(_Task(path))
                if self._many > QUEUE:
                    self._wanted.clear()
                    if self._many > QUEUE // 2:  # still: they are taken meanwhile
                        self._wanted.wait()
        except Exception as error:
            self._error = error
        self.complete = True

    @property
    def _many(self) -> int:
        return len(self._found) + len(self._failures)

    @property
    def waiting(self) -> int:
        """How many are found and not taken."""
        return len(self._found)

    @property
    def ended(self) -> bool:
        """Whether all are taken. Raises what iterating raised, once what came before is taken."""
        if not self.complete or self._many:
            return False
        if self._error is not None:
            raise self._error
        return True

    def next(self) -> _Task:
        """The next one of those that wait."""
        task = self._found.popleft()
        self._wake()
        return task

    def failures(self) -> Iterator[Failure]:
        """Those that are known to fail."""
        while self._failures:
            yield self._failures.popleft()
            self._wake()

    def _wake(self) -> None:
        # for many at once, as to wake a thread for each costs more than all else
        if self._many <= QUEUE // 2 and not self._wanted.is_set():
            self._wanted.set()
