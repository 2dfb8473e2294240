"""Machine code: for which processor, where it is kept, how it gets into memory.

Compiled kernels lie in one folder per state of the kernels' sources, an object file each.
Loading needs neither numba nor, on x86-64 Linux, LLVM.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import platform
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyonnx import disk_cache as disk
from tinyonnx.codegen import elf

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel

log = logging.getLogger("tinyonnx")

_lock = threading.RLock()
_kept: list[Any] = []  # what owns the machine code
_said = ""

_NO_WISHES = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
"""The only variables of numba that certainly don't change the code."""

_PATIENCE = 20
"""Seconds that a process waits for another that compiles."""

_PACKAGES = tuple(Path(__file__).parents[1] / name for name in ("codegen", "kernels"))
"""Folders whose sources decide, as a whole, what machine code kernels become."""

_KEPT = 24
"""How many versions' code stays, those that were used last."""


@cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


class Processor(NamedTuple):
    """What code is compiled for: a name and the features of the instruction set."""

    name: str
    features: frozenset[str]


@cache
def processor() -> Processor:
    """This machine's, unless NUMBA_CPU_NAME (x86-64-v2, x86-64-v3, …) and NUMBA_CPU_FEATURES name another."""
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if name is not None:
        enabled = {feature[1:] for feature in (features or "").split(",") if feature.startswith("+")}
        enabled |= {"x86-64-v4": {"avx512f"}, "x86-64-v3": {"avx2", "fma"}}.get(name, set())
        return Processor(name, frozenset(enabled))
    # Linux says it without LLVM
    with suppress(OSError):
        with open("/proc/cpuinfo") as file:  # of the first processor: reading about hundreds takes a while
            lines = list(takewhile(str.strip, file))
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if "flags" in facts:
            model = [facts.get(key, "") for key in ("vendor_id", "cpu family", "model")]
            return Processor(" ".join(model), frozenset(facts["flags"].split()))
    features_here = {name for name, on in _llvm().get_host_cpu_features().items() if on}
    return Processor(_llvm().get_host_cpu_name(), frozenset(features_here))


@cache
def vector_shape() -> tuple[int, int]:
    """Lanes of a float32 vector and the number of vector registers."""
    features = processor().features
    if "avx512f" in features:
        return 16, 32
    if {"avx2", "fma"} <= features:
        return 8, 16
    return 4, 32 if platform.machine() in ("aarch64", "arm64") else 16


# -- the cache --------------------------------------------------------------------------


@cache
def folder() -> Path:
    """Where machine code is kept: one folder for each state of the kernels' sources."""
    digest = hashlib.sha256()
    for source in sorted(path for package in _PACKAGES for path in package.rglob("*.py")):
        digest.update(source.read_bytes())
    path = disk.folder() / f"kernels-{digest.hexdigest()[:12]}"
    with suppress(OSError):
        os.utime(path)
    return path


def _file(kernel: Kernel, kinds: str) -> Path | None:
    """Where a kernel's code is kept; None for one that was typed in and has no source file to tell versions apart."""
    sources = {inspect.getsourcefile(helper.function) or "" for helper in kernel.helpers()}
    if not all(map(os.path.isfile, sources)):
        return None
    elsewhere = [path for path in map(Path, sorted(sources)) if not any(map(path.is_relative_to, _PACKAGES))]
    foreign = b"".join(path.read_bytes() for path in elsewhere)
    name, features = processor()
    wishes = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k not in _NO_WISHES)
    code = kernel.function.__code__
    key = repr((code.co_qualname, code.co_firstlineno, kernel.constants(), kinds, name, sorted(features), wishes))
    return (
        folder()
        / f"{kernel.function.__module__}.{kernel.__name__}-{hashlib.sha256(key.encode() + foreign).hexdigest()[:16]}.o"
    )


# -- loading ----------------------------------------------------------------------------


def entry_point(kernel: Kernel, kinds: str) -> int:
    """The address of a kernel's machine code, from the cache or compiled now."""
    path = _file(kernel, kinds)
    with _lock:
        address = _cached(path)
    if address is not None:
        return address
    # in a thread of its own: Ctrl-C ends the waiting, but would leave a compiler behind that can't be used again
    results: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    threading.Thread(
        target=_compile, args=(kernel, kinds, path, results), name="tinyonnx compiler", daemon=True
    ).start()
    result = results.get()
    if isinstance(result, BaseException):
        raise result
    return result


def linkable(kernel: Kernel, kinds: str) -> tuple[str, bytes]:
    """The entry point's symbol and the object file of a kernel, for a linker; kept like the code for this process."""
    path = _file(kernel, kinds)
    if path is None:
        raise ValueError(f"{kernel.__name__} has no source file")
    path = path.with_suffix(".linkable.o")
    symbol = f"{SYMBOL}_{path.stem.removesuffix('.linkable').rpartition('-')[2]}"
    with _lock:
        code = disk.read(path)
        if code is None:
            from tinyonnx.codegen import compiler

            code = compiler.compile_kernel(kernel, kinds, symbol, linkable=True)
            _keep(path, code)
    return symbol, code


@contextmanager
def _one_process(path: Path | None) -> Iterator[None]:
    """Let one process compile at a time, so that several first runs share the work; none waits for ever."""
    if path is None or sys.platform == "win32":
        yield
        return
    import fcntl

    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context(disk.open_lock("kernels.lock"))
            end = time.monotonic() + _PATIENCE
            while time.monotonic() < end:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        yield


def _cached(path: Path | None) -> int | None:
    code = disk.read(path) if path else None
    if code is not None:
        with suppress(RuntimeError):
            return _load(code)
    return None


def _keep(path: Path, code: bytes) -> None:
    global _said
    new = not path.parent.exists()
    if not disk.write(path, code):
        if _said != "not kept":
            _said = "not kept"
            log.warning(
                "%s can't be written: kernels are compiled anew by each process (XDG_CACHE_HOME names another place)",
                disk.folder(),
            )
    elif new:
        disk.remove_old(path.parent.parent.glob("kernels-*/"), _KEPT)


def _compile(kernel: Kernel, kinds: str, path: Path | None, results: queue.SimpleQueue[int | BaseException]) -> None:
    global _said
    try:
        with _lock, _one_process(path):
            address = _cached(path)  # another thread or process may have compiled it meanwhile
            if address is None:
                if not _said:
                    _said = "compiling"
                    log.info("compiling kernels for this machine; this happens once and takes some seconds")
                from tinyonnx.codegen import compiler

                code = compiler.compile_kernel(kernel, kinds)
                if path:
                    _keep(path, code)
                address = _load(code)
        results.put(address)
    except BaseException as error:  # it is the waiting thread's
        results.put(error)


SYMBOL = "tinyonnx_kernel"
"""Name of the entry point in every object file."""


def _load(code: bytes) -> int:
    """Bring an object file into this process. Raises RuntimeError if that fails."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        with suppress(ValueError, OSError):
            address, memory = elf.load(code, SYMBOL)
            _kept.append(memory)
            return address
    llvm = _llvm()
    machine = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
    # an engine each: names of inner functions may be alike in files compiled by different processes
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = int(engine.get_function_address(SYMBOL))
    if not address:
        raise RuntimeError("the object file has no entry point")
    _kept.append(engine)
    return address


# a fork waits for a compilation in another thread: the child couldn't use a compiler that was copied at work
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
