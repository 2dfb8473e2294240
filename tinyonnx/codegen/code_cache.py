"""Machine code on disk: keys, files and locks.

Compiled kernels lie in one folder per state of the kernels' sources, an object file each.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tinyonnx import disk_cache as disk
from tinyonnx.codegen.loader import SYMBOL, load
from tinyonnx.codegen.processor import processor
from tinyonnx.codegen.targets import VARIABLE

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel

log = logging.getLogger("tinyonnx")

_lock = threading.RLock()
_logged: set[str] = set()
"""Messages that this process has logged already."""

_WITHOUT_EFFECT = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
"""NUMBA_* variables known not to affect generated code; all others go into the cache key."""

_PATIENCE = 20
"""Seconds that a process waits for another one that compiles."""

_PACKAGES = tuple(Path(__file__).parents[1] / name for name in ("codegen", "kernels"))
"""Folders whose sources are, as a whole, a part of every key."""

_KEPT = 24
"""Number of source versions whose code is kept, the most recently used ones."""


# -- keys -------------------------------------------------------------------------------


@cache
def folder() -> Path:
    """The folder of the machine code for the present state of the kernels' sources."""
    digest = hashlib.sha256()
    for source in sorted(path for package in _PACKAGES for path in package.rglob("*.py")):
        digest.update(source.read_bytes())
    path = disk.folder() / f"kernels-{digest.hexdigest()[:12]}"
    with suppress(OSError):
        os.utime(path)
    return path


def _file(kernel: Kernel, kinds: str) -> Path | None:
    """The file of a kernel's code; None for a kernel without a source file, whose versions can't be told apart."""
    sources = {helper.function.__code__.co_filename for helper in kernel.helpers()}
    if not all(map(os.path.isfile, sources)):
        return None
    ours = tuple(f"{package}{os.sep}" for package in _PACKAGES)
    foreign = b"".join(Path(source).read_bytes() for source in sorted(sources) if not source.startswith(ours))
    name, features = processor()
    options = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k not in _WITHOUT_EFFECT)
    code = kernel.function.__code__
    target = os.environ.get(VARIABLE)
    key = repr(
        (code.co_qualname, code.co_firstlineno, kernel.constants(), kinds, target, name, sorted(features), options)
    )
    digest = hashlib.sha256(key.encode() + foreign).hexdigest()[:16]
    return folder() / f"{kernel.function.__module__}.{kernel.__name__}-{digest}.o"


# -- lookup and compilation -------------------------------------------------------------


def entry_point(kernel: Kernel, kinds: str) -> int:
    """The address of a kernel's machine code, from the cache or compiled now."""
    path = _file(kernel, kinds)
    with _lock:
        address = _cached(path)
    if address is not None:
        return address
    # in a thread: Ctrl-C interrupts only the wait; interrupting LLVM itself would leave it unusable
    results: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    threading.Thread(
        target=_compile, args=(kernel, kinds, path, results), name="tinyonnx compiler", daemon=True
    ).start()
    result = results.get()
    if isinstance(result, BaseException):
        raise result
    return result


def linkable(kernel: Kernel, kinds: str) -> tuple[str, bytes]:
    """The entry point's symbol and the object file of a kernel, for a linker; cached like the code for this process."""
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
    """Let one process compile at a time, so that simultaneous first runs share the work; the wait is bounded."""
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
            return load(code)
    return None


def _keep(path: Path, code: bytes) -> None:
    new = not path.parent.exists()
    if not disk.write(path, code):
        if "not kept" not in _logged:
            _logged.add("not kept")
            log.warning(
                "%s can't be written, so every process compiles its kernels anew; set XDG_CACHE_HOME to another folder",
                disk.folder(),
            )
    elif new:
        disk.remove_old(path.parent.parent.glob("kernels-*/"), _KEPT)


def _compile(kernel: Kernel, kinds: str, path: Path | None, results: queue.SimpleQueue[int | BaseException]) -> None:
    try:
        with _lock, _one_process(path):
            address = _cached(path)  # another thread or process may have compiled it meanwhile
            if address is None:
                if not _logged:
                    _logged.add("compiling")
                    log.info("compiling kernels for this machine; this takes some seconds, later runs reuse them")
                from tinyonnx.codegen import compiler

                code = compiler.compile_kernel(kernel, kinds)
                if path:
                    _keep(path, code)
                address = load(code)
        results.put(address)
    except BaseException as error:  # raised by the waiting thread
        results.put(error)


# a fork waits for a compilation in another thread: in the child, a compiler copied at work would be unusable
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
