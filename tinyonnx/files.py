"""Reads models' files."""

from __future__ import annotations

import os
import stat

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
