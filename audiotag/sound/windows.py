"""Windows on a timeline, cut from sound that arrives in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from audiotag.features.mel import DEFAULT

if TYPE_CHECKING:
    from tinyonnx.ir import Array

MIN_WINDOW = 0.02
"""Seconds of the shortest window: the shortest clip that has features of its own is 16 ms."""

MIN_HOP = DEFAULT.hop / DEFAULT.rate
"""Seconds of the smallest step between windows: one frame of the features."""

MAX_PIECE = 1200.0
"""Maximum seconds tagged in one piece; each second takes 0.3 MB (mn04) to 0.5 MB (mn10) of memory."""


SHORTEST = 0.5
"""Seconds of a clip below which its tags carry a warning."""

TOO_SHORT = "only {:.2f} s long: too short to judge"

MAX_REMAINDER = 0.1
"""Maximum seconds at the end of a clip without a window of their own."""


@dataclass(frozen=True)
class Grid:
    """Positions of windows: the k-th begins at k * `hop` and ends `window` later, both in seconds; `rate` is in Hz.

    A last window of full length ends with the clip, if samples remain for it beyond the last regular window: more
    than a twentieth of a window, or more than MAX_REMAINDER seconds. A clip shorter than a window gives one result
    for the whole clip. With a `hop` longer than the `window` the gaps between windows are skipped.

    Raises:
        ValueError: `window` is not in MIN_WINDOW..MAX_PIECE, or `hop` below MIN_HOP.
    """

    window: float
    hop: float
    rate: int = DEFAULT.rate

    def __post_init__(self) -> None:
        # written so that NaN fails it
        if not MIN_WINDOW <= self.window <= MAX_PIECE:
            raise ValueError(f"window must lie in {MIN_WINDOW:g}..{MAX_PIECE:g} s, is {self.window:g}")
        if not MIN_HOP <= self.hop < float("inf"):
            raise ValueError(f"hop must be at least {MIN_HOP:g} s, is {self.hop:g}")

    @property
    def size(self) -> int:
        """Samples of a window."""
        return round(self.window * self.rate)

    @property
    def remainder(self) -> int:
        """Number of samples at the end of a clip that are too few for a window of their own."""
        return int(min(MAX_REMAINDER, self.window / 20) * self.rate)

    def start(self, k: int) -> int:
        """Return the first sample of the k-th window; each is rounded on its own, so that errors don't accumulate."""
        return round(k * self.hop * self.rate)

    def cut(self, blocks: Iterable[Array]) -> Iterator[tuple[int, Array]]:
        """Yield the first sample and the samples of each window once its last sample has arrived.

        Args:
            blocks: mono samples (n,) at `rate`.

        Yields:
            (start, samples): samples may be overwritten once the next window is asked for.
        """
        size = self.size
        tape = _Tape(size)
        k, end = 0, 0
        for block in blocks:
            tape.append(block)
            while (start := self.start(k)) + size <= tape.end:
                yield start, tape.part(start, start + size)
                k, end = k + 1, start + size
                tape.forget(min(self.start(k), tape.end - size))
            tape.forget(min(start, tape.end - size))
        left = tape.end - max(end, self.start(k))
        if k == 0 or left > self.remainder:
            start = max(0, tape.end - size)
            yield start, tape.part(start, tape.end)


class _Tape:
    """The last samples of a stream."""

    def __init__(self, size: int) -> None:
        self._samples = np.empty(2 * size, np.float32)
        self._first = 0  # of the stream's samples, the first one on the tape
        self._kept = 0  # and the first that is still needed
        self.end = 0

    def append(self, block: Array) -> None:
        if self.end + len(block) - self._first > len(self._samples):
            kept = self.part(self._kept, self.end)
            if len(kept) + len(block) > len(self._samples):
                self._samples = np.concatenate([kept, np.empty(len(kept) + 2 * len(block), np.float32)])
            else:
                self._samples[: len(kept)] = kept
            self._first = self._kept
        self.end += len(block)
        self.part(self.end - len(block), self.end)[:] = block

    def part(self, start: int, end: int) -> Array:
        return self._samples[start - self._first : end - self._first]

    def forget(self, before: int) -> None:
        """Release the samples before this one."""
        self._kept = max(self._kept, before)
