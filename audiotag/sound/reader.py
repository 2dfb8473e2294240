"""`Reader`: the bytes of any source, read sequentially, with look-ahead and a rewind to the start."""

from __future__ import annotations

import io
import os
from typing import IO

KEPT = 64 << 20
"""Bytes of a pipe that are kept at most while its format is being identified."""

AHEAD = 1 << 16
"""Bytes requested at once from a source that may return fewer."""

WHOLE = 1 << 20
"""Maximum bytes of a file that is read at once."""

AT_ONCE = 1 << 12
"""Minimum bytes requested from a source that may wait for them: some tenths of a second of sound."""


class Reader:
    """A binary file object read from front to back; short reads of the source are joined.

    Until `commit` is called everything read is kept (or, of a seekable file, found again by seeking), so that
    `rewind` can start over. Errors of the source are raised as OSError.

    Attributes:
        seekable: whether the source is a file that can seek and was given at its start.
        size: bytes of a seekable source, None for others.
        position: bytes consumed so far.
        ended: whether the source has no more bytes; bytes that were peeked at may still be unread.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # available bytes, without waiting for more
        self._some = getattr(file, "read1", file.read if isinstance(file, io.RawIOBase) else None)
        self._buffer = b""
        self._at = 0
        self._keeping = True
        self.position = 0
        self.ended = False
        self.seekable = bool(hasattr(file, "seekable") and file.seekable() and file.tell() == 0)
        self.size: int | None = None
        self._ahead = AHEAD
        if self.seekable:
            self.size = file.seek(0, os.SEEK_END)
            self._ahead = self.size if self.size <= WHOLE else AHEAD
            file.seek(0)

    @property
    def file(self) -> IO[bytes]:
        """The source itself."""
        return self._file

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without consuming them; fewer only at the end."""
        if self._at + size > len(self._buffer):
            self._fill(size)
        return self._buffer[self._at : self._at + size]

    def read(self, size: int, least: int | None = None) -> bytes:
        """Consume `size` bytes; fewer only at the end or, with `least`, if no more than that are available yet."""
        least = size if least is None else least
        if self._at + least > len(self._buffer):
            self._fill(least)
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        self.position += len(data)
        return data

    def skip(self, size: int) -> int:
        """Consume `size` bytes without returning them, and return how many there were."""
        skipped = 0
        while skipped < size:
            data = self.read(min(size - skipped, 1 << 20), 1)
            if not data:
                break
            skipped += len(data)
        return skipped

    def unread(self, data: bytes) -> None:
        """Put back bytes that were read last."""
        self._buffer = data + self._buffer[self._at :]
        self._at = 0
        self.position -= len(data)

    def rewind(self) -> None:
        """Go back to the start. Raises OSError if too much of a pipe was read for that."""
        if self.seekable:
            self._file.seek(0)
            self._buffer, self.ended = b"", False
        elif not self._keeping:
            raise OSError(f"is not identified by its first {KEPT >> 20} MiB")
        self._at = self.position = 0

    def seek(self, position: int) -> None:
        """Continue at another position of a seekable source."""
        self._file.seek(position)
        self._buffer, self._at, self.position, self.ended = b"", 0, position, False

    def commit(self) -> None:
        """Stop keeping bytes; `rewind` is impossible from then on."""
        self._keeping = False

    def _fill(self, size: int) -> None:
        missing = self._at + size - len(self._buffer)
        if missing <= 0 or self.ended:
            return
        if self._at and (self.seekable or not self._keeping):
            self._buffer, self._at = self._buffer[self._at :], 0
        if self._keeping and self._at + size > KEPT and not self.seekable:
            self._keeping = False
        # whole blocks are passed on without a copy
        parts = [self._buffer] if self._buffer else []
        while missing > 0:
            try:
                data = self._some(max(missing, self._ahead)) if self._some else self._file.read(max(missing, AT_ONCE))
            except ValueError as error:  # as for a closed file
                raise OSError(str(error)) from None
            if not isinstance(data, (bytes, bytearray)):
                raise OSError("is not a binary file object")
            if not data:
                self.ended = True
                break
            parts.append(bytes(data))
            missing -= len(data)
        self._buffer = b"".join(parts)
