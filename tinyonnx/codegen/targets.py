"""Machines that code is generated for: LLVM's names, CPU levels with the shape of their vectors, object formats.

This is the only such table: kernels, code cache, linker and commands look up a machine's properties here.
TINYONNX_TARGET names the target that a process generates code for; without it, code is for the machine that the process
runs on.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from typing import NamedTuple


class CpuLevel(NamedTuple):
    """Processors of one architecture that have certain features.

    `cpu` and `features` are passed to LLVM. A processor has the level if it has all features in `needs`. Vectors hold
    `lanes` float32, and there are `registers` of them.
    """

    cpu: str
    features: str
    needs: frozenset[str]
    lanes: int
    registers: int

    @property
    def enabled(self) -> frozenset[str]:
        """The features that kernels may use."""
        return self.needs | {name[1:] for name in self.features.split(",") if name.startswith("+")}

    @property
    def label(self) -> str:
        """The name of the level in messages."""
        return f"{self.cpu} with AVX512-BF16" if self is _BFLOAT16 else self.cpu


class TargetMachine(NamedTuple):
    """A machine and its system. Levels are best first; `suffix` is that of shared libraries."""

    name: str
    triple: str
    object_format: str
    levels: tuple[CpuLevel, ...]
    suffix: str

    @property
    def architecture(self) -> str:
        return self.name.partition("-")[0]

    @property
    def system(self) -> str:
        return self.name.rpartition("-")[2]

    def levels_for(self, precision: str) -> tuple[CpuLevel, ...]:
        """Return the levels of binaries, best first; "bfloat16" adds, on x86-64, the level with AVX512-BF16."""
        return (_BFLOAT16, *self.levels) if precision == "bfloat16" and self.levels is _X86_64 else self.levels


_X86_64 = (
    CpuLevel("x86-64-v4", "", frozenset({"avx512f"}), 16, 32),
    CpuLevel("x86-64-v3", "", frozenset({"avx2", "fma"}), 8, 16),
    CpuLevel("x86-64-v2", "", frozenset(), 4, 16),
)

_BFLOAT16 = CpuLevel("x86-64-v4", "+avx512bf16", frozenset({"avx512f"}), 16, 32)

_AARCH64 = (CpuLevel("generic", "+neon", frozenset(), 4, 32),)

_APPLE = (CpuLevel("apple-m1", "", frozenset(), 4, 32),)

_WASM = (
    CpuLevel(
        "generic",
        "+simd128,+bulk-memory,+bulk-memory-opt,+sign-ext,+nontrapping-fptoint,+mutable-globals",
        frozenset(),
        4,
        16,
    ),
)

LEVELS = {"x86_64": _X86_64, "aarch64": _AARCH64, "wasm32": _WASM}
"""CPU levels by architecture, best first; every processor has the last one."""

_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Architectures by the names that Windows and macOS give them."""

_OTHERS = CpuLevel("", "", frozenset(), 4, 16)
"""Other architectures, on which kernels run but for which nothing is linked."""

TARGETS = {
    target.name: target
    for target in (
        TargetMachine("x86_64-linux", "x86_64-unknown-linux-gnu", "elf", _X86_64, ".so"),
        TargetMachine("aarch64-linux", "aarch64-unknown-linux-gnu", "elf", _AARCH64, ".so"),
        TargetMachine("x86_64-windows", "x86_64-w64-windows-gnu", "coff", _X86_64, ".dll"),
        TargetMachine("x86_64-macos", "x86_64-apple-macosx11.0.0", "macho", _X86_64, ".dylib"),
        TargetMachine("aarch64-macos", "arm64-apple-macosx11.0.0", "macho", _APPLE, ".dylib"),
        TargetMachine("wasm", "wasm32-unknown-unknown", "wasm", _WASM, ".wasm"),
    )
}
"""All targets by name."""

DEFAULT = "x86_64-linux"
"""The target of executables and libraries if none is given."""

VARIABLE = "TINYONNX_TARGET"
"""The environment variable that names the target of a process."""


@cache
def chosen() -> TargetMachine | None:
    """Return the target that this process generates code for; None for the machine that it runs on."""
    name = os.environ.get(VARIABLE)
    return TARGETS[name] if name else None


def architecture() -> str:
    """Return the architecture that this process generates code for."""
    if target := chosen():
        return target.triple.partition("-")[0].replace("arm64", "aarch64")
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def host() -> str:
    """Return the name of the target that is this machine; there may be no such target."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    return f"{_ARCHITECTURES.get(machine, machine)}-{system}"


def level_of(features: frozenset[str]) -> CpuLevel:
    """Return the best level of this process's architecture whose features the processor has."""
    return next((level for level in LEVELS.get(architecture(), ()) if level.needs <= features), _OTHERS)
