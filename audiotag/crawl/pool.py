"""A pool of worker processes: a worker that dies or hangs affects one file only, and none outlives this process.

Files are sent to each worker over a pipe of its own, so that a dying worker can't leave anything
shared locked or half written. A worker's reply always belongs to the first file assigned to it.
"""

from __future__ import annotations

import atexit
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from multiprocessing import connection
from typing import TYPE_CHECKING

from audiotag.crawl.dispatch import QUEUED_FILES, fair_share, takers, workers_to_start
from audiotag.crawl.job import End, Job, JobEvent, Position
from audiotag.crawl.read_ahead import ReadAhead, WorkItem
from audiotag.crawl.signals import blocked, deferred
from audiotag.crawl.worker_queue import WorkerQueue
from audiotag.crawl.workers import Ready, describe_exit, process_source
from audiotag.errors import CrashError, Error, ModelError, OutputError, TimeLimitError, printable
from audiotag.results import Failure

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel

NAP = 0.05
"""Seconds for which replies may wait, so that one wake-up handles several."""

ATTEMPTS = 2
"""Number of workers that a file may kill before it is reported as a failure."""

DEATHS = 3
"""Number of workers that may die outside of any file before the first file is finished."""

TICK = 0.25
"""Maximum seconds between two events of `Pool.run`; also the precision of time limits."""

_POLL_SECONDS = 0.01
"""Seconds to wait for replies while workers without a file wait for the next path."""

_PATIENCE = 1.0
"""Seconds that a worker whose pipe is closed gets to exit by itself, so that its exit code is known."""


class Pool:
    """Worker processes, started as needed; the first one starts alone and compiles the kernels for the others.

    Args:
        job: the work to do.
        workers: maximum number of processes.
        timeout: seconds that one file may take, None for no limit.
    """

    def __init__(self, job: Job, workers: int, timeout: float | None = None) -> None:
        self._source = process_source(job)
        self._limit = workers
        self._timeout = timeout
        self._workers: list[WorkerQueue] = []
        self._model: ResolvedModel | None = None
        self._retries: deque[WorkItem] = deque()
        self._deaths = 0

    def __enter__(self) -> Pool:
        atexit.register(self.close)  # an interrupt may prevent the call of `__exit__`
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers."""
        with deferred():
            for worker in self._workers:
                worker.end()
            self._source.close()
        atexit.unregister(self.close)

    def start(self) -> None:
        """Start the first worker without waiting for it; `model` waits."""
        self._start_worker()

    def model(self) -> ResolvedModel:
        """Wait for the first worker and return the description of the model it has loaded.

        Raises ModelError, and Error if the worker dies.
        """
        while self._model is None:
            if not self._workers:
                self._start_worker()
            for _ in self._receive(self._workers[0]):
                pass
        return self._model

    def run(self, paths: Iterable[str | Failure]) -> Generator[JobEvent | None, None, None]:
        """Process all paths and pass on the failures among them. Call it once, after `model`.

        The rows of a file come together, then its end; positions in files come at any time. None is yielded if
        nothing has come for `TICK` seconds.

        Raises what iterating over `paths` raises, Error if workers die at their start, and
        OutputError if temporary files can't be written.
        """
        ahead = ReadAhead(paths)
        checked = time.monotonic()
        while True:
            for failure in ahead.failures():
                yield End(failure.path, failure)
            self._start_workers(ahead)
            self._assign(ahead)
            busy = [worker for worker in self._workers if worker.items]
            if not busy and ahead.exhausted and not self._retries:
                return
            idle_workers = not ahead.exhausted and len(busy) < self._limit
            if busy and not idle_workers:
                time.sleep(min(NAP, *(worker.queued_seconds / 2 for worker in busy)))
            pipes = [worker.pipe for worker in self._workers]
            ready = connection.wait(pipes, _POLL_SECONDS if idle_workers else TICK)
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                if worker in self._workers:  # it may have been removed together with another one
                    yield from self._receive_all(worker)
            if not ready:
                yield None
            # time during which this process was stopped or blocked by the reader of its output does not count
            now = time.monotonic()
            lost, checked = max(0.0, now - checked - 2 * TICK), now
            yield from self._check_time(now, lost)

    def _start_workers(self, ahead: ReadAhead) -> None:
        """Start as many workers as the waiting files need."""
        idle = sum(not worker.items for worker in self._workers)
        waiting = ahead.waiting + len(self._retries)
        for _ in range(workers_to_start(self._limit, len(self._workers), idle, waiting)):
            self._start_worker()

    def _assign(self, ahead: ReadAhead) -> None:
        """Assign waiting files to workers that have room, retries first, and send them."""
        waiting = ahead.waiting + len(self._retries)
        assigned = sum(len(worker) for worker in self._workers)
        share = fair_share(self._limit, waiting, assigned, ahead.complete)
        starting = self._limit - sum(worker.ready for worker in self._workers)
        for worker in takers(self._workers, share, waiting, starting):
            worker.assign(self._retries.popleft() if self._retries else ahead.take())
        for worker in self._workers:
            worker.send()

    def _start_worker(self) -> WorkerQueue:
        self._source.prepare()
        try:
            # no interrupt between the start of a process and its registration in _workers
            with deferred(), blocked():
                self._workers.append(WorkerQueue(self._source.start()))
        except OSError as error:
            raise Error(f"worker processes can't be started: {error.strerror or error}") from None
        return self._workers[-1]

    def _receive_all(self, worker: WorkerQueue) -> Iterator[JobEvent]:
        """Handle the messages of a worker that have arrived, at most `QUEUED_FILES`, so that others get their turn."""
        for _ in range(QUEUED_FILES):
            yield from self._receive(worker)
            if worker not in self._workers or not worker.pipe.poll():
                break
        worker.update_pace()

    def _receive(self, worker: WorkerQueue) -> Iterator[JobEvent]:
        """Handle one message of a worker, or its death."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._handle_death(worker)
            return
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Ready):
            if self._model is not None and self._model.sha256 != message.model.sha256:
                raise ModelError(f"{printable(message.model.name)}: the model changed during the run")
            self._model = message.model
            worker.mark_ready(message.pid)
            return
        if isinstance(message, float):
            if worker.items:
                yield Position(worker.items[0].path, message)
            return
        data, end = message
        if end is not None:
            self._deaths = 0
        try:
            yield from worker.receive(data, end)
        except OSError as error:
            raise OutputError(tempfile.gettempdir(), error.strerror or str(error)) from None

    def _check_time(self, now: float, lost: float) -> Iterator[JobEvent]:
        """Kill workers whose file exceeds the time limit; `lost` seconds since the last call do not count."""
        for worker in list(self._workers):
            worker.since += lost
            late = self._timeout is not None and now - worker.since > self._timeout
            # an unread message may be the end of the file
            if late and worker.ready and worker.items and not worker.pipe.poll():
                item = worker.items.popleft()
                self._remove(worker)
                problem = TimeLimitError(item.path, f"took longer than {self._timeout:g} s")
                yield End(item.path, Failure.of(item.path, problem))

    def _handle_death(self, worker: WorkerQueue) -> Iterator[JobEvent]:
        """Remove a dead worker and retry the file it worked on in a fresh one, at most `ATTEMPTS` times in all."""
        item = worker.items.popleft() if worker.ready and worker.items else None
        code = self._remove(worker, _PATIENCE)
        if not worker.ready:
            self._deaths += 1
            if self._deaths == DEATHS:
                raise Error(f"worker processes die while they start: {describe_exit(code)}")
            # workers that were starting from the same process died with it
            for other in [other for other in self._workers if other.origin is worker.origin and not other.ready]:
                self._remove(other)
        elif item is not None and code is None:
            self._retries.append(item)
        elif item is not None:
            item.attempts += 1
            if item.attempts < ATTEMPTS:
                self._start_worker().assign(item)
            else:
                problem = CrashError(item.path, f"ended two processes that worked on it: {describe_exit(code)}")
                yield End(item.path, Failure.of(item.path, problem))

    def _remove(self, worker: WorkerQueue, patience: float = 0) -> int | None:
        """End a worker and return its files to the queue; return its exit code, None if its origin died."""
        self._workers.remove(worker)
        self._retries.extend(worker.items)
        with deferred():
            return worker.end(patience)
