"""Runs on several threads, from several threads, and in forked and spawned processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import tinyonnx
from audiotag.models.mobilenet import random_graph
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ir import Array
from tinyonnx.runtime import threads


@pytest.fixture(scope="module")
def model() -> bytes:
    return tinyonnx.to_bytes(random_graph("mn01", seed=0))


def session(model: bytes, n_threads: int) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = n_threads
    return tinyonnx.InferenceSession(model, options)


def clip(seed: int, batch: int = 1, frames: int = 100) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, 1, 128, frames), dtype=np.float32)


def run(session: tinyonnx.InferenceSession, x: Array) -> Array:
    result: Array = session.run(["logits"], {"melspec": x})[0]
    return result


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report several processors, so that threads help each other on any machine."""
    monkeypatch.setattr(threads, "available", lambda: 4)


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("n_threads", [2, 3])
def test_the_number_of_threads_does_not_show(model: bytes, n_threads: int) -> None:
    alone, together = session(model, 1), session(model, n_threads)
    for seed in range(5):
        for batch, frames in ((1, 100), (3, 63), (1, 1)):
            x = clip(seed, batch, frames)
            np.testing.assert_array_equal(run(alone, x), run(together, x))


@pytest.mark.usefixtures("two_processors")
def test_tracing_on_several_threads(model: bytes) -> None:
    seen: dict[int, list[Array]] = {1: [], 2: []}
    for n_threads, outputs in seen.items():
        outputs += [arrays[0].copy() for _, arrays in session(model, n_threads).trace({"melspec": clip(0)})]
    assert len(seen[1]) == len(seen[2])
    for a, b in zip(*seen.values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("shared", [True, False], ids=["one session", "a session each"])
def test_several_python_threads_at_once(model: bytes, shared: bool) -> None:
    clips = [clip(seed) for seed in range(4)]
    expected = [run(session(model, 1), x) for x in clips]
    common = session(model, 2)

    def many(i: int) -> list[Array]:
        mine = common if shared else session(model, 2)
        return [run(mine, clips[i]) for _ in range(30)]

    with ThreadPoolExecutor(4) as pool:
        for i, results in enumerate(pool.map(many, range(4))):
            for result in results:
                np.testing.assert_array_equal(result, expected[i])


def test_far_more_threads_than_processors(model: bytes) -> None:
    np.testing.assert_array_equal(run(session(model, 1), clip(0)), run(session(model, 64), clip(0)))


INTERRUPTED = """
import signal, sys, threading
import numpy as np
import tinyonnx
from tinyonnx.runtime import threads

threads.available = lambda: 4
options = tinyonnx.SessionOptions()
options.intra_op_num_threads = 2
session = tinyonnx.InferenceSession(sys.stdin.buffer.read(), options)
feeds = {"melspec": np.ones((1, 1, 128, 100), np.float32)}
expected = session.run(["logits"], feeds)[0]
interrupts = 0
for delay in np.random.default_rng(0).uniform(0.0005, 0.01, 50):
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        while True:
            np.testing.assert_array_equal(session.run(["logits"], feeds)[0], expected)
    except KeyboardInterrupt:
        interrupts += 1
assert interrupts == 50
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_runs_after_interrupts(model: bytes) -> None:
    script = "import signal; signal.signal(signal.SIGALRM, signal.default_int_handler)\n" + INTERRUPTED
    subprocess.run([sys.executable, "-c", script], input=model, check=True, timeout=600)


FORK_WHILE_COMPILING = """
import os, sys, threading
import numpy as np
import tinyonnx

model = sys.stdin.buffer.read()


def run():
    return tinyonnx.InferenceSession(model).run(["y"], {"x": np.ones(100, np.float32)})[0]


compiling = threading.Event()
from tinyonnx.codegen import compiler

compile_kernel = compiler.compile_kernel
compiler.compile_kernel = lambda *args: (compiling.set(), compile_kernel(*args))[1]
worker = threading.Thread(target=run)
worker.start()
assert compiling.wait(600)
child = os.fork()
if not child:
    run()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
worker.join()
"""


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_another_thread_compiles(tmp_path: Path) -> None:
    relu = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 20]>
        agraph (float[100] x) => (float[100] y) { y = Relu(x) }
    """)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_CACHE_DIR": "", "PYTHONWARNINGS": "ignore"}
    script = [sys.executable, "-c", FORK_WHILE_COMPILING]
    subprocess.run(script, input=relu.SerializeToString(), env=environment, check=True, timeout=600)


def test_nothing_spins_when_idle(model: bytes, two_processors: None) -> None:
    together = session(model, 2)
    run(together, clip(0))
    for _ in range(1000):  # a thread that the machine has not let run yet still has to find out that there is no work
        before = time.process_time()
        time.sleep(0.3)
        if time.process_time() - before < 0.1:
            return
    raise AssertionError("threads without work use the processor")


def _in_child(model: bytes | tinyonnx.InferenceSession, queue: multiprocessing.Queue[Array]) -> None:
    mine = session(model, 2) if isinstance(model, bytes) else model
    queue.put(run(mine, clip(1)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes(model: bytes, method: str, two_processors: None) -> None:
    """A forked child has no threads but the one that forked, while the parent's are waiting or at work."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    parent = session(model, 2)
    expected = run(parent, clip(1))
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            run(parent, clip(2))

    worker = threading.Thread(target=busy)
    worker.start()
    context = multiprocessing.get_context(method)
    try:
        for _ in range(3 if method == "fork" else 1):
            queue = context.Queue()
            child = context.Process(target=_in_child, args=(parent if method == "fork" else model, queue))
            child.start()
            np.testing.assert_array_equal(queue.get(timeout=600), expected)
            child.join(600)
            assert child.exitcode == 0
    finally:
        stop.set()
        worker.join()
