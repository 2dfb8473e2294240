"""Machine code on disk: keys, files and locks.

Compiled kernels are kept in one folder per state of the kernels' sources, one object file each. A release contains
some, compiled for CPU levels (`BUNDLE`); others are compiled for this machine and kept in the cache.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyonnx import disk_cache as disk
from tinyonnx.codegen.loader import SYMBOL, load
from tinyonnx.codegen.processor import processor
from tinyonnx.codegen.targets import VARIABLE, host, level_of

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel

log = logging.getLogger("tinyonnx")

_lock = threading.RLock()
_addresses: dict[Path, int] = {}
"""The machine code that this process has loaded from files."""

_expected = threading.local()
"""For each thread, the function `wanted`, which returns the kernels that the thread is going to need."""

_logged: set[str] = set()
"""Messages that this process has logged already."""

_WITHOUT_EFFECT = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
"""NUMBA_* variables known not to affect generated code; all others go into the cache key."""

_PATIENCE = 20
"""Seconds to wait for another process that is compiling."""

_PACKAGES = tuple(Path(__file__).parents[1] / name for name in ("codegen", "kernels"))
"""Folders whose sources are, as a whole, a part of every key."""

BUNDLE = Path(__file__).parents[1] / "machine_code"
"""Machine code of a release: a folder per state of the sources, which has one folder per system and CPU level."""

_BUNDLED = "bundled:"
"""Prefix that replaces the folder in the names of a release's files."""

_KEPT = 24
"""Number of source versions whose code is kept, the most recently used ones."""


# -- keys -------------------------------------------------------------------------------


@cache
def folder() -> Path:
    """Return the folder of the machine code for the present state of the kernels' sources."""
    path = disk.folder() / f"kernels-{sources()}"
    with suppress(OSError):
        os.utime(path)
    return path


@cache
def sources() -> str:
    """Return a hash of the present state of the kernels' sources."""
    digest = hashlib.sha256()
    for source in sorted(path for package in _PACKAGES for path in package.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


@cache
def bundle() -> Path | None:
    """Return the folder of a release's code for this processor; None if it has none, or options change the code."""
    _, _, _, options = machine()
    path = BUNDLE / sources() / f"{host()}-{level_of(processor().features).cpu}"
    return path if not options and os.environ.get(VARIABLE) is None and path.is_dir() else None


@cache
def machine() -> tuple[str | None, str, list[str], list[tuple[str, str]]]:
    """Return everything that code depends on besides sources: target, processor, its features, and options of numba."""
    name, features = processor()
    options = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k not in _WITHOUT_EFFECT)
    return os.environ.get(VARIABLE), name, sorted(features), options


def _file(kernel: Kernel, kinds: str) -> Path | None:
    """Return the file of a kernel's code.

    None for a kernel without a source file, because versions of it can't be told apart.
    """
    name = file_name(kernel, kinds, machine())
    return None if name is None else folder() / name


def file_name(kernel: Kernel, kinds: str, *machine: Any) -> str | None:
    """Return the name of the file of a kernel's code, or None for a kernel without a source file.

    In a release the name doesn't depend on a machine: `machine` is empty.
    """
    files = {helper.function.__code__.co_filename for helper in kernel.helpers()}
    if not all(map(os.path.isfile, files)):
        return None
    ours = tuple(f"{package}{os.sep}" for package in _PACKAGES)
    foreign = b"".join(Path(file).read_bytes() for file in sorted(files) if not file.startswith(ours))
    code = kernel.function.__code__
    key = repr((code.co_qualname, code.co_firstlineno, kernel.constants(), kinds, *machine))
    digest = hashlib.sha256(key.encode() + foreign).hexdigest()[:16]
    return f"{kernel.function.__module__}.{kernel.__name__}-{digest}.o"


# -- lookup and compilation -------------------------------------------------------------


def entry_point(kernel: Kernel, kinds: str) -> int:
    """Return the address of a kernel's machine code, from the cache or compiled now."""
    path = _file(kernel, kinds)
    with _lock:
        address = _cached(path)
        if address is None:
            address = _cached(_bundled(kernel, kinds))
    if address is not None:
        return address
    if _compile_expected():
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


@contextmanager
def expecting(wanted: Callable[[], list[tuple[Kernel, str]]]) -> Iterator[None]:
    """Compile all kernels in `wanted` together as soon as this thread needs a missing one within the block."""
    before = getattr(_expected, "wanted", None)
    _expected.wanted = wanted
    try:
        yield
    finally:
        _expected.wanted = before


def _compile_expected() -> bool:
    """Compile the missing ones of the kernels that this thread is going to need.

    Return False if these are unknown or the cache can't be written.
    """
    wanted = getattr(_expected, "wanted", None)
    if wanted is None or sys.platform == "win32":
        return False
    _expected.wanted = None
    from tinyonnx.codegen import parallel

    missing: dict[Path, tuple[Kernel, str]] = {}
    for kernel, kinds in wanted():
        path = _file(kernel, kinds)
        if path is not None and path not in _addresses and not path.exists() and _bundled(kernel, kinds) is None:
            missing[path] = kernel, kinds
    first = next(iter(missing), None)
    try:
        if first is not None:
            disk.open_lock(_lock_name(first)).close()
    except OSError:  # the cache can't be written
        return False
    with _one_process(first):
        parallel.compile_together([pair for path, pair in missing.items() if not path.exists()])
    return True


def compile_file(kernel: Kernel, kinds: str) -> None:
    """Compile a kernel for the cache, without loading it."""
    from tinyonnx.codegen import compiler

    path = _file(kernel, kinds)
    if path is not None:
        _keep(path, compiler.compile_kernel(kernel, kinds))


def file_of(kernel: Kernel, kinds: str) -> str | None:
    """Return the name of the file of a kernel's code in the cache or a release, for `load_file`.

    None without a file.
    """
    path, bundled = _file(kernel, kinds), _bundled(kernel, kinds)
    if bundled is not None and path is not None and not path.exists():
        return _BUNDLED + bundled.name
    return None if path is None else f"{path.parent.name}/{path.name}"


def load_file(name: str) -> int | None:
    """Return the address of the code in a file of the cache or a release; None if the file is absent or damaged."""
    path: Path | None = disk.folder() / name
    if name.startswith(_BUNDLED):
        folder = bundle()
        path = None if folder is None else folder / name.removeprefix(_BUNDLED)
    with _lock:
        return _cached(path)


def _bundled(kernel: Kernel, kinds: str) -> Path | None:
    """Return the file of a kernel's code in a release, if it has one."""
    folder = bundle()
    name = None if folder is None else file_name(kernel, kinds)
    return folder / name if folder is not None and name is not None and (folder / name).is_file() else None


def linkable(kernel: Kernel, kinds: str) -> tuple[str, bytes]:
    """Return the entry point's symbol and the object file of a kernel, for a linker.

    Cached like the code for this process.
    """
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
    """Let one process compile a kernel, so that simultaneous first runs share the work; the wait is limited."""
    if path is None or sys.platform == "win32":
        yield
        return
    import fcntl

    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context(disk.open_lock(_lock_name(path)))
            end = time.monotonic() + _PATIENCE
            while time.monotonic() < end:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # closing alone would leave it to a process forked meanwhile, which shares the open file
                    stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        yield


def _lock_name(path: Path) -> str:
    """Return the name of the lock for a kernel's file: one of sixteen, by the last digit of its hash."""
    return f"kernels-{path.stem[-1]}.lock"


def _cached(path: Path | None) -> int | None:
    if path is None:
        return None
    with suppress(RuntimeError, OSError):
        code = None if path in _addresses else path.read_bytes() if BUNDLE in path.parents else disk.read(path)
        if code is not None:
            _addresses[path] = load(code)
    return _addresses.get(path)


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


def announce(text: str) -> None:
    """Log that kernels are compiled, once per process."""
    if not _logged:
        _logged.add("compiling")
        log.info(text)


def _compile(kernel: Kernel, kinds: str, path: Path | None, results: queue.SimpleQueue[int | BaseException]) -> None:
    try:
        with _lock, _one_process(path):
            address = _cached(path)  # another thread or process may have compiled it meanwhile
            if address is None:
                announce("compiling kernels for this machine; this takes some seconds, later runs reuse them")
                from tinyonnx.codegen import compiler

                code = compiler.compile_kernel(kernel, kinds)
                if path:
                    _keep(path, code)
                address = load(code)
        results.put(address)
    except BaseException as error:  # raised by the waiting thread
        results.put(error)


# a fork waits for compilation in other threads, because the child's copy of a running compiler would be unusable
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
