"""Uncompressed samples, and G.711: bytes to float32, for every container that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from audiotag.errors import AudioError
from audiotag.sound.reader import Reader

if TYPE_CHECKING:
    from tinyonnx.ir import Array

BLOCK = 1 << 16
"""Values (frames x channels) decoded at a time."""

LIVE = 10
"""Pieces per second of live sound, which determines the delay."""

ENDS_EARLY = "ends early: its header promises {:.2f} s, {:.2f} s are there"
GOES_ON = "has more samples than the {:.2f} s that its header counts"
"""Notes that end with seconds of sound."""

_WIDTHS = {"u1": 1, "i1": 1, "i2": 2, "i3": 3, "i4": 4, "f4": 4, "f8": 8, "alaw": 1, "ulaw": 1}


class SampleFormat(NamedTuple):
    """Encoding of uncompressed samples.

    Args:
        encoding: "u1", "i1", "i2", "i3", "i4" (integers of 1 to 4 bytes), "f4", "f8", "alaw" or "ulaw".
        rate: Hz.
        channels: interleaved.
        order: "<" or ">", the order of the bytes.
    """

    encoding: str
    rate: int
    channels: int
    order: str = "<"

    @property
    def frame(self) -> int:
        """Bytes of a sample of each channel."""
        return _WIDTHS[self.encoding] * self.channels


class SampleRun(NamedTuple):
    """Contiguous samples: their bytes, whether the file declares them, and whether they continue the previous run.

    `silence` bytes of zeros before them have been read.
    """

    size: int
    promised: bool = True
    goes_on: bool = False
    silence: int = 0


def blocks(reader: Reader, format: SampleFormat, runs: Iterable[SampleRun], name: str) -> Iterator[Array]:
    """Yield (frames, channels) float32 of full scale 1.0; raise AudioError if the source can't be read.

    Args:
        reader: the source, at the first sample.
        format: that of the samples.
        runs: where they are; the next one is asked for when the last one is read.
        name: the source's, for errors.
    """
    frame = format.frame
    most = max(1, BLOCK // format.channels) * frame
    least = most if reader.seekable else min(most, (format.rate // LIVE + 1) * frame)
    rest = b""
    for run in runs:
        rest = rest if run.goes_on else b""
        if run.silence:
            rest = bytes(len(rest))  # the frame in which silence begins
        for data in _pieces(reader, run, most, least):
            data = rest + data if rest else data
            whole = len(data) - len(data) % frame
            rest = data[whole:]
            yield as_float(_numbers(data[:whole] if rest else data, format), name).reshape(-1, format.channels)


def _pieces(reader: Reader, run: SampleRun, most: int, least: int) -> Iterator[bytes]:
    """Yield the bytes of a run, up to `most` at once and, if the source has no more yet, at least `least`."""
    for at in range(0, run.silence, most):
        yield bytes(min(most, run.silence - at))
    left = run.size
    while left and (data := reader.read(min(most, left), min(least, left))):
        left -= len(data)
        yield data


def _numbers(data: bytes, format: SampleFormat) -> Array:
    """Return the samples of all channels as numpy numbers, integers in the upper bits."""
    if format.encoding in ("alaw", "ulaw"):
        return _g711(format.encoding)[np.frombuffer(data, np.uint8)]
    if format.encoding != "i3":
        return np.frombuffer(data, format.order + format.encoding)
    parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
    wide = np.zeros((len(parts), 4), np.uint8)
    at = 1 if format.order == "<" else 0
    for i in range(3):
        wide[:, at + i] = parts[:, i]
    return wide.view(format.order + "i4")[:, 0]


@cache
def _g711(encoding: str) -> Array:
    """Return all 256 values of an encoding as int16 (ITU-T G.711)."""
    codes = np.arange(256)
    if encoding == "ulaw":
        codes = ~codes & 0xFF
        magnitude = (((codes & 15) << 3) + 132 << (codes >> 4 & 7)) - 132
        return np.where(codes & 0x80, -magnitude, magnitude).astype(np.int16)
    codes = codes ^ 0x55
    step, exponent = (codes & 15) << 4, codes >> 4 & 7
    magnitude = np.where(exponent == 0, step + 8, step + 264 << np.maximum(exponent - 1, 0))
    return np.where(codes & 0x80, magnitude, -magnitude).astype(np.int16)


def as_float(samples: Array, name: str) -> Array:
    """Convert samples of any type to float32 of full scale 1.0. Raises AudioError."""
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32, copy=False)
    if kind == "i" or (kind == "u" and size == 1):
        full_scale = 2.0 ** (8 * size - 1)
        # powers of two: only integers too large for float32 are rounded
        scaled: Array = np.multiply(samples, np.float32(1 / full_scale), dtype=np.float32, casting="same_kind")
        return scaled - np.float32(1) if kind == "u" else scaled
    raise AudioError(name, f"samples of type {samples.dtype}: expected floats or signed integers")
