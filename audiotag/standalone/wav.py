"""WAV headers: RIFF and RF64, chunks in any order before the samples.

The header is read as it arrives: what there is too little of waits for more. What it says
is taken as `audiotag.sound.pipe` takes it: a length may be one that a program that writes into
a pipe couldn't know, and the chunks after the samples aren't looked at.

Sources: Microsoft, "Multiple channel audio data and WAVE files"; EBU Tech 3306 (RF64).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from audiotag.standalone.control import (
    AT,
    BAD_RATE,
    BEGUN,
    BITS,
    CHANNELS,
    COMPRESSED,
    ENCODING,
    END,
    ENDED,
    FLOAT_32,
    FLOAT_64,
    IS_LONG,
    KIND,
    LEFT,
    LONG_SIZE,
    MANY_CHANNELS,
    NO_CHANNELS,
    NO_FORMAT,
    NO_RATE,
    NO_WAV,
    NO_WIDTH,
    NUMBER,
    PROBLEM,
    RATE,
    READY,
    SKIP,
)
from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array


def _four(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


_RIFF, _RF64, _WAVE, _FMT, _DS64, _DATA = map(_four, ("RIFF", "RF64", "WAVE", "fmt ", "ds64", "data"))

_CHUNKS = tuple(map(_four, ("LIST", "id3 ", "ID3 ", "bext", "cue ", "fact", "JUNK", "PEAK", "iXML", "smpl", "_PMX")))
"""What follows where there are no samples."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE

_UNKNOWN = 0xFFFF_FFFF
ENDLESS = 1 << 60


@jit
def little(data: Array, at: int, size: int) -> int:
    """An unsigned number of `size` bytes, up to 7."""
    value = np.int64(0)
    for i in range(size):
        value |= np.int64(data[at + i]) << np.int64(8 * i)
    return int(value)


@jit
def begin(c: Array) -> None:
    """Begin a header."""
    c[READY] = c[SKIP] = c[BEGUN] = c[IS_LONG] = c[LONG_SIZE] = c[ENCODING] = 0
    c[KIND] = -1


@jit
def read(c: Array, data: Array) -> None:
    """Read on in data[c[AT] : c[END]] until samples come next (READY), there is a PROBLEM, or all is read."""
    while not c[READY] and not c[PROBLEM]:
        at, have = c[AT], c[END] - c[AT]
        if c[SKIP] > 0:
            skipped = min(c[SKIP], have)
            c[AT] += skipped
            c[SKIP] -= skipped
            if c[SKIP] > 0:
                return
        elif not c[BEGUN]:
            if have < 12:
                return
            riff(c, data)
        else:
            if have < 8:
                return
            size = little(data, at + 4, 4)
            name = little(data, at, 4)
            wanted = min(size, 40) if name == _FMT else min(size, 16) if name == _DS64 else 0
            if name == _DATA and not c[ENDED]:
                wanted = 4
            if have < 8 + wanted:
                return
            chunk(c, data, name, size)


@jit
def riff(c: Array, data: Array) -> None:
    """The first twelve bytes."""
    at = c[AT]
    name = little(data, at, 4)
    if name in (_RIFF, _RF64) and little(data, at + 8, 4) == _WAVE:
        c[BEGUN], c[IS_LONG] = 1, int(name == _RF64)
        c[AT] += 12
    else:
        c[PROBLEM] = NO_WAV


@jit
def chunk(c: Array, data: Array, name: int, size: int) -> None:
    """A chunk whose first bytes are there."""
    at = c[AT] + 8
    if name == _DATA:
        check(c)
        if c[PROBLEM]:
            return
        c[READY] = 1
        if size == _UNKNOWN and c[IS_LONG]:
            size = c[LONG_SIZE]
        c[LEFT] = ENDLESS if unknown(size, data, at, c[END]) else size
    else:
        if name == _FMT and size >= 16:
            describe(c, data, at, size)
        elif name == _DS64 and size >= 16:
            c[LONG_SIZE] = ENDLESS if data[at + 15] else little(data, at + 8, 7)
        c[SKIP] = size + (size & 1)
    c[AT] = at


@jit
def unknown(size: int, data: Array, at: int, end: int) -> bool:
    """Whether the size of the samples is one that the writer didn't know, or hasn't come to write."""
    if size == 0:
        if end < at + 4:
            return end > at
        following = little(data, at, 4)
        return following not in _CHUNKS
    near_2, near_4 = 0x7FFF0000 <= size <= 0x80000000, 0xFFFF0000 <= size <= 0xFFFFFFFF
    return near_2 or near_4 or not 0 < size < ENDLESS


@jit
def describe(c: Array, data: Array, at: int, size: int) -> None:
    """A format chunk; the size of a frame counts where it can be right, then that of a sample."""
    kind, channels, rate, frame, bits = (
        little(data, at, 2), little(data, at + 2, 2), little(data, at + 4, 4), little(data, at + 12, 2),
        little(data, at + 14, 2),
    )  # fmt: skip
    if kind == _EXTENSIBLE and size >= 26:
        kind = little(data, at + 24, 2)
    c[ENCODING] = 0
    if channels > 0 and frame % channels == 0:
        c[ENCODING] = encoding_of(kind, frame // channels)
    if not c[ENCODING]:
        c[ENCODING] = encoding_of(kind, (bits + 7) // 8)
    c[KIND], c[BITS], c[CHANNELS], c[RATE] = kind, bits, channels, rate


@jit
def encoding_of(kind: int, width: int) -> int:
    """How numbers of `width` bytes are to be read; 0 if they can't be."""
    if kind == _PCM:
        return width if 1 <= width <= 4 else 0
    if kind == _FLOAT:
        return FLOAT_32 if width == 4 else FLOAT_64 if width == 8 else 0
    return 0


@jit
def check(c: Array) -> None:
    """Refuse what can't be read."""
    if c[KIND] < 0:
        c[PROBLEM] = NO_FORMAT
    elif c[KIND] != _PCM and c[KIND] != _FLOAT:
        c[PROBLEM], c[NUMBER] = COMPRESSED, c[KIND]
    elif c[CHANNELS] < 1:
        c[PROBLEM] = NO_CHANNELS
    elif c[CHANNELS] > MAX_CHANNELS:
        c[PROBLEM], c[NUMBER] = MANY_CHANNELS, c[CHANNELS]
    elif not c[ENCODING]:
        c[PROBLEM], c[NUMBER] = NO_WIDTH, c[BITS]
    elif c[RATE] == 0 or c[RATE] >= 1 << 31:
        c[PROBLEM] = NO_RATE
    elif not MIN_RATE <= c[RATE] <= MAX_RATE:
        c[PROBLEM], c[NUMBER] = BAD_RATE, c[RATE]
