"""The processor that code is compiled for, and the shape of its vectors."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from itertools import takewhile
from typing import Any, NamedTuple

from tinyonnx.codegen import targets

_BFLOAT16 = {"avx512_bf16", "avx512bf16"}
"""Names of AVX512-BF16 in Linux and in LLVM."""


@cache
def llvm() -> Any:
    """Return LLVM's binding, ready to compile for this machine; importing it takes 40 ms and 40 MiB."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


class Processor(NamedTuple):
    """The name of a processor and the features of its instruction set."""

    name: str
    features: frozenset[str]


@cache
def processor() -> Processor:
    """Return this machine's processor, or the one that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name.

    The name is one of LLVM's: x86-64-v3, or with TINYONNX_TARGET=aarch64-linux cortex-a72.
    """
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if name is not None:
        known = (level for level in targets.LEVELS.get(targets.architecture(), ()) if level.cpu == name)
        enabled = {feature[1:] for feature in (features or "").split(",") if feature.startswith("+")}
        return Processor(name, frozenset(enabled).union(*(level.needs for level in known)))
    # Linux lists them without LLVM
    with suppress(OSError):
        with open(
            "/proc/cpuinfo"
        ) as file:  # of the first processor only, because reading about hundreds of them takes long
            lines = list(takewhile(str.strip, file))
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if "flags" in facts:
            model = [facts.get(key, "") for key in ("vendor_id", "cpu family", "model")]
            return Processor(" ".join(model), frozenset(facts["flags"].split()))
    features_here = {name for name, on in llvm().get_host_cpu_features().items() if on}
    return Processor(llvm().get_host_cpu_name(), frozenset(features_here))


@cache
def vector_shape() -> tuple[int, int]:
    """Return the lanes of a float32 vector and the number of vector registers."""
    level = targets.level_of(processor().features)
    return level.lanes, level.registers


@cache
def has_bfloat16() -> bool:
    """Return whether products of bfloat16 have an instruction (AVX512-BF16)."""
    features = processor().features
    return targets.architecture() == "x86_64" and vector_shape()[0] == 16 and bool(features & _BFLOAT16)


@cache
def byte_product() -> str:
    """Return how products of bytes are added exactly: "vnni" (four at once), "pairs" (of 16 bits), or "plain"."""
    features, lanes = processor().features, vector_shape()[0]
    if targets.architecture() != "x86_64":
        return "plain"
    names = {"avx512_vnni", "avx512vnni"} if lanes == 16 else {"avx_vnni", "avxvnni"}
    if lanes >= 8 and features & names:
        return "vnni"
    # named levels with AVX-512 have its instructions for bytes and words, too
    named = os.environ.get("NUMBA_CPU_NAME") == "x86-64-v4"
    return "pairs" if lanes < 16 or named or "avx512bw" in features else "plain"
