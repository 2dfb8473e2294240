"""Description of the machine, and the peak FMA rate of one core."""

from __future__ import annotations

import ctypes
import datetime
import importlib.metadata
import os
import platform
import time
from contextlib import suppress
from typing import Any

PACKAGES = (
    "numpy",
    "onnx",
    "numba",
    "llvmlite",
    "onnxruntime",
    "openvino",
    "tract",
    "torch",
    "soundfile",
)


def facts() -> dict[str, Any]:
    """Return processor, cores, system and versions, without anything that identifies the machine."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    with (
        suppress(OSError),
        open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file,
    ):
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# -- the FMA peak -------------------------------------------------------------------------


def fma_peak(seconds: float = 0.5) -> float:
    """Measure the floating-point operations per second of one core with float32 FMAs on registers.

    The maximum over many short loops within the given time, to exclude disturbances.
    """
    lanes, accumulators = _vector_shape()
    with _compiled(_loop_of_fmas(lanes, accumulators)) as loop:
        count, best = 20_000, 0.0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            loop(count, 0.5)
            best = max(best, 2 * lanes * accumulators * count / (time.perf_counter() - start))
    return best


def _vector_shape() -> tuple[int, int]:
    """Return the float32 lanes, and a number of independent sums that hides the latency of an FMA without spilling."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 24
    if features.get("avx2") and features.get("fma"):
        return 8, 12
    return 4, 24 if platform.machine().lower() in ("aarch64", "arm64") else 12


def _loop_of_fmas(lanes: int, accumulators: int) -> str:
    """Generate LLVM code of `float fmas(int64 count, float x)`, which repeats s = s·x + x for every sum."""
    v, sums = f"<{lanes} x float>", range(accumulators)
    lines = [
        f"declare {v} @llvm.fmuladd.v{lanes}f32({v}, {v}, {v})",
        "define float @fmas(i64 %count, float %scalar) {",
        "entry:",
        f"  %one = insertelement {v} undef, float %scalar, i32 0",
        f"  %x = shufflevector {v} %one, {v} undef, <{lanes} x i32> zeroinitializer",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        # different start values, because the compiler would merge equal sums
        *(
            f"  %s{k} = phi {v} [<{', '.join([f'float {k}.0'] * lanes)}>, %entry], [%t{k}, %loop]"
            for k in sums
        ),
        *(f"  %t{k} = call {v} @llvm.fmuladd.v{lanes}f32({v} %s{k}, {v} %x, {v} %x)" for k in sums),
        "  %next = add i64 %i, 1",
        "  %more = icmp slt i64 %next, %count",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *(
            f"  %r{k} = fadd {v} {f'%r{k - 1}' if k else 'zeroinitializer'}, %t{k}" for k in sums
        ),
        f"  %result = extractelement {v} %r{accumulators - 1}, i32 0",
        "  ret float %result",
        "}",
    ]  # fmt: skip
    return "\n".join(lines)


class _compiled:
    """Compile the function; it exists until the context ends."""

    def __init__(self, code: str) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_default_triple()
        machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3)
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(code), machine)
        self.engine.finalize_object()

    def __enter__(self) -> Any:
        signature = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)
        return signature(self.engine.get_function_address("fmas"))

    def __exit__(self, *_: object) -> None:
        self.engine.close()
