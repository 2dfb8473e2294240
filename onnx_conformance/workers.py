"""Run models in worker processes: one that crashes, hangs or runs out of memory fails without affecting the others."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]  # asked for before each use

from onnx_conformance import ConformanceError
from onnx_conformance.runtimes.base import Prepare, Runtime

PASSED, FAILED, UNSUPPORTED, CRASHED, TIMED_OUT = "passed", "failed", "unsupported", "crashed", "timed out"
STATUSES = (PASSED, FAILED, UNSUPPORTED, CRASHED, TIMED_OUT)

_START_SECONDS = 600.0
_READY = ""
LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class JobOutcome:
    """The result of a job.

    `seconds` are those of loading the model and its first run; `ulp` is the greatest distance from the expected outputs
    in representable numbers, if a case passed; `outputs` are those of each run, where the job returns them.
    """

    status: str
    message: str = ""
    seconds: float = 0.0
    ulp: float | None = None
    outputs: list[list[Any]] | None = None


Job = Callable[[Prepare, Runtime], JobOutcome]
"""A task that a worker runs with its runtime; it must be picklable."""


@dataclass(frozen=True)
class RunModel:
    """The job to run a model on several inputs; the outcome has the outputs of each."""

    model: bytes
    feeds: Sequence[dict[str, Any]]

    def __call__(self, prepare: Prepare, runtime: Runtime) -> JobOutcome:
        """Run it in this process."""
        started = time.perf_counter()
        try:
            run = prepare(self.model)
            outputs = [_detached(run(dict(feeds))) for feeds in self.feeds]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # another runtime may raise anything, panics included
            return refusal(error, runtime, time.perf_counter() - started)
        return JobOutcome(PASSED, "", time.perf_counter() - started, outputs=outputs)


@dataclass(frozen=True)
class ReadVersion:
    """The job to read the version of the runtime, which is the message of the outcome."""

    def __call__(self, _: Prepare, runtime: Runtime) -> JobOutcome:
        """Run it in this process."""
        try:
            return JobOutcome(PASSED, runtime.version())
        except Exception:  # another's module may raise anything
            return JobOutcome(FAILED)


def version_in(outcome: JobOutcome) -> str:
    """Return the version that a `ReadVersion` has read, empty if there is none."""
    return outcome.message if outcome.status == PASSED else ""


def refusal(error: BaseException, runtime: Runtime, seconds: float) -> JobOutcome:
    """Return the outcome of a job that ended with this error."""
    status = UNSUPPORTED if runtime.is_unsupported(error) else FAILED
    return JobOutcome(status, f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE], seconds)


def _detached(outputs: Any) -> list[Any]:
    """Return outputs that own their memory, which a later run can't overwrite."""
    return [value.copy() if isinstance(value, np.ndarray) else value for value in outputs]


def run_jobs(
    jobs: Sequence[Job], runtime: Runtime, processes: int, timeout: float, memory: int = 0
) -> Generator[tuple[int, JobOutcome]]:
    """Yield each job's index and outcome, in the order in which they finish.

    `timeout` is in seconds per job, `memory` the bytes that a process may have (0: no limit). Raises ConformanceError
    if the runtime can't be started.
    """
    pending = deque(range(len(jobs)))
    workers: list[Worker] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        try:
            logs = [Path(folder, str(i)) for i in range(min(processes, len(jobs)))]
            workers += [Worker(runtime, timeout, memory, log) for log in logs]
            while pending or any(worker.job is not None for worker in workers):
                for worker in workers:
                    if worker.ready and worker.job is None and pending:
                        worker.give(pending[0], jobs[pending.popleft()])
                wait_for(workers)
                for position, worker in enumerate(workers):
                    index, outcome = worker.job, worker.poll()
                    if worker.dead:
                        workers[position] = worker.successor()
                    if outcome is not None and index is not None:
                        yield index, outcome
        finally:
            for worker in workers:
                worker.kill()


class Bench:
    """One worker for each runtime, to run the same model on all of them at once. A context manager."""

    def __init__(self, runtimes: Sequence[Runtime], timeout: float, memory: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        self._workers: dict[str, Worker] = {}
        try:
            for i, runtime in enumerate(runtimes):
                log = Path(self._folder.name, str(i))
                self._workers[runtime.name] = Worker(runtime, timeout, memory, log)
        except BaseException:
            self.close()
            raise

    def run(self, job: Job, names: Sequence[str] | None = None) -> dict[str, JobOutcome]:
        """Return the outcome of a job on these runtimes, or all. Raises ConformanceError if one can't be started."""
        names = list(self._workers) if names is None else names
        outcomes: dict[str, JobOutcome] = {}
        given: set[str] = set()
        while len(outcomes) < len(names):
            for name in names:
                worker = self._workers[name]
                if worker.ready and name not in given:
                    worker.give(0, job)
                    given.add(name)
            wait_for([self._workers[name] for name in names if name not in outcomes])
            for name in names:
                outcome = self._workers[name].poll() if name not in outcomes else None
                if outcome is not None:
                    outcomes[name] = outcome
                if self._workers[name].dead:
                    self._workers[name] = self._workers[name].successor()
        return outcomes

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.kill()
        self._folder.cleanup()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(workers: Sequence[Worker]) -> None:
    """Wait until one of the workers has an answer, has ended, or is out of time."""
    waiting = [w for worker in workers for w in (worker.pipe, worker.process.sentinel)]
    seconds = min(worker.deadline for worker in workers) - time.monotonic()
    connection.wait(waiting, max(0.0, seconds))


def _never() -> float:
    return time.monotonic() + 1e6


class Worker:
    """A worker process and the job that it runs."""

    def __init__(self, runtime: Runtime, timeout: float, memory: int, log: Path) -> None:
        self.runtime, self.timeout, self.memory, self.log = runtime, timeout, memory, log
        log.write_bytes(b"")
        self.pipe, theirs = get_context("spawn").Pipe()
        self.process = get_context("spawn").Process(
            target=_serve, args=(theirs, runtime, timeout, memory, str(log)), daemon=True
        )
        with _interrupts_ignored():
            self.process.start()
        theirs.close()
        self.ready = self.dead = False
        self.job: int | None = None
        self.deadline = time.monotonic() + _START_SECONDS

    def successor(self) -> Worker:
        """Return a new worker in the place of this one."""
        return Worker(self.runtime, self.timeout, self.memory, self.log)

    def give(self, index: int, job: Job) -> None:
        """Send a job to a worker that is ready and has none."""
        self.job = index
        self.deadline = time.monotonic() + self.timeout
        with suppress(OSError):  # poll notices a worker that died while idle
            self.pipe.send(job)

    def poll(self) -> JobOutcome | None:
        """Return the outcome of the job if it has finished. Raises ConformanceError if the worker can't start."""
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
        self.job = None
        assert isinstance(message, JobOutcome)
        return message

    def _receive(self) -> Any:
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            self.process.join(1)
            return None
        except Exception as error:  # unpickling calls the classes of another runtime
            return JobOutcome(FAILED, f"its outputs can't be read: {type(error).__name__}: {error}"[:LONGEST_MESSAGE])

    def _bury(self) -> JobOutcome:
        alive = self.process.is_alive()
        self.kill()
        said = self.log.read_text(errors="replace").strip()[-LONGEST_MESSAGE:]
        if not self.ready:
            raise ConformanceError(f"{self.runtime.name} can't be started: {said or 'no answer'}")
        if alive:
            return JobOutcome(TIMED_OUT, f"no result after {self.timeout:g} s", self.timeout)
        code = self.process.exitcode or 0
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return JobOutcome(CRASHED, f"{cause}\n{said}".strip())

    def kill(self) -> None:
        """End the process."""
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


def _serve(pipe: Connection, runtime: Runtime, timeout: float, memory: int, log: str) -> None:
    """Run a worker: start the runtime, then receive jobs and send outcomes until the parent is gone."""
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(2)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    if memory and resource is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        prepare = runtime.start()
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(_READY)
    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            os.ftruncate(2, 0)
            faulthandler.dump_traceback_later(2 * timeout + 10, exit=True, file=2)  # ends it if the parent was killed
            outcome = job(prepare, runtime)
            faulthandler.cancel_dump_traceback_later()
            pipe.send(outcome)
