"""The table of targets, and code for machines other than this one."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyonnx.codegen import targets
from tinyonnx.codegen.arguments import kinds_of
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.codegen.targets import LEVELS, TARGETS, level_of
from tinyonnx.kernels import elementwise

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import sys
import numpy as np
from tinyonnx.codegen.code_cache import linkable
from tinyonnx.codegen.primitives import LANES
from tinyonnx.codegen.arguments import kinds_of
from tests.tinyonnx.codegen.tile_kernel import tile

x = np.zeros(64, np.float32)
symbol, code = linkable(tile, kinds_of((x, x, x, 3)))
sys.stdout.buffer.write(bytes([LANES]) + code)
"""

MAGIC = {"elf": b"\x7fELF", "coff": struct.pack("<H", 0x8664), "macho": b"\xcf\xfa\xed\xfe", "wasm": b"\0asm"}


def emitted(target: str, cpu: str, features: str = "") -> tuple[int, bytes]:
    """Return lanes, and the object file of a kernel with a register tile."""
    environment = {"TINYONNX_TARGET": target, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment},
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout[0], done.stdout[1:]


@pytest.mark.parametrize("name", TARGETS)
def test_objects_have_the_format_of_the_target(name: str) -> None:
    target = TARGETS[name]
    level = target.levels[-1]
    lanes, code = emitted(name, level.cpu, level.features)
    assert lanes == level.lanes
    assert code.startswith(MAGIC[target.object_format])


@pytest.mark.parametrize("cpu", ["cortex-a72", "neoverse-n1"])
def test_named_processors_of_arm_have_tiles_of_neon(cpu: str) -> None:
    lanes, code = emitted("aarch64-linux", cpu)
    assert (lanes, struct.unpack_from("<H", code, 18)[0]) == (4, 183)  # EM_AARCH64
    words = np.frombuffer(code[: len(code) // 4 * 4], "<u4")
    # FMLA of four float32, by vector and by element
    by_vector, by_element = (words & 0xFFE0FC00) == 0x4E20CC00, (words & 0xFFC0F400) == 0x4F801000
    assert np.count_nonzero(by_vector | by_element) >= 8


def test_every_architecture_has_a_level_for_every_processor() -> None:
    for levels in LEVELS.values():
        assert levels[-1].needs == frozenset()
        assert [level.lanes for level in levels] == sorted((level.lanes for level in levels), reverse=True)


def test_levels_follow_from_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "architecture", lambda: "x86_64")
    lanes = {"": 4, "avx2": 4, "avx2 fma": 8, "avx512f avx2 fma": 16}
    assert {text: level_of(frozenset(text.split())).lanes for text in lanes} == lanes
    monkeypatch.setattr(targets, "architecture", lambda: "aarch64")
    assert level_of(frozenset({"avx2", "fma"}))[3:] == (4, 32)
    monkeypatch.setattr(targets, "architecture", lambda: "riscv64")
    assert level_of(frozenset())[3:] == (4, 16)


@pytest.mark.parametrize(
    ("platform", "machine", "host", "architecture"),
    [
        ("linux", "x86_64", "x86_64-linux", "x86_64"),
        ("win32", "AMD64", "x86_64-windows", "x86_64"),
        ("win32", "ARM64", "aarch64-windows", "aarch64"),
        ("darwin", "arm64", "aarch64-macos", "aarch64"),
        ("linux", "aarch64", "aarch64-linux", "aarch64"),
    ],
)
def test_names_of_hosts(
    monkeypatch: pytest.MonkeyPatch, platform: str, machine: str, host: str, architecture: str
) -> None:
    monkeypatch.delenv(targets.VARIABLE, raising=False)
    monkeypatch.setattr(targets.sys, "platform", platform)
    monkeypatch.setattr(targets.platform, "machine", lambda: machine)
    assert (targets.host(), targets.architecture()) == (host, architecture)


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_code_for_a_linker_is_the_same_whatever_was_compiled_before() -> None:
    from tinyonnx.codegen import compiler

    kinds = kinds_of([np.zeros(4, np.uint32)] * 2)
    first = compiler.compile_kernel(elementwise.copy, kinds, "entry", linkable=True)
    compiler.compile_kernel(elementwise.copy, kinds_of([np.zeros(4, np.uint8)] * 2))
    assert compiler.compile_kernel(elementwise.copy, kinds, "entry", linkable=True) == first
