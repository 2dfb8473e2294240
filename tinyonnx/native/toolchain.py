"""The C compiler and the linker of the `ziglang` package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyonnx.native.model import CompileError

_OPTIONS = (
    *("-march=x86_64", "-O2", "-s", "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=undefined"),
    *("-Wl,--build-id=none", "-Wl,-z,defs"),
)


def require() -> None:
    """Before anything that takes long: raise CompileError where the compiler isn't installed."""
    if importlib.util.find_spec("ziglang") is None:
        raise CompileError("ziglang, which links native code, is missing: pip install 'tinyonnx[standalone]'")


def link(files: Sequence[Path], output: Path, shared: bool, macros: Mapping[str, int], include: Sequence[Path]) -> None:
    """Compile and link C, assembly and object files.

    C's library comes in only where a kernel calls a function of it (powf, logf): musl's, or in
    a shared library that of the process. Building musl takes a while, once.

    Raises CompileError where that fails.
    """
    command = [sys.executable, "-P", "-m", "ziglang", "cc", *_OPTIONS, "-shared" if shared else "-static"]
    command += [f"-D{name}={value}" for name, value in macros.items()]
    command += [f"-I{folder}" for folder in include]
    command += [*map(str, files), "-o", str(output)]
    target = "x86_64-linux-gnu.2.17" if shared else "x86_64-linux-musl"
    for libraries in (["-nostdlib"], ["-DWITH_LIBC", "-lm"]):
        done = subprocess.run([*command, "-target", target, *libraries], capture_output=True, text=True)
        if done.returncode == 0 or "undefined symbol" not in done.stderr:
            break
    if done.returncode:
        raise CompileError(f"the linker failed:\n{done.stderr}")
