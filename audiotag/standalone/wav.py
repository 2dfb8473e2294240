"""Parser of WAV headers: RIFF and RF64, with chunks in any order before the samples.

The header is parsed incrementally: an incomplete chunk waits for more bytes. It is interpreted as in
`audiotag.sound.wav_header`: lengths may be placeholders or wrong, so that what follows the samples is parsed, too.

Sources: Microsoft, "Multiple channel audio data and WAVE files"; EBU Tech 3306 (RF64).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from audiotag.sound.wav_header import LARGEST_CHUNK, TRAILER, UNSIZED_CHUNKS, WRAP
from audiotag.standalone import registers as reg
from audiotag.standalone.control import (
    BAD_RATE,
    COMPRESSED,
    FLOAT_32,
    FLOAT_64,
    GOES_ON,
    MANY_CHANNELS,
    NO_CHANNELS,
    NO_FORMAT,
    NO_RATE,
    NO_WAV,
    NO_WIDTH,
)
from audiotag.standalone.samples import width_of
from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array


def _four(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


_RIFF, _RF64, _WAVE, _FMT, _DS64, _DATA = map(_four, ("RIFF", "RF64", "WAVE", "fmt ", "ds64", "data"))

_TAG, _ID3 = _four("TAG\0"), _four("ID3\0")

_CHUNKS = tuple(int.from_bytes(name, "little") for name in UNSIZED_CHUNKS)
"""Chunks that follow an empty data chunk."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE

_UNKNOWN = 0xFFFF_FFFF
ENDLESS = 1 << 60

MORE, RUNS, OVER = range(3)
"""Next after a run of samples: unknown until more is read, more samples, or the end."""


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
    c[reg.RUN_PROMISED] = c[reg.RIFF_SIZE] = c[reg.PROMISED_FRAMES] = c[reg.DECODED_FRAMES] = c[reg.BEHIND_SAMPLES] = 0
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
        size = little(data, at + 4, 4)
        known = size > 8 and (not is_placeholder(size) or (size == _UNKNOWN and c[reg.RF64]))
        c[reg.RIFF_SIZE] = size if known else 0
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
        begin_run(c, size)
        if size == 0:
            position = c[reg.INPUT_BYTES] - (c[reg.INPUT_END] - at)
            following = little(data, at, 4) if c[reg.INPUT_END] >= at + 4 else 0
            counted = c[reg.RIFF_SIZE] > 0 and c[reg.RIFF_SIZE] + 8 > position
            if counted or c[reg.INPUT_END] == at or following in _CHUNKS:
                c[reg.DATA_LEFT] = 0
    else:
        if name == _FMT and size >= 16:
            describe(c, data, at, size)
        elif name == _DS64 and size >= 16:
            c[reg.RF64_DATA_SIZE] = ENDLESS if data[at + 15] else little(data, at + 8, 7)
            if c[reg.RIFF_SIZE] == _UNKNOWN:
                long = ENDLESS if data[at + 7] else little(data, at, 7)
                c[reg.RIFF_SIZE] = 0 if is_placeholder(long) else long
        c[reg.SKIP] = size + (size & 1)
    c[reg.INPUT_START] = at


@jit
def begin_run(c: Array, size: int) -> None:
    """Begin a run of `size` bytes of samples, of an unknown number if that is 0."""
    c[reg.RUN_PROMISED] = int(not is_placeholder(size))
    c[reg.DATA_LEFT] = c[reg.RUN_BYTES] = size if size else WRAP
    if c[reg.RUN_PROMISED]:
        c[reg.PROMISED_FRAMES] += size // (width_of(c[reg.ENCODING]) * c[reg.CHANNELS])


@jit
def is_placeholder(size: int) -> bool:
    """Whether a size is one that writers use while it is unknown."""
    near_2, near_4 = 0x7FFF0000 <= size <= 0x80000000, 0xFFFF0000 <= size <= 0xFFFFFFFF
    return near_2 or near_4 or not 0 < size < ENDLESS


@jit
def follow(c: Array, data: Array) -> int:
    """Parse what follows a run of samples with less than a frame left: RUNS, OVER or MORE."""
    while True:
        have = c[reg.INPUT_END] - c[reg.INPUT_START]
        if c[reg.BEHIND_SAMPLES] and c[reg.SKIP] > 0:
            skipped = min(c[reg.SKIP], have)
            c[reg.INPUT_START] += skipped
            c[reg.SKIP] -= skipped
            if c[reg.SKIP] > 0:
                return OVER if c[reg.INPUT_ENDED] else MORE
            continue
        rest = 0 if c[reg.BEHIND_SAMPLES] else c[reg.DATA_LEFT]
        if have < rest + 1 + TRAILER and not c[reg.INPUT_ENDED]:
            return MORE
        if have < rest:
            return OVER
        at, have = c[reg.INPUT_START] + rest, have - rest
        if not c[reg.BEHIND_SAMPLES] and c[reg.RUN_BYTES] & 1 and have >= 9 and is_chunk(data, at + 1):
            at, have = at + 1, have - 1
        if have >= 8 and is_chunk(data, at):
            name, size = little(data, at, 4), little(data, at + 4, 4)
            c[reg.INPUT_START] = at + 8
            if name == _DATA:
                c[reg.BEHIND_SAMPLES] = 0
                begin_run(c, size)
                return RUNS
            c[reg.BEHIND_SAMPLES], c[reg.SKIP] = 1, size + (size & 1)
            continue
        if c[reg.BEHIND_SAMPLES] or have < TRAILER or not is_sound(data, at):
            return OVER
        if c[reg.RUN_PROMISED]:
            c[reg.WARNINGS] |= GOES_ON & ~c[reg.WARNED]
        c[reg.RUN_PROMISED], c[reg.RUN_BYTES] = 0, WRAP
        c[reg.DATA_LEFT] += WRAP
        return RUNS


@jit
def is_chunk(data: Array, at: int) -> bool:
    """Whether a chunk that may follow samples begins at a place."""
    for i in range(4):
        if not 32 <= data[at + i] < 127:
            return False
    return little(data, at + 4, 4) < LARGEST_CHUNK or little(data, at, 4) == _DATA


@jit
def is_sound(data: Array, at: int) -> bool:
    """Whether bytes behind samples may be samples: neither a tag nor only zeros."""
    if little(data, at, 3) in (_TAG, _ID3):
        return False
    zeros = 0
    while zeros < TRAILER and data[at + zeros] == 0:
        zeros += 1
    return zeros < TRAILER


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
