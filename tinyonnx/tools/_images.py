"""Encode matrices as small PNG images for a page, without a library."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from tinyonnx.ir import Array

STOPS = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)]
"""Colours from dark to bright in perceptually equal steps, also for readers with red-green colour blindness."""

_COLOURS = 64


@dataclass(frozen=True)
class Picture:
    """A matrix as colours: the data URI of an image, and the numbers of its darkest and brightest colour."""

    src: str
    low: float
    high: float


def picture(values: Array, flip: bool = False) -> Picture:
    """Encode a matrix: its least finite number is dark, its greatest bright; NaN and infinities are transparent.

    `flip` puts the first row at the bottom.
    """
    finite = np.isfinite(values)
    low = float(values[finite].min(initial=np.inf)) if finite.any() else 0.0
    high = float(values[finite].max(initial=-np.inf)) if finite.any() else 0.0
    scaled = np.where(finite, values.astype(np.float64) - low, 0) / ((high - low) or 1.0)
    pixels = np.where(finite, (scaled * (_COLOURS - 1)).round(), _COLOURS).astype(np.uint8)
    png = _png(pixels[::-1] if flip else pixels)
    return Picture("data:image/png;base64," + base64.b64encode(png).decode(), low, high)


def shrink(values: Array, height: int, width: int) -> Array:
    """Reduce a matrix to at most this many rows and columns: means of equal blocks, the last of them smaller."""
    for axis, most in ((0, height), (1, width)):
        size = values.shape[axis]
        if size > most:
            starts = np.unique(np.arange(most) * size // most)
            counts = np.diff([*starts, size])
            counts = counts[:, None] if axis == 0 else counts
            with np.errstate(invalid="ignore", over="ignore"):  # infinities
                values = np.add.reduceat(values, starts, axis=axis) / counts
    return values


def _palette() -> bytes:
    at = np.linspace(0, len(STOPS) - 1, _COLOURS)
    channels = [np.interp(at, range(len(STOPS)), [stop[c] for stop in STOPS]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8).tobytes() + bytes(3)


def _png(pixels: Array) -> bytes:
    """Encode palette indices, rows from the top (PNG specification, colour type 3)."""
    height, width = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)  # filter 0 in front of each row
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    opacity = bytes([255] * _COLOURS + [0])
    chunks = [
        (b"IHDR", header), (b"PLTE", _palette()), (b"tRNS", opacity),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""),
    ]  # fmt: skip
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
