"""A file that is read while it is still being written."""

from __future__ import annotations

import io
import os
import time
from typing import Any

_POLL_SECONDS = 0.02
"""Seconds between looks for bytes that have not arrived."""


class ArrivingFile(io.RawIOBase):
    """A file that will have `length` bytes: reading waits for bytes that are not there yet.

    Only bytes end the wait: if no more will come, end the process.
    """

    def __init__(self, path: str, length: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  closed by `close`
        self._length, self._position = length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError("negative position")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(memoryview(buffer).cast("B")), self._length - self._position)
        if wanted <= 0:
            return 0
        while (here := os.fstat(self._file.fileno()).st_size - self._position) <= 0:
            time.sleep(_POLL_SECONDS)
        self._file.seek(self._position)
        data = self._file.read(min(wanted, here)) or b""
        memoryview(buffer).cast("B")[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
