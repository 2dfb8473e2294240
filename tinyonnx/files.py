"""Read and map model files; write files atomically."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tinyonnx.errors import ModelError, ModelFileError

Part = bytes | memoryview
"""A part of a file's content."""

_MAX_MODEL_BYTES = (1 << 31) - 1
"""Largest size of a protobuf message, and so of an ONNX file without external data."""


def read_file(path: str) -> bytes:
    """Return the content of a regular file of at most 2 GiB.

    Raises ModelError if it can't be read, is not a regular file or is larger.
    """
    try:
        with open(path, "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{path}: is not a regular file")
            if status.st_size > _MAX_MODEL_BYTES:
                raise ModelError(f"{path}: has {status.st_size} bytes, the format allows {_MAX_MODEL_BYTES}")
            return handle.read()
    except ValueError as error:
        raise ModelError(f"{path!r}: can't be opened: {error}") from None
    except OSError as error:
        kind = ModelFileError if isinstance(error, FileNotFoundError) else ModelError
        raise kind(f"{path}: can't be read: {error.strerror}") from None


class FilePages(mmap.mmap):
    """A region of a file that is mapped to be read."""


def release_pages(array: Any) -> None:
    """Release the memory of an array that is in a `FilePages`; later reads load it from the file again."""
    base = array
    while (inner := getattr(base, "base", None)) is not None:
        base = inner
    owner = base.obj if isinstance(base, memoryview) else base
    if isinstance(owner, FilePages) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def target_of(path: str | os.PathLike[str]) -> str:
    """Return the path of the file to write, with symbolic links resolved.

    Raises ModelError if something other than a regular file is there, OSError if no file can be created there.
    """
    target = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):  # of a pipe, `target` is no path that exists
        raise ModelError(f"{os.fspath(path)}: is not a regular file")
    folder = os.path.dirname(target)
    if not os.access(folder, os.W_OK | os.X_OK):
        cause = errno.EACCES if os.path.isdir(folder) else errno.ENOENT
        raise OSError(cause, os.strerror(cause), os.fspath(path))
    return target


def check_file(path: str) -> None:
    """Raise, before long work, the OSError of a file that can't be written; devices and pipes pass."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", path)
    if os.path.isfile(path) or not os.path.exists(path):
        target_of(path)


def check_folder(path: str) -> None:
    """Raise, before long work, the OSError of a folder that can't be made or written to."""
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        cause = "is a file, not a folder" if place == os.path.abspath(path) else f"{place} is not a folder"
        raise NotADirectoryError(errno.ENOTDIR, cause, path)
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def write_file(
    path: str | os.PathLike[str], content: bytes | Sequence[Part], mode: int = 0o666, *, durable: bool = True
) -> None:
    """Write a file atomically: it appears under its name once it is complete, or not at all.

    `content` may be in parts, which saves joining large ones. `mode` is that of a new file before the umask applies;
    `durable` waits until the content is on the disk.
    Raises the errors of `target_of`, and OSError, with the path as its filename, if the file can't be written.
    """
    folder, name = os.path.split(target_of(path))
    partial = os.path.join(folder, f".{name[:64]}.{os.urandom(8).hex()}.part")
    try:
        with open(partial, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, os.path.join(folder, name))
    except BaseException as error:
        with suppress(OSError):
            os.remove(partial)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def write_text(path: str, text: str) -> None:
    """Write UTF-8 text: atomically to a regular file, directly to a device or pipe.

    Raises OSError, with the path as its filename.
    """
    content = text.encode("utf-8")
    if os.path.exists(path) and not os.path.isfile(path):
        with naming_file(path), open(path, "wb") as file:
            file.write(content)
    else:
        write_file(path, content)


@contextmanager
def naming_file(path: str) -> Iterator[None]:
    """Set the filename of an OSError that has none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise
