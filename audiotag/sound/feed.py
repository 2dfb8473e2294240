"""`Feed`: a stream of bytes as a file that libsndfile can open.

While libsndfile opens a file, it seeks to measure the length, reads the header more than once, and looks for tags at
the end. Afterwards it reads sequentially. So a feed keeps all bytes until the file is open and claims to be very long.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable

END = 1 << 60
"""Length in bytes that a feed pretends to have."""

TAG = 128
"""Bytes of an ID3v1 tag, which mpg123 looks for at the end."""


NEAR = 1 << 16
"""Bytes beyond those read to which a decoder that looks for frames may seek."""


PULLED = 1 << 14
"""Bytes that are pulled at once while decoding."""


class Phase(enum.Enum):
    """Phase of libsndfile's reading."""

    MEASURING = enum.auto()
    """libsndfile asks for the length, by a seek to the end, which must succeed."""

    OPENING = enum.auto()
    """libsndfile reads the header, back and forth; all bytes are kept."""

    DECODING = enum.auto()
    """libsndfile reads sequentially; no bytes are kept."""


class KeepsError:
    """A file object for decoders whose callbacks swallow exceptions; it keeps one of them for `check`."""

    _error: BaseException | None = None

    def check(self) -> None:
        """Raise the exception that was kept, if any."""
        error, self._error = self._error, None
        try:
            if error:
                raise error
        finally:
            # the error's traceback refers to this frame: a cycle would keep the decoder alive
            del error


class Feed(KeepsError):
    """A file object without an end, for libsndfile.

    Args:
        pull: returns at least one and at most the requested number of bytes, or b"" at the end.
        tag: whether the decoder may look at the last `TAG` bytes, where it finds zeros; otherwise seeks beyond what
            was read fail, which tells it that the length is unknown.
    """

    def __init__(self, pull: Callable[[int], bytes], tag: bool = False) -> None:
        self._pull, self._tag = pull, tag
        self._kept = bytearray()
        self._position = 0
        self._chunk, self._taken = b"", 0
        self._failed = False
        self._phase = Phase.MEASURING

    def opened(self) -> None:
        """Switch to decoding: bytes are read in order and not kept."""
        self._phase = Phase.DECODING
        self._chunk = bytes(self._kept[self._position :])
        self._kept.clear()

    def read(self, size: int) -> bytes:
        try:
            return b"" if self._error else self._read(size)
        except BaseException as error:
            self._error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = offset + (0, self._position, END)[whence]
        measuring, self._phase = self._phase is Phase.MEASURING, Phase(max(self._phase.value, Phase.OPENING.value))
        reach = len(self._kept) + (NEAR if self._tag else 0)
        known = 0 <= target <= reach or (measuring and target == END) or (self._tag and END - TAG <= target <= END)
        self._failed = self._phase is Phase.DECODING or not known or self._error is not None
        if not self._failed:
            self._position = target
        return self.tell()

    def tell(self) -> int:
        """Return the position, or -1 if the last seek failed: soundfile passes this on as the result of the seek."""
        return -1 if self._failed else self._position

    def _read(self, size: int) -> bytes:
        if self._phase is Phase.DECODING:
            # decoders of MPEG audio ask for a few bytes at a time
            if self._taken == len(self._chunk):
                self._chunk, self._taken = self._pull(max(size, PULLED)), 0
            data = self._chunk[self._taken : self._taken + size]
            self._taken += len(data)
        elif self._position >= END - TAG:
            data = bytes(min(size, END - self._position))
        else:
            while (missing := self._position + size - len(self._kept)) > 0 and (more := self._pull(missing)):
                self._kept += more
            data = bytes(self._kept[self._position : self._position + size])
        self._position += len(data)
        return data
