"""FLAC as the sequence of frames that a file contains.

The number of samples in the header may be missing or wrong, and decoders fail at bytes after the last frame. Here every
frame header is found before its bytes reach the decoder, which is asked for no more samples than exist. A file appended
to another file is a `FlacSegment` of its own. Source: RFC 9639.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator

import numpy as np

from audiotag.sound.reader import AHEAD, Reader

MARKER = b"fLaC"
_STREAMINFO = 34
_BEGINNINGS = (MARKER + b"\0\0\0\x22", MARKER + b"\x80\0\0\x22")
"""First bytes of a stream: the marker and the header of its first block of metadata."""

_LONGEST_HEADER = 16
_BITS = (0, 8, 12, 0, 16, 20, 24, 32)


def _crc8_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte << 1) ^ (0x107 if byte & 0x80 else 0)
        table.append(byte)
    return tuple(table)


_CRC8 = _crc8_table()


_BEHIND = 1 << 16
"""Bytes before the decoder's position that may not be decoded yet: more than its buffer."""


def _find(data: bytes, two: bytes, begin: int, end: int) -> list[int]:
    """Yield positions in data[begin:end] of two consecutive bytes; `bytes.find` takes ten times as long."""
    if end <= begin:
        return []
    values = np.frombuffer(data, np.uint8)[begin : end + 1]
    found: list[int] = (np.flatnonzero((values[:-1] == two[0]) & (values[1:] == two[1])) + begin).tolist()
    return found


class SegmentError(Exception):
    """The metadata of a stream can't be read."""


class FlacSegment:
    """One FLAC stream: `pull` passes it to a decoder, with a header that declares no length.

    Attributes:
        promised: samples per channel according to the header, 0 if it has none.
        known: samples that can be decoded so far: the number in the header; beyond it, or without one, the samples of
            the frames found.
        gap: samples that are missing between frames according to their numbers, `gap_at` the first of them.
        skip: samples of the frames behind the promised ones that were already counted among the promised ones.
        following: whether another stream follows.
    """

    def __init__(self, reader: Reader) -> None:
        """Read the metadata. Raises SegmentError if they are damaged or incomplete."""
        self._reader = reader
        self._begin = reader.position
        last, info = False, b""
        if reader.read(4) != MARKER:
            raise SegmentError("has no FLAC header")
        while not last:
            head = reader.read(4)
            size = int.from_bytes(head[1:], "big")
            if len(head) < 4:
                raise SegmentError("truncated within its FLAC metadata")
            last, kind = head[0] >= 0x80, head[0] & 0x7F
            if kind == 0 and size == _STREAMINFO:
                info = reader.read(size)
            elif reader.skip(size) < size:
                raise SegmentError("truncated within its FLAC metadata")
        if len(info) < _STREAMINFO:
            raise SegmentError("truncated: has no FLAC stream information")
        packed = int.from_bytes(info[10:18], "big")
        self.rate, self.promised = packed >> 44, packed & (1 << 36) - 1
        self._channels, self._bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
        self._block = int.from_bytes(info[2:4], "big")
        unknown = packed >> 36 << 36
        self._head = MARKER + b"\x80\0\0\x22" + info[:10] + unknown.to_bytes(8, "big") + info[18:]
        # bytes read, where those that are not pulled begin, and how far frame headers were looked for
        self._out, self._at, self._scanned = b"", 0, 0
        self._syncs: tuple[bytes, ...] = (b"\xff\xf8", b"\xff\xf9")
        self._size = 0
        # while as many samples as the header promises are decoded nothing is looked at, but the last bytes are kept
        self._counting, self._start = self.promised > 0, self._head
        self._frames = reader.position
        self._passed: deque[bytes] = deque()
        self._kept = self._least = 0
        self._next: int | None = None  # number of the sample that the next frame begins with
        self._first = 0
        self._ended = False
        self.gap = self.gap_at = self.skip = 0
        self.following = False

    @property
    def known(self) -> int:
        if self._counting:
            return self.promised
        return 0 if self._next is None else self._next - self._first - self.gap - (0 if self._ended else self._size)

    def grow(self, done: int) -> bool:
        """Read on until more than `done` samples are known; return whether there are more."""
        while self.known <= done and not self._ended and not self._counting:
            self._more()
        return self.known > done

    @property
    def direct(self) -> bool:
        """Whether a decoder may read the source directly, up to the number of samples in the header."""
        return self._counting and self._begin == 0 and isinstance(self._reader.file, io.FileIO)

    def decoded(self) -> None:
        """Continue where a decoder left the source that it read directly."""
        self._reader.seek(max(self._reader.file.tell() - _BEHIND, self._frames))

    def look_behind(self) -> bool:
        """Search for frames after those that the header counts.

        Return whether there are any, which then need decoding.
        """
        if not self._counting:
            return False
        self._counting, self._head, self._least = False, self._start, self.promised
        self._reader.unread(b"".join(self._passed))
        self._passed.clear()
        return self.grow(0)

    def pull(self, size: int) -> bytes:
        """Return at most `size` bytes of the stream; b"" at its end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        if self._counting:
            data = self._reader.read(size, 1)
            self._passed.append(data)
            self._kept += len(data)
            while self._kept - len(self._passed[0]) > _BEHIND:
                self._kept -= len(self._passed.popleft())
            return data
        # a frame header that has not been seen must not pass
        while self._at == self._scanned and not self._ended:
            self._more()
        data = self._out[self._at : min(self._at + size, self._scanned)]
        self._at += len(data)
        return data

    def _more(self) -> None:
        """Read on and look for frame headers."""
        data = self._reader.read(4 * AHEAD, 4 * AHEAD if self._reader.seekable else 1)
        self._out = self._out[self._at :] + data if self._at < len(self._out) else data
        self._scanned -= self._at
        self._at = 0
        end = len(self._out) - (_LONGEST_HEADER if data else 0)
        begin = self._scanned
        for place in _find(self._out, MARKER[:2], begin, end):
            if self._out[place : place + 8] in _BEGINNINGS:
                self._reader.unread(self._out[place:])
                self._out, data, end = self._out[:place], b"", place
                self.following = True
                break
        for place in sorted(place for sync in self._syncs for place in _find(self._out, sync, begin, end)):
            self._look(place)
        self._scanned = max(begin, end)
        self._ended = not data
        if self._next is None:  # bytes before the first frame are left out
            self._at = self._scanned

    def _look(self, at: int) -> None:
        """Register the frame header at a position, if there is one."""
        data = self._out
        found = self._header(data[at : at + _LONGEST_HEADER]) if len(data) >= at + 6 else None
        if found is None:
            return
        number, size = found
        if self._next is None and number + size <= self._least:
            return
        if self._next is None:
            self._first, self._at = number, at
            self.skip = max(self._least - number, 0)
            self._syncs = (data[at : at + 2],)
        elif number < self._next:
            return
        elif number > self._next:
            self.gap_at = self.gap_at or self._next - self._first
            self.gap += number - self._next
        self._next, self._size = number + size, size

    def _header(self, data: bytes) -> tuple[int, int] | None:
        """Return the first sample and the number of samples of a frame; None if its header is not of this stream."""
        block, rate, channels, bits = data[2] >> 4, data[2] & 15, data[3] >> 4, data[3] >> 1 & 7
        if block == 0 or rate == 15 or data[3] & 1 or channels > 10:
            return None
        if (channels + 1 if channels < 8 else 2) != self._channels or (bits and _BITS[bits] != self._bits):
            return None
        extra = next((n for n, low in enumerate((0x80, 0xC0, 0xE0, 0xF0, 0xF8, 0xFC, 0xFE, 0xFF)) if data[4] < low), 7)
        if extra == 1:
            return None
        number = data[4] if not extra else data[4] & (0x7F >> extra)
        at = 5
        for byte in data[5 : 4 + max(extra, 1)]:
            number = number << 6 | byte & 0x3F
            at += 1
        if block in (6, 7):
            size = int.from_bytes(data[at : at + block - 5], "big") + 1
            at += block - 5
        else:
            size = 192 if block == 1 else 576 << block - 2 if block < 6 else 256 << block - 8
        at += {12: 1, 13: 2, 14: 2}.get(rate, 0)
        if len(data) <= at:
            return None
        check = 0
        for byte in data[:at]:
            check = _CRC8[check ^ byte]
        if check != data[at]:
            return None
        return (number if data[1] & 1 else number * self._block), size


def segments(reader: Reader) -> Iterator[FlacSegment]:
    """Yield the streams of a source; each one must be read to its end before the iterator is advanced."""
    following = True
    while following:
        segment = FlacSegment(reader)
        yield segment
        following = segment.following
