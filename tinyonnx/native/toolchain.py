"""The C compiler and the linker of the `ziglang` package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyonnx.codegen.targets import TargetMachine
from tinyonnx.native.model import CompileError

_OPTIONS = ("-O2", "-s", "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=undefined")

_SYSTEMS = {
    "linux": ("-Wl,--build-id=none", "-Wl,-z,defs"),
    "windows": ("-municode",),
    "macos": (),
    "wasm": ("-Wl,--no-entry", "-mcpu=generic+simd128+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals"),
}
"""Options by system."""


def require() -> None:
    """Raise CompileError if the compiler isn't installed; called before steps that take long."""
    if importlib.util.find_spec("ziglang") is None:
        raise CompileError("ziglang, which links native code, is missing: pip install 'tinyonnx[standalone]'")


def link(
    target: TargetMachine,
    files: Sequence[Path],
    output: Path,
    shared: bool,
    macros: Mapping[str, int],
    include: Sequence[Path],
) -> None:
    """Compile and link C, assembly and object files.

    On Linux and in WebAssembly, C's library is linked only if a kernel calls a function of it (powf, logf): musl's, or
    in a shared library that of the process. It is built once, which takes several seconds. Raises CompileError on
    failure.
    """
    command = [sys.executable, "-P", "-m", "ziglang", "cc", *_OPTIONS, *_SYSTEMS[target.system]]
    if target.architecture == "x86_64":
        command.append("-march=x86_64")
    command += [f"-D{name}={value}" for name, value in macros.items()]
    command += [f"-I{folder}" for folder in include]
    command += [*map(str, files), "-o", str(output)]
    for variant in _variants(target, shared):
        done = subprocess.run([*command, *variant], capture_output=True, text=True)
        if done.returncode == 0 or "undefined symbol" not in done.stderr:
            break
    if done.returncode:
        raise CompileError(f"the linker failed:\n{done.stderr}")


def _variants(target: TargetMachine, shared: bool) -> list[list[str]]:
    """Return options that depend on which C library is linked, in the order in which to try them."""
    if target.system == "wasm":
        return [
            ["-target", "wasm32-freestanding", "-nostdlib"],
            ["-target", "wasm32-wasi", "-mexec-model=reactor", "-nostartfiles", "-lm"],
        ]
    kind = ["-shared"] if shared else []
    if target.system != "linux":
        return [["-target", f"{target.architecture}-{target.system.replace('windows', 'windows-gnu')}", *kind]]
    kind = kind or ["-static"]
    kind += ["-target", f"{target.architecture}-linux-{'gnu.2.17' if shared else 'musl'}"]
    return [[*kind, "-nostdlib"], [*kind, "-DWITH_LIBC", "-lm"]]
