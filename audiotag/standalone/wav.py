"""Parser of WAV headers: RIFF and RF64, with chunks in any order before the samples.

The header is parsed incrementally: an incomplete chunk waits for more bytes. It is interpreted as in
`audiotag.sound.pipe`: the length of the samples may be a placeholder, written by a program that
writes to a pipe, and chunks after the samples are ignored.

Sources: Microsoft, "Multiple channel audio data and WAVE files"; EBU Tech 3306 (RF64).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from audiotag.standalone import registers as reg
from audiotag.standalone.control import (
    BAD_RATE,
    COMPRESSED,
    FLOAT_32,
    FLOAT_64,
    MANY_CHANNELS,
    NO_CHANNELS,
    NO_FORMAT,
    NO_RATE,
    NO_WAV,
    NO_WIDTH,
)
from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array


def _four(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


_RIFF, _RF64, _WAVE, _FMT, _DS64, _DATA = map(_four, ("RIFF", "RF64", "WAVE", "fmt ", "ds64", "data"))

_CHUNKS = tuple(map(_four, ("LIST", "id3 ", "ID3 ", "bext", "cue ", "fact", "JUNK", "PEAK", "iXML", "smpl", "_PMX")))
"""Chunks that follow an empty data chunk."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE

_UNKNOWN = 0xFFFF_FFFF
ENDLESS = 1 << 60


@jit
def little(data: Array, at: int, size: int) -> int:
    """Read an unsigned little-endian number of `size` bytes, at most 7."""
    value = np.int64(0)
    for i in range(size):
        value |= np.int64(data[at + i]) << np.int64(8 * i)
    return int(value)


@jit
def begin(c: Array) -> None:
    """Reset the registers of the header."""
    c[reg.HEADER_DONE] = c[reg.SKIP] = c[reg.HEADER_STARTED] = c[reg.RF64] = c[reg.RF64_DATA_SIZE] = c[reg.ENCODING] = 0
    c[reg.FORMAT] = -1


@jit
def read(c: Array, data: Array) -> None:
    """Parse the unread input until the header is complete, has an error, or needs more bytes."""
    while not c[reg.HEADER_DONE] and not c[reg.PROBLEM]:
        at, have = c[reg.INPUT_START], c[reg.INPUT_END] - c[reg.INPUT_START]
        if c[reg.SKIP] > 0:
            skipped = min(c[reg.SKIP], have)
            c[reg.INPUT_START] += skipped
            c[reg.SKIP] -= skipped
            if c[reg.SKIP] > 0:
                return
        elif not c[reg.HEADER_STARTED]:
            if have < 12:
                return
            riff(c, data)
        else:
            if have < 8:
                return
            size = little(data, at + 4, 4)
            name = little(data, at, 4)
            wanted = min(size, 40) if name == _FMT else min(size, 16) if name == _DS64 else 0
            if name == _DATA and not c[reg.INPUT_ENDED]:
                wanted = 4
            if have < 8 + wanted:
                return
            chunk(c, data, name, size)


@jit
def riff(c: Array, data: Array) -> None:
    """Parse the RIFF header, the first twelve bytes."""
    at = c[reg.INPUT_START]
    name = little(data, at, 4)
    if name in (_RIFF, _RF64) and little(data, at + 8, 4) == _WAVE:
        c[reg.HEADER_STARTED], c[reg.RF64] = 1, int(name == _RF64)
        c[reg.INPUT_START] += 12
    else:
        c[reg.PROBLEM] = NO_WAV


@jit
def chunk(c: Array, data: Array, name: int, size: int) -> None:
    """Parse a chunk header and, of a format or size chunk, its content."""
    at = c[reg.INPUT_START] + 8
    if name == _DATA:
        check(c)
        if c[reg.PROBLEM]:
            return
        c[reg.HEADER_DONE] = 1
        if size == _UNKNOWN and c[reg.RF64]:
            size = c[reg.RF64_DATA_SIZE]
        c[reg.DATA_LEFT] = ENDLESS if unknown(size, data, at, c[reg.INPUT_END]) else size
    else:
        if name == _FMT and size >= 16:
            describe(c, data, at, size)
        elif name == _DS64 and size >= 16:
            c[reg.RF64_DATA_SIZE] = ENDLESS if data[at + 15] else little(data, at + 8, 7)
        c[reg.SKIP] = size + (size & 1)
    c[reg.INPUT_START] = at


@jit
def unknown(size: int, data: Array, at: int, end: int) -> bool:
    """Whether the size of the data chunk is a placeholder."""
    if size == 0:
        if end < at + 4:
            return end > at
        following = little(data, at, 4)
        return following not in _CHUNKS
    near_2, near_4 = 0x7FFF0000 <= size <= 0x80000000, 0xFFFF0000 <= size <= 0xFFFFFFFF
    return near_2 or near_4 or not 0 < size < ENDLESS


@jit
def describe(c: Array, data: Array, at: int, size: int) -> None:
    """Parse a format chunk; the sample width follows from the frame size if that is plausible, else from the bits."""
    kind, channels, rate, frame, bits = (
        little(data, at, 2), little(data, at + 2, 2), little(data, at + 4, 4), little(data, at + 12, 2),
        little(data, at + 14, 2),
    )  # fmt: skip
    if kind == _EXTENSIBLE and size >= 26:
        kind = little(data, at + 24, 2)
    c[reg.ENCODING] = 0
    if channels > 0 and frame % channels == 0:
        c[reg.ENCODING] = encoding_of(kind, frame // channels)
    if not c[reg.ENCODING]:
        c[reg.ENCODING] = encoding_of(kind, (bits + 7) // 8)
    c[reg.FORMAT], c[reg.BITS], c[reg.CHANNELS], c[reg.RATE] = kind, bits, channels, rate


@jit
def encoding_of(kind: int, width: int) -> int:
    """Encoding of samples of `width` bytes, 0 if they can't be decoded."""
    if kind == _PCM:
        return width if 1 <= width <= 4 else 0
    if kind == _FLOAT:
        return FLOAT_32 if width == 4 else FLOAT_64 if width == 8 else 0
    return 0


@jit
def check(c: Array) -> None:
    """Set an error if the format can't be decoded."""
    if c[reg.FORMAT] < 0:
        c[reg.PROBLEM] = NO_FORMAT
    elif c[reg.FORMAT] != _PCM and c[reg.FORMAT] != _FLOAT:
        c[reg.PROBLEM], c[reg.NUMBER] = COMPRESSED, c[reg.FORMAT]
    elif c[reg.CHANNELS] < 1:
        c[reg.PROBLEM] = NO_CHANNELS
    elif c[reg.CHANNELS] > MAX_CHANNELS:
        c[reg.PROBLEM], c[reg.NUMBER] = MANY_CHANNELS, c[reg.CHANNELS]
    elif not c[reg.ENCODING]:
        c[reg.PROBLEM], c[reg.NUMBER] = NO_WIDTH, c[reg.BITS]
    elif c[reg.RATE] == 0 or c[reg.RATE] >= 1 << 31:
        c[reg.PROBLEM] = NO_RATE
    elif not MIN_RATE <= c[reg.RATE] <= MAX_RATE:
        c[reg.PROBLEM], c[reg.NUMBER] = BAD_RATE, c[reg.RATE]
