"""Reads models' files, and writes files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress

from tinyonnx.errors import ModelError

_MAX_FILE_BYTES = (1 << 31) - 1


def read_file(path: str) -> bytes:
    """The content of a regular file, at most as large as the format allows. Raises ModelError."""
    try:
        with open(path, "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{path}: is not a regular file")
            if status.st_size > _MAX_FILE_BYTES:
                raise ModelError(f"{path}: has {status.st_size} bytes, the format allows {_MAX_FILE_BYTES}")
            return handle.read()
    except ValueError as error:
        raise ModelError(f"{path!r}: can't be opened: {error}") from None
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from None


def target_of(path: str | os.PathLike[str]) -> str:
    """The file to write for a path, links followed.

    Raises ModelError if it is something else than a file, OSError if none can be made there.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        raise ModelError(f"{os.fspath(path)}: is not a regular file")
    folder = os.path.dirname(target)
    if not os.access(folder, os.W_OK | os.X_OK):
        cause = errno.EACCES if os.path.isdir(folder) else errno.ENOENT
        raise OSError(cause, os.strerror(cause), os.fspath(path))
    return target


def write_file(path: str | os.PathLike[str], content: bytes, mode: int = 0o666) -> None:
    """Write a file that appears under its name only once it is complete; the umask takes from its mode.

    Raises what `target_of` raises, OSError if it can't be written.
    """
    folder, name = os.path.split(target_of(path))
    partial = os.path.join(folder, f".{name[:64]}.{secrets.token_hex(8)}.part")
    try:
        with open(partial, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, os.path.join(folder, name))
    except BaseException as error:
        with suppress(OSError):
            os.remove(partial)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
