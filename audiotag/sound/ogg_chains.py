"""Ogg files in which one stream follows another, as radio programs are kept: libsndfile reads the first only."""

from __future__ import annotations

import io
import os
from typing import IO, Any

_HEADER = 27
_BEGINS = 2
"""Bytes of a page before its table of segments, and the flag of a page that begins a stream."""


def links(file: IO[bytes]) -> list[Link]:
    """The parts of a file that are Ogg files of their own; of what is no Ogg, none.

    Pages are looked at up to the first one that is none (RFC 3533).
    """
    starts: list[int] = []
    position, before = 0, False
    file.seek(0)
    while (header := file.read(_HEADER))[:4] == b"OggS" and len(header) == _HEADER:
        begins = bool(header[5] & _BEGINS)
        # streams that sound at a time begin together
        if begins and not before:
            starts.append(position)
        before = begins
        position += _HEADER + header[26] + sum(file.read(header[26]))
        file.seek(position)
    ends = [*starts[1:], file.seek(0, os.SEEK_END)]
    return [Link(file, start, end) for start, end in zip(starts, ends, strict=False)]


class Link(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: IO[bytes], start: int, end: int) -> None:
        self._file, self._start, self._size = file, start, end - start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._position)
        data = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
