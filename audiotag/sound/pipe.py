"""Sound that arrives through a pipe and is decoded on the way, for as long as it goes on.

libsndfile wants to seek while it opens a file, afterwards it reads straight on. So a `Pipe`
keeps what it gave until the file is open, and says that its end is far away; one that ends
before it is open was short, and is opened again as what it is, bytes. Of WAV the
header is read here, of files, too: programs that write WAV into a pipe, or die before they
are done, leave lengths in it that libsndfile would believe, and end after two gigabytes or
begin with the end.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import IO, Any

KEPT = 64 << 20
"""Bytes of a pipe that are kept at most while it is opened, and how far that may look ahead."""

AHEAD = 1 << 16
"""Bytes that are taken at once, if there are so many."""

END = 1 << 60
"""Where a pipe seems to end."""

_STREAMED = (b"fLaC", b"OggS", b"ID3", b".snd", b"RIFF", b"RF64", b"riff", b"FORM", b"caff")
"""How files begin that libsndfile reads straight on, once they are open."""

_CONTAINERS = (b"\x1aE\xdf\xa3", b"FLV", b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9", b"G@")
"""And those that FFmpeg does: Matroska and WebM, FLV, AAC with ADTS headers, MPEG transport streams."""

_EMPTY_ID3 = b"ID3\x04" + bytes(5) + b"\x20" + bytes(32)


class Pipe:
    """A binary file object that can't seek, read from where it is, for libsndfile to open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # what is there, without waiting for more
        self._some = getattr(file, "read1", file.read if isinstance(file, io.RawIOBase) else None)
        self._ahead: bytes | bytearray = b""
        self._kept = bytearray()
        self._position = 0
        self._stop: int | None = None
        self.ended = False
        self._opening, self._whole, self._failed, self._far = True, True, False, False
        # how often the end was looked for, and may be: libsndfile begins with that
        self._measured, self._measures = 0, 1

    def peek(self, size: int) -> bytes:
        """What comes next, while it is opened; less only if the pipe ends."""
        data = self.read(size)
        self._position -= len(data)
        return data

    def read(self, size: int) -> bytes:
        """That many bytes, less only at the end, or where that does; none only at the end."""
        if self._stop is not None:
            size = min(size, self._stop - self._position)
        if self._opening:
            end = self._position + size
            if end > KEPT:
                self._far = self._position < END - 128
                return b"" if self._far else bytes(max(END - self._position, 0))
            self._kept += self._read(end - len(self._kept))
        data = bytes(self._kept[self._position : self._position + size])
        if not self._opening:
            if not data:
                self._kept.clear()
            if not data or self._whole:
                data += self._read(size - len(data))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._failed = whence == os.SEEK_END and self._measured >= self._measures
        self._measured += whence == os.SEEK_END
        if not self._failed:
            self._position = offset + (0, self._position, END)[whence]
            far = self._opening and KEPT < self._position < END - 128
            self._far = whence == os.SEEK_CUR and (far or self._far)
            self._failed = self._position < 0 or (far and not self._far)
        return self.tell()

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        """Where it is, or -1 after a seek that failed.

        Where there is nothing more to see while it is opened that is `END`, to which libsndfile goes on searching.
        """
        if self._failed:
            return -1
        return END if self._opening and (self._far or self.ended) else self._position

    def content(self) -> bytes:
        """All there was, if it has ended and isn't open."""
        return bytes(self._kept)

    def again(self) -> None:
        """Before a second try to open: now also the decoder may see the end, and that there is no tag.

        One of MP3 needs that where the file has no length in it; where it has, it would complain.
        """
        self._position, self._failed, self._measured, self._measures = 0, False, 0, END

    def begin(self, size: int | None = None, prefix: bytes = b"") -> None:
        """Let the file begin here, after `prefix`, and have `size` bytes."""
        self._kept[: self._position] = prefix
        self._position = 0
        self._stop = size

    def opened(self, whole: bool) -> None:
        """Keep nothing from now on; give as much as is asked for, if that must be `whole`, or else what is there."""
        self._opening, self._whole = False, whole

    def waiting(self) -> int:
        """Bytes that can be read without waiting, at least."""
        return len(self._ahead) + max(len(self._kept) - self._position, 0)

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size and not self.ended and (self._whole or not data):
            if not self._ahead:
                self._ahead = self._some(AHEAD) if self._some else self._file.read(size - len(data))
                if not isinstance(self._ahead, (bytes, bytearray)):
                    raise ValueError("is not a binary file object")
                self.ended = not self._ahead
            wanted = size - len(data)
            data += self._ahead[:wanted]
            self._ahead = self._ahead[wanted:]
        return bytes(data)


@dataclass(frozen=True)
class Samples:
    """Samples without a header, as libsndfile calls them; `size` in bytes, None if nobody knows."""

    subtype: str
    rate: int
    channels: int
    size: int | None


def is_tagless_mp3(pipe: Pipe) -> bool:
    """Whether what comes is MP3 without a tag, of which libsndfile recognises only some."""
    head = pipe.peek(4)
    return len(head) == 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0


def streams(pipe: Pipe) -> bool:
    """Whether what comes is sound in a format that can be decoded as it arrives; MP3 gets a tag."""
    if is_tagless_mp3(pipe):
        pipe.begin(prefix=_EMPTY_ID3)
    return pipe.peek(4).startswith(_STREAMED)


def is_live_container(pipe: Pipe) -> bool:
    """Whether what comes is no format of libsndfile's, but one that FFmpeg decodes as it arrives."""
    return pipe.peek(4).startswith(_CONTAINERS)


_SUBTYPES = {
    (1, 1): "PCM_U8",
    (1, 2): "PCM_16",
    (1, 3): "PCM_24",
    (1, 4): "PCM_32",
    (3, 4): "FLOAT",
    (3, 8): "DOUBLE",
    (6, 1): "ALAW",
    (7, 1): "ULAW",
}
"""By the code of the encoding and the bytes of a sample."""

SAMPLE_BYTES = {subtype: size for (_, size), subtype in _SUBTYPES.items()}

_EXTENSIBLE = 0xFFFE

_CHUNKS = (b"", b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"JUNK", b"PEAK", b"iXML", b"smpl", b"_PMX")
"""What follows where there are no samples."""


def read_wav_header(pipe: Pipe) -> Samples | None:
    """What the header of a WAV (RIFF or RF64) says, with the pipe at the samples behind it.

    None for what is no WAV, or one that libsndfile should read by itself: a compressed or a
    damaged one.
    """
    kind, _, wave = _unpack("<4sI4s", pipe)
    if kind not in (b"RIFF", b"RF64") or wave != b"WAVE":
        return None
    long_size, form = 0, None
    while True:
        chunk, size = _unpack("<4sI", pipe)
        if chunk == b"data":
            break
        if chunk == bytes(4) or size > KEPT:
            return None
        body = pipe.read(size + size % 2)
        if chunk == b"fmt " and len(body) >= 16:
            form = body
        if chunk == b"ds64" and len(body) >= 16:
            (long_size,) = struct.unpack_from("<Q", body, 8)
    if form is None:
        return None
    code, channels, rate, _, frame = struct.unpack_from("<HHIIH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        (code,) = struct.unpack_from("<H", form, 24)
    subtype = _SUBTYPES.get((code, frame // max(channels, 1)))
    if subtype is None or not channels or not 0 < rate < 1 << 31 or frame % channels:
        return None
    if size == 0xFFFFFFFF and kind == b"RF64":
        size = long_size
    return Samples(subtype, rate, channels, None if _unknown(size, pipe.peek(4)) else size)


def _unknown(size: int, following: bytes) -> bool:
    """Whether that size stands for one that the writer didn't know, or hasn't come to write."""
    if size == 0:
        return following not in _CHUNKS
    return 0x7FFF0000 <= size <= 0x80000000 or 0xFFFF0000 <= size <= 0xFFFFFFFF or size >= END


def _unpack(layout: str, pipe: Pipe) -> tuple[Any, ...]:
    """The fields of a structure, all zero if the pipe ends before."""
    size = struct.calcsize(layout)
    data = pipe.read(size)
    return struct.unpack(layout, data if len(data) == size else bytes(size))
