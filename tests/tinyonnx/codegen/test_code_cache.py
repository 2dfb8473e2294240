"""The code cache: its keys, damaged files, interrupts; kernels without the compiler and at lower CPU levels."""

from __future__ import annotations

import importlib
import linecache
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyonnx import disk_cache
from tinyonnx.codegen import code_cache
from tinyonnx.codegen.kernel import Kernel, kernel
from tinyonnx.codegen.primitives import LANES
from tinyonnx.kernels import BoundKernel, elementwise
from tinyonnx.kernels._common import epilogue_of
from tinyonnx.ops.fused import Activation
from tinyonnx.runtime.program import HAS_CLOCK, Program, note_time

ROOT = Path(__file__).resolve().parents[3]

SMALL = """
import sys
import numpy as np
import tests.tinyonnx.kernels.fast as fast
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
for attributes in ACTIVATIONS:
    for group, k in ((1, 1), (1, 3), (2, 3), (6, 3), (6, 5)):
        x, w = noise(0, 2, 6, 4, 9), noise(1, 6, 6 // group, k, k)
        inputs = x, w, noise(2, 6), noise(3, 2, 6, 4, 9)
        fast.assert_close(*fast.run("FusedConv", *inputs, fused=True, group=group, pads=[k // 2] * 4, **attributes))
fast.assert_close(*fast.run("Conv", noise(0, 1, 20, 5, 20), noise(1, 20, 1, 3, 3), group=20, strides=[2, 2]))
fast.assert_close(*fast.run("Gemm", noise(0, 9, 5), noise(1, 5, 21), noise(2, 21)))
fast.assert_close(*fast.run("MaxPool", noise(0, 1, 3, 5, 5), kernel_shape=[2, 2]))
fast.assert_close(*fast.run("AveragePool", noise(0, 1, 3, 5, 5), kernel_shape=[2, 2], pads=[1] * 4))
fast.assert_close(*fast.run("GlobalAveragePool", noise(0, 2, 3, 5, 5)))
fast.assert_close(*fast.run("Sigmoid", noise(0, 50)))
fast.assert_close(*fast.run("Add", noise(0, 50), noise(1, 50), constants=()))
inputs = noise(0, 2, 6, 4, 9), noise(1, 6, 3), noise(2, 3), noise(3, 3, 6), noise(4, 6)
fast.assert_close(*fast.run("SqueezeGate", *inputs, constants=(1, 2, 3, 4), fused=True))
from tinyonnx.codegen import primitives
print(primitives.LANES, "tinyonnx.codegen.compiler" in sys.modules)
"""


ONE = """
import sys
import numpy as np
import tests.tinyonnx.kernels.fast as fast
from tests.tinyonnx.kernels.test_conv import noise
fast.assert_close(*fast.run("MaxPool", noise(0, 1, 3, 5, 5), kernel_shape=[2, 2]))
fast.assert_close(*fast.run("Conv", noise(0, 1, 20, 5, 20), noise(1, 20, 1, 3, 3), group=20, strides=[2, 2]))
from tinyonnx.codegen import primitives
print(primitives.LANES, "tinyonnx.codegen.compiler" in sys.modules)
"""


LEAST = """
import sys
import numpy as np
from tinyonnx.kernels import elementwise
x, out = np.ones((2, 64), np.float32)
elementwise.map_pair(x, x, out, 0)
assert (out == 2).all()
from tinyonnx.codegen import primitives
print(primitives.LANES, "tinyonnx.codegen.compiler" in sys.modules)
"""


def run_small(script: str = SMALL, **environment: str) -> list[str]:
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_without_the_jit() -> None:
    assert run_small(NUMBA_DISABLE_JIT="1") == ["4", "False"]


@pytest.mark.skipif(LANES < 8, reason="the host has no lower level with vectors")
@pytest.mark.trials
@pytest.mark.parametrize(("level", "lanes"), [("x86-64-v2", "4"), ("x86-64-v3", "8")])
def test_lower_cpu_levels(level: str, lanes: str) -> None:
    """Two kernels; .ci/run runs the tests of all kernels at these levels."""
    assert run_small(ONE, NUMBA_CPU_NAME=level, NUMBA_CPU_FEATURES="")[0] == lanes


def test_a_second_process_needs_no_compiler_and_a_blocked_cache_only_costs_it(tmp_path: Path) -> None:
    assert run_small(LEAST, XDG_CACHE_HOME=str(tmp_path))[1:] == ["True"]
    assert run_small(LEAST, XDG_CACHE_HOME=str(tmp_path))[1:] == ["False"]
    shutil.rmtree(tmp_path / "tinyonnx")
    (tmp_path / "tinyonnx").write_text("no folder")
    assert run_small(LEAST, XDG_CACHE_HOME=str(tmp_path))[1:] == ["True"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(code_cache, "folder", lambda: folder)
    return folder


def double(x: Any, part: int, parts: int) -> None:
    for i in range(x.shape[0]):
        x[i] += x[i]


def doubled() -> list[float]:
    x = np.array([2.0])
    kernel(double)(x)
    return x.tolist()


@pytest.mark.parametrize("damage", [b"", b"damaged"])
def test_damaged_cache_files_are_compiled_anew(cache: Path, damage: bytes) -> None:
    assert doubled() == [4]
    (file,) = cache.iterdir()
    file.write_bytes(damage)
    assert disk_cache.read(file) is None
    assert doubled() == [4]
    assert disk_cache.read(file) is not None


INTERRUPTED = """
import signal, sys
import numpy as np
from tinyonnx.kernels import elementwise
x, out = np.ones((2, 64), np.float32)
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
try:
    while True:
        elementwise.map_pair(x, x, out, 0)
except KeyboardInterrupt:
    pass
elementwise.map_pair(x, x, out, 0)
print(out[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no timers here")
@pytest.mark.parametrize("seconds", ["0.05", "0.3", "1"])
def test_an_interrupt_while_compiling_harms_nothing(seconds: str, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_CACHE_DIR": "", "PYTHONPATH": str(ROOT)}
    script = [sys.executable, "-c", INTERRUPTED, seconds]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.stderr) == ("2.0\n", "")


UNKEPT = """
import logging
import numpy as np
logging.basicConfig(level=logging.INFO, format="%(message)s")
from tinyonnx.kernels import elementwise
x, out = np.ones(1, np.float32), np.zeros(1, np.float32)
elementwise.map_pair(x, x, out, 0)
"""


def test_it_is_said_that_machine_code_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file"), "NUMBA_CACHE_DIR": "", "PYTHONPATH": str(ROOT)}
    script = [sys.executable, "-c", UNKEPT]
    done = subprocess.run(script, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert "compiling kernels" in done.stderr
    assert f"{tmp_path / 'file' / 'tinyonnx'} can't be written" in done.stderr


def _two_after_the_kernel(folder: Path, *imported: str) -> float:
    """Import `a_kernel` of the folder, and what it imports, anew, and return what its `add` makes of 2."""
    importlib.invalidate_caches()
    linecache.clearcache()
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    x = np.array([2.0])
    try:
        importlib.import_module("a_kernel").add(x)
    finally:
        for name in ("a_kernel", *imported):
            sys.modules.pop(name, None)
    return float(x[0])


def test_a_change_in_a_file_that_a_kernel_calls_is_noticed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of other packages may be spread over files."""
    monkeypatch.syspath_prepend(cache.parent)
    for step in (1, 10):
        (cache.parent / "a_helper.py").write_text(
            f"from tinyonnx import jit\n@jit\ndef more(x):\n    return x + {step}.0\n"
        )
        (cache.parent / "a_kernel.py").write_text(
            "from tinyonnx import kernel\nfrom a_helper import more\n"
            "@kernel\ndef add(x, part, parts):\n    x[0] = more(x[0])\n"
        )
        assert _two_after_the_kernel(cache.parent, "a_helper") == 2 + step


def test_constants_that_are_computed_at_run_time_are_told_apart(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(cache.parent)
    text = (
        "import os\nfrom tinyonnx import kernel\nSTEP = float(os.environ['STEP'])\n@kernel\ndef add(x, part, parts):\n"
    )
    (cache.parent / "a_kernel.py").write_text(text + "    x[0] += STEP\n")
    for step in (1.0, 10.0):
        monkeypatch.setenv("STEP", str(step))
        assert _two_after_the_kernel(cache.parent) == 2 + step


def test_constants_of_other_modules_are_told_apart(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(cache.parent)
    (cache.parent / "a_kernel.py").write_text(
        "import some_numbers as numbers\nfrom tinyonnx import kernel\n"
        "@kernel\ndef add(x, part, parts):\n    x[0] += numbers.STEP\n"
    )
    for step in (1.0, 10.0):
        (cache.parent / "some_numbers.py").write_text(f"STEP = {step}\n")
        assert _two_after_the_kernel(cache.parent, "some_numbers") == 2 + step


def test_kernels_of_old_versions_are_removed(cache: Path) -> None:
    folders = [cache.parent / f"kernels-{i}" for i in range(26)]
    for seconds, folder in enumerate(folders):
        folder.mkdir()
        (folder / "a.o").touch()
        os.utime(folder, (seconds, seconds))
    assert doubled() == [4]
    assert [folder.exists() for folder in folders] == [False] * 2 + [True] * 24


def test_machine_code_needs_nothing_but_the_system() -> None:
    """It has to run without numba and Python: as an executable."""
    elementwise.map_activation(*np.ones((2, 4), np.float32), epilogue_of(Activation(name="HardSigmoid")))
    files = list(code_cache.folder().iterdir())
    assert files
    for file in files:
        assert not re.findall(rb"NRT_\w+|numba_\w+|Py[A-Z]\w+", file.read_bytes())


def test_unfit_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="can't be a str"):
        kernel(double)("text")


@pytest.mark.skipif(not HAS_CLOCK, reason="the clock is machine code")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_program_notes_the_time_between_its_steps(threads: int) -> None:
    times = np.zeros(3, np.int64)
    x, out, expected = np.linspace(-3, 3, 64, dtype=np.float32), *np.zeros((2, 64), np.float32)
    elementwise.map_activation(x, expected, epilogue_of(Activation(name="HardSigmoid")))
    steps = [BoundKernel(note_time, (times, i)) for i in range(3)]
    steps.insert(1, BoundKernel(elementwise.map_activation, (x, out, epilogue_of(Activation(name="HardSigmoid")))))
    program = Program(steps)
    for _ in range(3):
        begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        program.run(threads)
        end = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert begin <= times[0] < times[1] <= times[2] <= end
        np.testing.assert_array_equal(out, expected)
        out[:] = 0


@pytest.mark.skipif(not HAS_CLOCK, reason="the clock is machine code")
def test_a_program_may_have_hundreds_of_thousands_of_steps() -> None:
    """A batch is gone through item by item, with rows for each of them."""
    times = np.zeros(2, np.int64)
    first, last = (BoundKernel(note_time, (times, i)) for i in range(2))
    steps = [first] * (1 << 18) + [last]
    Program(steps).run(2, len(steps) - 2, len(steps))
    assert 0 < times[0] <= times[1]


def test_expected_kernels_of_an_outer_block_stay_expected() -> None:
    outer: list[tuple[Kernel, str]] = []
    with code_cache.expecting(lambda: outer):
        with code_cache.expecting(list):
            pass
        assert code_cache._expected.wanted() is outer
    assert code_cache._expected.wanted is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_while_kernels_compile_does_not_keep_the_lock(cache: Path) -> None:
    import fcntl

    path = code_cache.folder() / "kernel-0.o"
    reader, writer = os.pipe()
    with code_cache._one_process(path):
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    try:
        with disk_cache.open_lock(code_cache._lock_name(path)) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError if it is still held
    finally:
        os.close(writer)
        os.waitpid(child, 0)
