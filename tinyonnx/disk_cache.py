"""Cache files on disk for later processes: machine code and decoded graphs.

Each file begins with the SHA-256 of its content. A file that is damaged or can't be read counts as absent; one that
can't be written is skipped. Whoever can write to the cache can run code in the processes that read it. So only files
are read that belong to the effective user, in folders that do, none of which another user may write to; the cache
directory loses such permissions if an earlier umask gave them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from tinyonnx.errors import ModelError
from tinyonnx.files import Part, write_file

BEGIN = 32
"""Bytes of the digest, which precedes the content of a file."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_found_private: set[Path] = set()
"""Folders known to be private: only their owner could change that."""


@cache
def folder() -> Path:
    """Return the cache directory; a path that can never exist if the user has no home directory."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):  # the XDG specification says to ignore relative paths
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base) or not os.environ.get("HOME", "?"):
        base = os.devnull
    return Path(base) / "tinyonnx"


def read(path: Path) -> bytes | None:
    """Return the content of a file that `write` made; None if it is absent, damaged or not private to this user."""
    with suppress(OSError):
        with _opened(path) as file:
            content = file.read()
        digest, content = content[:BEGIN], content[BEGIN:]
        if hashlib.sha256(content).digest() == digest:
            return content
    return None


def read_into(path: Path, allocate: Callable[[int], Any]) -> Any:
    """Read a file like `read`, into memory that `allocate` returns for its size in bytes.

    Its content begins at `BEGIN`; None if the file is absent, damaged or not private to this user.
    """
    with suppress(OSError), _opened(path) as file:
        memory = allocate(os.fstat(file.fileno()).st_size)
        view = memoryview(memory)
        if file.readinto(view) == len(view) and hashlib.sha256(view[BEGIN:]).digest() == view[:BEGIN]:
            return memory
    return None


def write(path: Path, *content: Part) -> bool:
    """Write a file atomically, so that processes may write the same file at once; return whether it was written."""
    with suppress(OSError, ModelError):
        _make(path.parent)
        if _all_private(path.parent):
            digest = hashlib.sha256()
            for part in content:
                digest.update(part)
            write_file(path, [digest.digest(), *content], 0o600, durable=False)
            return True
    return False


def _opened(path: Path) -> BufferedReader:
    """Open a file for reading. Raises OSError, also if it is not private to this user."""
    if not _all_private(path.parent):
        raise PermissionError(errno.EACCES, "another user may write to the folder", str(path))
    file = open(path, "rb", opener=_open_itself)  # noqa: SIM115
    if not _is_private(os.fstat(file.fileno())):
        file.close()
        raise PermissionError(errno.EACCES, "another user may write to the file", str(path))
    return file


def open_lock(name: str) -> BinaryIO:
    """Open a file for locking in the cache directory. Raises OSError, also if the directory is not private."""
    _make(folder())
    if not _all_private(folder()):
        raise PermissionError(errno.EACCES, "another user may write to the cache directory", str(folder()))
    return open(folder() / name, "wb", opener=_open_itself)


def _make(path: Path) -> None:
    """Create a folder of the cache and its parents, accessible to this user alone, whatever the umask is."""
    root = folder()
    root.parent.mkdir(parents=True, exist_ok=True)
    for part in (root, *reversed([p for p in path.parents if root in p.parents]), path):
        part.mkdir(0o700, exist_ok=True)


def _all_private(path: Path) -> bool:
    """Return whether a folder is private to this user, with all folders above it up to the cache directory.

    Raises OSError if one is absent.
    """
    if path in _found_private:
        return True
    root = folder()
    if os.name == "posix" and os.stat(root).st_mode & _OTHERS_WRITE:
        os.chmod(root, 0o700)  # made by an earlier version under a umask such as 002; fails for another user's
    folders = [part for part in (path, *path.parents) if part == root or root in part.parents]
    if all(_is_private(os.stat(part)) for part in folders or [path]):
        _found_private.add(path)
        return True
    return False


def _is_private(status: os.stat_result) -> bool:
    """Return whether a file or folder belongs to the effective user and only they may write to it."""
    if os.name != "posix":  # on Windows a profile's folders are private unless their owner shares them
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


def _open_itself(path: str, flags: int) -> int:
    """Open a file, but not through a symbolic link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def remove_old(paths: Iterable[Path], kept: int) -> None:
    """Keep the `kept` most recently written files or folders and delete the rest."""
    import shutil

    with suppress(OSError):
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[:-kept]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
