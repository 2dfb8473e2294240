"""Measurement of contenders in separate processes that take turns, so that noise affects all equally."""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[], list[Array]]

RUNS_PER_TURN = 3
PAUSE = 0.02
"""Pause between turns in seconds, during which the threads of the last contender stop spinning."""

WARM_UP = 0.03
"""Seconds of untimed runs per turn: after a pause the processor is slow for some milliseconds."""

BUDGET = 8.0
"""A contender whose timed runs took this many seconds in all skips the remaining turns."""


class AbsentError(Exception):
    """A contender can't be measured; the message gives the cause."""


@dataclass(frozen=True)
class Contender:
    """A contender: `target` is "module:function", which makes a `Run` from the arguments (JSON values).

    `environment` is added to that of its process.
    """

    name: str
    target: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Measurement:
    """Wall and CPU seconds of each run, seconds until the first result, peak memory in MiB.

    `difference` is the maximum absolute difference from the results of the reference; `absent` is the
    reason if there are no runs.
    """

    name: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    first: float | None = None
    peak_mib: float | None = None
    difference: float | None = None
    absent: str | None = None

    @property
    def median(self) -> float | None:
        """Median wall seconds."""
        return statistics.median(self.wall) if self.wall else None

    @property
    def median_cpu(self) -> float | None:
        """Median CPU seconds."""
        return statistics.median(self.cpu) if self.cpu else None


@dataclass
class Case:
    """Measurements of several contenders, ours first, with the parameters and operations of one run."""

    part: str
    title: str
    measurements: list[Measurement]
    parameters: dict[str, Any] = field(default_factory=dict)
    flops: int | None = None


def pinned(threads: int) -> dict[str, str]:
    """Copy the environment with a limit for every thread pool."""
    names = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "RAYON_NUM_THREADS",
    )
    return {**os.environ, **dict.fromkeys(names, str(threads))}


def take_turns(
    contenders: Sequence[Contender],
    *,
    threads: int,
    repeats: int,
    reference: str,
    budget: float = BUDGET,
) -> list[Measurement]:
    """Measure all contenders, `repeats` timed runs each, and compare their results with those of `reference`."""
    with tempfile.TemporaryDirectory() as folder:
        workers = []
        for i, contender in enumerate(contenders):
            workers.append(_Worker(contender, os.path.join(folder, f"{i}.npz"), threads))
            time.sleep(PAUSE)
        for done in range(0, repeats, RUNS_PER_TURN):
            for worker in workers:
                measured = worker.measurement
                if measured.absent is None and sum(measured.wall) < budget:
                    worker.turn(min(RUNS_PER_TURN, repeats - done))
                    time.sleep(PAUSE)
        results = {worker.measurement.name: worker.close() for worker in workers}
    measurements = [worker.measurement for worker in workers]
    expected = results.get(reference)
    for measurement in measurements:
        got = results[measurement.name]
        if expected is not None and got is not None:
            _compare(measurement, got, expected)
    return measurements


def _compare(measurement: Measurement, got: list[Array], expected: list[Array]) -> None:
    shapes, wanted = [a.shape for a in got], [a.shape for a in expected]
    if shapes != wanted:
        measurement.absent = f"its results have shapes {shapes}, not {wanted}"
        return
    differences = [np.abs(a.astype(np.float64) - b).max() for a, b in zip(got, expected) if a.size]
    measurement.difference = float(np.max(differences)) if differences else 0.0


class _Worker:
    """The process of a contender, as the parent sees it."""

    def __init__(self, contender: Contender, results: str, threads: int) -> None:
        self.measurement = Measurement(contender.name)
        self.results = results
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.turns"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=pinned(threads) | dict(contender.environment),
        )
        request = {
            "target": contender.target,
            "arguments": dict(contender.arguments),
            "results": results,
        }
        self.measurement.first = self._ask(json.dumps(request)).get("first")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        reply: dict[str, Any] = json.loads(answer) if answer else {"absent": self._ending()}
        self.measurement.absent = reply.get("absent")
        self.measurement.peak_mib = reply.get("peak_mib")
        return reply

    def _ending(self) -> str:
        code = self.process.wait()
        return f"its process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def turn(self, runs: int) -> None:
        reply = self._ask(str(runs))
        self.measurement.wall += reply.get("wall", [])
        self.measurement.cpu += reply.get("cpu", [])

    def close(self) -> list[Array] | None:
        """End the process and return the results of its first run, None if it is absent."""
        with suppress(BrokenPipeError):
            self.process.communicate()
        if self.measurement.absent is not None:
            return None
        with np.load(self.results) as file:
            return [file[name] for name in file.files]


# -- in the contender's process -----------------------------------------------------------


def maxrss_mib(value: int) -> float:
    """Convert `ru_maxrss`, in KiB or on macOS in bytes, to MiB."""
    return value / (2**20 if sys.platform == "darwin" else 2**10)


def _peak_mib() -> float:
    with (
        suppress(OSError, StopIteration),
        open("/proc/self/status", encoding="ascii", errors="replace") as file,
    ):
        # ru_maxrss would count what the parent had when it forked
        line = next(line for line in file if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return maxrss_mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with the replies

    def answer(**reply: Any) -> None:
        print(json.dumps(reply | {"peak_mib": _peak_mib()}), file=answers, flush=True)

    request = json.loads(sys.stdin.readline())
    module, _, function = request["target"].partition(":")
    try:
        start = time.perf_counter()
        run: Run = getattr(importlib.import_module(module), function)(**request["arguments"])
        results = run()
        first = time.perf_counter() - start
        peak = _peak_mib()
        np.savez(request["results"], *results)
    except Exception as error:
        answer(absent=_reason(error))
        return
    del results
    answer(first=first, before=peak)
    for line in sys.stdin:
        wall, cpu = [], []
        ready = time.perf_counter() + WARM_UP
        run()
        while time.perf_counter() < ready:
            run()
        for _ in range(int(line)):
            start, spent = time.perf_counter(), time.process_time()
            run()
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - spent)
        answer(wall=wall, cpu=cpu)


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} isn't installed"
    text = next(iter(str(error).strip().splitlines()), "")[:160]
    return text if isinstance(error, AbsentError) else f"{type(error).__name__}: {text}"


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and closes this process's standard input
    _serve()
