"""Conversion of interleaved samples to mono float32, full scale 1.0: scaled as in libsndfile, then averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.sound.channels import MAX_PEAK
from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array

UNSIGNED_8, SIGNED_16, SIGNED_24, SIGNED_32, FLOAT_32, FLOAT_64 = range(1, 7)
"""Encodings of samples; the number of an integer encoding is its width in bytes."""

VALUES = 1 << 13
"""Number of values (frames x channels) decoded at a time."""

_0, _1, _2, _3, _8 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(8)
_ZERO, _HALF = np.float32(0), np.float32(0.5)
_CENTRE, _7, _15, _31 = np.float32(128), np.float32(2**-7), np.float32(2**-15), np.float32(2**-31)
_MOST = np.float32(MAX_PEAK)


@jit
def convert(
    encoding: int, n: int, bytes_: Array, shorts: Array, ints: Array, floats: Array, doubles: Array, out: Array
) -> None:  # fmt: skip
    """Convert the first n values to out[:n]; `bytes_` to `doubles` are views of the same memory."""
    count = np.uint64(n)
    if encoding == UNSIGNED_8:
        for i in range(count):
            out[i] = (np.float32(bytes_[i]) - _CENTRE) * _7
    elif encoding == SIGNED_16:
        for i in range(count):
            out[i] = np.float32(shorts[i]) * _15
    elif encoding == SIGNED_24:
        for i in range(count):
            at = _3 * i
            high = np.int32(bytes_[at + _2]) << np.int32(24)
            low = np.int32(bytes_[at]) << np.int32(8) | np.int32(bytes_[at + _1]) << np.int32(16)
            out[i] = np.float32(np.int32(high | low)) * _31
    elif encoding == SIGNED_32:
        for i in range(count):
            out[i] = np.float32(ints[i]) * _31
    elif encoding == FLOAT_32:
        for i in range(count):
            out[i] = floats[i]
    else:
        for i in range(count):
            out[i] = np.float32(doubles[i])


@jit
def average(values: Array, channels: int, frames: int, out: Array) -> None:
    """Compute out[i] = mean of values[i·channels : (i+1)·channels], added in the order of numpy."""
    count, step = np.uint64(frames), np.uint64(channels)
    if channels == 1:
        for i in range(count):
            out[i] = values[i]
    elif channels == 2:
        for i in range(count):
            out[i] = (values[_2 * i] + values[_2 * i + _1]) * _HALF
    else:
        divisor = np.float32(channels)
        for i in range(count):
            out[i] = sum_of(values, i * step, step) / divisor


@jit
def sum_of(values: Array, at: Any, n: Any) -> Any:
    """Sum n values as numpy does for up to 128: eight partial sums, then the remainder."""
    total = _ZERO
    i = _0
    if n >= _8:
        a, b, c, d = values[at], values[at + _1], values[at + _2], values[at + _3]
        at += _2 + _2
        e, f, g, h = values[at], values[at + _1], values[at + _2], values[at + _3]
        at -= _2 + _2
        i = _8
        while i + _8 <= n:
            o = at + i
            a, b, c, d = a + values[o], b + values[o + _1], c + values[o + _2], d + values[o + _3]
            o += _2 + _2
            e, f, g, h = e + values[o], f + values[o + _1], g + values[o + _2], h + values[o + _3]
            i += _8
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    while i < n:
        total += values[at + i]
        i += _1
    return total


@jit
def peak_of(x: Array, n: int) -> Any:
    """Return the greatest magnitude in x[:n]; infinity if there is a NaN."""
    peak = _ZERO
    bad = np.int32(0)
    for i in range(np.uint64(n)):
        peak = max(peak, abs(x[i]))
        bad |= np.int32(not abs(x[i]) <= _MOST)
    return np.float32(np.inf) if bad else peak
