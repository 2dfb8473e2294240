"""One process per peer, driven over pipes, so that peers take turns and memory is each one's own."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Run = Callable[[], np.ndarray[Any, Any]]


def tinyonnx_peer(model: str, feeds: dict[str, Any], threads: int) -> Run:
    """This project."""
    import tinyonnx

    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    session = tinyonnx.InferenceSession(model, options)
    return lambda: session.run(None, feeds)[0]


def onnxruntime_peer(model: str, feeds: dict[str, Any], threads: int) -> Run:
    """ONNX Runtime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)[0]


PEERS: dict[str, Callable[[str, dict[str, Any], int], Run]] = {
    "tinyonnx": tinyonnx_peer,
    "onnxruntime": onnxruntime_peer,
}


@dataclass
class Measurement:
    """Seconds per run, seconds until the first result, peak memory of the process in MiB."""

    peer: str
    first: float
    times: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    difference: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.times)


class Worker:
    """A peer in a process of its own."""

    def __init__(self, peer: str, model: str, feeds_path: str, result_path: str, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        self.result_path = result_path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", peer, model, feeds_path, result_path, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.measurement = Measurement(peer, float(self._ask("")))

    def _ask(self, text: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.measurement.peer if hasattr(self, 'measurement') else 'a peer'} ended early")
        return answer

    def run(self) -> None:
        """One timed run."""
        self.measurement.times.append(float(self._ask("run\n")))

    def close(self) -> Measurement:
        """End the process and note its peak memory."""
        self.measurement.peak_mib = float(self._ask("end\n"))
        self.process.wait()
        return self.measurement


def _serve(peer: str, model: str, feeds_path: str, result_path: str, threads: int) -> None:
    with np.load(feeds_path) as file:
        feeds = dict(file)
    start = time.perf_counter()
    run = PEERS[peer](model, feeds, threads)
    result = run()
    print(time.perf_counter() - start, flush=True)
    np.save(result_path, result)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:5], int(sys.argv[5]))  # type: ignore[arg-type,misc]
