"""The door to the JIT: without it, at lower CPU levels, without a place to cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinyonnx.kernels import _jit

ROOT = Path(__file__).resolve().parents[2]

SMALL = """
import sys
import numpy as np
import tests.kernels.fast as fast
from tests.kernels.test_conv import ACTIVATIONS, noise
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
fast.assert_close(*fast.run("SqueezeExcite", *inputs, constants=(1, 2, 3, 4), fused=True))
from tinyonnx.kernels import _jit, conv
print(_jit.LANES, type(conv.convolve).__name__, len(getattr(conv.convolve, "signatures", [])))
"""


def run_small(**environment: str) -> list[str]:
    process = subprocess.run(
        [sys.executable, "-c", SMALL],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_without_the_jit() -> None:
    assert run_small(NUMBA_DISABLE_JIT="1")[:2] == ["4", "function"]


@pytest.mark.skipif(_jit.LANES < 8, reason="the host has no lower level with vectors")
@pytest.mark.parametrize(("level", "lanes"), [("x86-64-v2", "4"), ("x86-64-v3", "8")])
def test_lower_cpu_levels(level: str, lanes: str) -> None:
    assert run_small(NUMBA_CPU_NAME=level, NUMBA_CPU_FEATURES="")[0] == lanes


def test_one_specialisation_and_no_writable_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert run_small(NUMBA_CACHE_DIR=str(blocked / "cache"))[2] == "1"


def twice(x: float) -> float:
    return x + x


def test_damaged_cache_files_are_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jit, "_FOLDER", str(tmp_path))
    assert _jit.jit(twice)(2.0) == 4
    files = [path for path in tmp_path.rglob("*.nb?") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(b"damaged")
    assert _jit.jit(twice)(2.0) == 4


def test_a_cache_that_fails_later_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setattr(_jit, "_FOLDER", str(folder))
    compiled = _jit.jit(twice)
    shutil.rmtree(folder)
    folder.write_text("no folder")
    assert compiled(2.0) == 4
