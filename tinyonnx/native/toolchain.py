"""The C compiler and the linker of the `ziglang` package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyonnx.native.model import CompileError

_BUILTIN = {"memset", "memcpy", "memmove"}
"""What start.h has of C's library."""


def link(files: Sequence[Path], output: Path, shared: bool, macros: Mapping[str, int], include: Sequence[Path]) -> None:
    """Compile and link C, assembly and object files.

    Raises CompileError where `ziglang` isn't installed, or fails.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise CompileError("linking takes the package ziglang: pip install ziglang")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-march=x86_64", "-O2", "-s"]
    command += ["-fno-sanitize=undefined", "-fno-stack-protector", "-fno-builtin", "-nostdlib", "-Wl,--build-id=none"]
    command += ["-shared", "-Wl,-z,defs"] if shared else ["-static"]
    command += [f"-D{name}={value}" for name, value in macros.items()]
    command += [f"-I{folder}" for folder in include]
    command += [str(file) for file in files] + ["-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"the linker failed:\n{done.stderr}")
