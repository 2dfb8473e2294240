"""Run cases in worker processes: one that crashes, hangs or runs out of memory fails without affecting the others."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from conformance import ConformanceError
from conformance.cases import Case
from conformance.comparison import mismatch, ulp_distance
from conformance.runtimes import Prepare, Runtime

PASSED, FAILED, UNSUPPORTED, CRASHED, TIMED_OUT = "passed", "failed", "unsupported", "crashed", "timed out"
STATUSES = (PASSED, FAILED, UNSUPPORTED, CRASHED, TIMED_OUT)

_START_SECONDS = 120.0
_READY = ""
_LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class Outcome:
    """The result of a case.

    `seconds` are those of loading the model and its first run; `ulp` is the greatest distance from the expected outputs
    in representable numbers, if the case passed.
    """

    status: str
    message: str = ""
    seconds: float = 0.0
    ulp: float | None = None


def run_case(case: Case, prepare: Prepare, runtime: Runtime, ulp: bool = False) -> Outcome:
    """Run one case in this process."""
    started = time.perf_counter()
    seconds = 0.0
    distances = []
    try:
        run = prepare(case.model)
        for data in case.data_sets:
            results = run(dict(data.feeds))
            seconds = seconds or time.perf_counter() - started
            if found := mismatch(list(results), data.expected, case.rtol, case.atol, "outputs"):
                return Outcome(FAILED, found[:_LONGEST_MESSAGE], seconds)
            if ulp:
                distances.append(ulp_distance(list(results), data.expected))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # another runtime may raise anything, panics included
        status = UNSUPPORTED if runtime.is_unsupported(error) else FAILED
        message = f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]
        return Outcome(status, message, time.perf_counter() - started)
    return Outcome(PASSED, "", seconds, max(distances, default=0.0) if ulp else None)


def run_cases(
    cases: Sequence[Case], runtime: Runtime, jobs: int, timeout: float, ulp: bool = False
) -> Generator[tuple[int, Outcome]]:
    """Yield each case's index and outcome, in the order in which they finish.

    `timeout` is in seconds per case. Raises ConformanceError if the runtime can't be started.
    """
    pending = deque(range(len(cases)))
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        try:
            workers += [_Worker(runtime, timeout, ulp, Path(folder, str(i))) for i in range(min(jobs, len(cases)))]
            while pending or any(worker.case is not None for worker in workers):
                for worker in workers:
                    if worker.ready and worker.case is None and pending:
                        worker.give(pending[0], cases[pending.popleft()])
                waiting = [w for worker in workers for w in (worker.pipe, worker.process.sentinel)]
                seconds = min(worker.deadline for worker in workers) - time.monotonic()
                connection.wait(waiting, max(0.0, seconds))
                for position, worker in enumerate(workers):
                    index, outcome = worker.case, worker.poll()
                    if worker.dead:
                        workers[position] = _Worker(runtime, timeout, ulp, worker.log)
                    if outcome is not None and index is not None:
                        yield index, outcome
        finally:
            for worker in workers:
                worker.kill()


def _never() -> float:
    return time.monotonic() + 1e6


class _Worker:
    """A worker process and the case that it runs."""

    def __init__(self, runtime: Runtime, timeout: float, ulp: bool, log: Path) -> None:
        self.runtime, self.timeout, self.log = runtime, timeout, log
        log.write_bytes(b"")
        self.pipe, theirs = get_context("spawn").Pipe()
        self.process = get_context("spawn").Process(
            target=_serve, args=(theirs, runtime, timeout, ulp, str(log)), daemon=True
        )
        with _interrupts_ignored():
            self.process.start()
        theirs.close()
        self.ready = self.dead = False
        self.case: int | None = None
        self.deadline = time.monotonic() + _START_SECONDS

    def give(self, index: int, case: Case) -> None:
        self.case = index
        self.deadline = time.monotonic() + self.timeout
        with suppress(OSError):  # poll notices a worker that died while idle
            self.pipe.send(case)

    def poll(self) -> Outcome | None:
        """Return the outcome of the case if it has finished. Raises ConformanceError if the worker can't start."""
        message = self._receive()
        if message is None and self.process.is_alive() and time.monotonic() < self.deadline:
            return None
        if message is None:
            return self._bury()
        self.deadline = _never()
        if isinstance(message, str):
            if message != _READY:
                raise ConformanceError(f"{self.runtime.name} can't be started: {message}")
            self.ready = True
            return None
        self.case = None
        assert isinstance(message, Outcome)
        return message

    def _receive(self) -> Any:
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            self.process.join(1)
            return None

    def _bury(self) -> Outcome:
        alive = self.process.is_alive()
        self.kill()
        said = self.log.read_text(errors="replace").strip()[-_LONGEST_MESSAGE:]
        if not self.ready:
            raise ConformanceError(f"{self.runtime.name} can't be started: {said or 'no answer'}")
        if alive:
            return Outcome(TIMED_OUT, f"no result after {self.timeout:g} s", self.timeout)
        code = self.process.exitcode or 0
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Outcome(CRASHED, f"{cause}\n{said}".strip())

    def kill(self) -> None:
        self.dead = True
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let child processes started meanwhile ignore Ctrl-C: their parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(pipe: Connection, runtime: Runtime, timeout: float, ulp: bool, log: str) -> None:
    """Run a worker: start the runtime, then receive cases and send outcomes until the parent is gone."""
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(2)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    try:
        prepare = runtime.start()
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(_READY)
    with suppress(EOFError, OSError):
        while True:
            case = pipe.recv()
            os.ftruncate(2, 0)
            faulthandler.dump_traceback_later(2 * timeout + 10, exit=True, file=2)  # ends it if the parent was killed
            outcome = run_case(case, prepare, runtime, ulp)
            faulthandler.cancel_dump_traceback_later()
            pipe.send(outcome)
