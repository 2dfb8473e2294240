"""Frame-wise scores of a clip, joined from overlapping pieces and filtered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tinyonnx.ir import Array

PIECE = 10.0
"""Seconds of the pieces of models that take any length."""

STEP = 0.8
"""Distance of pieces as a fraction of their length: the rest is context at their ends."""


class FramePiece(NamedTuple):
    """Frame-wise scores (n, classes) of a piece of a clip that lies from `start` to `end` in seconds."""

    start: float
    end: float
    frames: Array


def join(pieces: Iterable[FramePiece], rate: float) -> Iterator[tuple[Array, Array]]:
    """Join overlapping pieces: each counts up to the middle of its overlap with the next one.

    Args:
        pieces: the pieces in the order of their start.
        rate: frames per second.

    Yields:
        (ends, scores): the end in seconds of each frame (n,), which is the start of the next, and scores (n, classes).
    """
    held: FramePiece | None = None
    begin = 0.0
    for piece in pieces:
        if held is not None:
            border = (held.end + piece.start) / 2
            yield _between(held, rate, begin, border)
            begin = border
        held = piece
    if held is not None:
        yield _between(held, rate, begin, held.end)


def _between(piece: FramePiece, rate: float, begin: float, end: float) -> tuple[Array, Array]:
    """Return frames whose middle lies from `begin` to `end`; the last one ends there."""
    starts = piece.start + np.arange(len(piece.frames)) / rate
    middles = starts + 0.5 / rate
    chosen = (middles >= begin) & (middles < end)
    ends = (starts + 1 / rate)[chosen]
    if len(ends):
        ends[-1] = end
    return ends, piece.frames[chosen]


class MedianFilter:
    """The median over `size` frames, an odd number, around each; the first and the last frame are repeated."""

    def __init__(self, size: int) -> None:
        self.half = size // 2
        self._ends = np.empty(0)
        self._frames: Array | None = None

    def over(self, parts: Iterable[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
        """Yield the ends and filtered scores of all frames of `parts`."""
        for ends, frames in parts:
            yield self.push(ends, frames)
        yield self.finish()

    def push(self, ends: Array, frames: Array) -> tuple[Array, Array]:
        """Add frames (n, classes); return those that are complete with their ends."""
        if not len(frames):
            return ends, frames
        if self._frames is None:
            self._frames = np.repeat(frames[:1], self.half, axis=0)
        self._ends = np.concatenate([self._ends, ends])
        self._frames = np.concatenate([self._frames, frames])
        return self._complete()

    def finish(self) -> tuple[Array, Array]:
        """Return the remaining frames."""
        if self._frames is None or not len(self._ends):
            return np.empty(0), np.empty((0, 0))
        self._frames = np.concatenate([self._frames, np.repeat(self._frames[-1:], self.half, axis=0)])
        return self._complete()

    def _complete(self) -> tuple[Array, Array]:
        assert self._frames is not None
        count = max(0, len(self._frames) - 2 * self.half)
        ends, self._ends = self._ends[:count], self._ends[count:]
        if not count:
            return ends, self._frames[:0]
        windows = np.lib.stride_tricks.sliding_window_view(self._frames, 2 * self.half + 1, axis=0)
        middle = np.partition(windows, self.half, axis=2)[:, :, self.half]
        self._frames = self._frames[count:]
        return ends, middle
