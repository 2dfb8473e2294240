"""Reduce channels to one: their mean, a given one, or the loudest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from audiotag.errors import AudioError

if TYPE_CHECKING:
    from tinyonnx.ir import Array

NAMES = {"first": 1, "left": 1, "right": 2}
"""Number of each channel that has a name, from 1."""

MAX_PEAK = 1e9
MAX_PLAUSIBLE_PEAK = 8.0
"""A peak above which samples are most likely not of full scale 1.0, but integers as floats."""

TOO_LOUD = "has samples far beyond full scale, which is 1.0 for floats: are they integers as floats?"
CANCELLED = "its channels cancel each other (opposite phase) from {} s on: tag one of them instead of their mean"

CANCELLING = 1e-3
"""Channels cancel if the power of their mean is at most this fraction of theirs."""

AUDIBLE = 1e-8
"""Power of sound that may cancel (-80 dB)."""

PART = 8
"""Cancellation is searched for in the first part of a block, this fraction of it."""

LOOK, ENOUGH = 10, 0.5
"""Interval in seconds between searches for cancellation, and the duration at its end that is examined."""


def parse_channel(text: str) -> str | int:
    """Return a `channel` argument written as text. Raises ValueError."""
    channel = int(text) if text.isascii() and text.isdigit() else text
    check_channel(channel)
    return channel


def check_channel(channel: str | int) -> None:
    """Raise ValueError for an invalid `channel`."""
    valid = channel >= 1 if isinstance(channel, int) else channel in ("mean", "loudest", *NAMES)
    if not valid:
        raise ValueError(f"channel must be mean, loudest, {', '.join(NAMES)} or a number from 1 on, is {channel!r}")


class Mixer:
    """Makes mono of blocks of one source.

    Args:
        channel: "mean"; "left", "right" or "first"; a number from 1 on; or "loudest": in every second the channel
            that had the greatest energy up to its end.
        name: the source's, for errors.
        notes: takes messages about samples that can't be right.

    Raises:
        ValueError: no such channel.
    """

    def __init__(self, channel: str | int, name: str, notes: list[str]) -> None:
        check_channel(channel)
        self._channel, self._name, self._notes = channel, name, notes
        # since the last search for cancellation: energy of the channels' mean, mean energy of the channels, frames
        self._mixed = self._each = 0.0
        self._frames = self._looks = 0
        self._rate = 1
        self._cancels = self._loud = False

    def mono(self, blocks: Iterator[tuple[int, Array]]) -> Iterator[tuple[int, Array]]:
        """Yield (n,) samples for (n, channels) blocks, each with its rate in Hz.

        Raises:
            AudioError: there is no such channel; the samples are not sound.
        """
        if self._channel == "loudest":
            blocks = self._loudest(blocks)
        for rate, block in blocks:
            with np.errstate(invalid="ignore", over="ignore"):
                samples = self._select(rate, block)
            if len(samples):
                self._check(samples)
            yield rate, samples
        self._look()

    def _select(self, rate: int, block: Array) -> Array:
        count = block.shape[1]
        if count == 1 and not isinstance(self._channel, int):
            return block[:, 0]
        if self._channel != "mean":
            number = NAMES.get(self._channel, 1) if isinstance(self._channel, str) else self._channel
            if number > count:
                raise AudioError(self._name, f"has {count} channel{'s' * (count > 1)}, no channel {number}")
            return block[:, number - 1]
        mixed = _average(block)
        at, span, self._rate = 0, LOOK * int(rate), int(rate)
        while at < len(block):
            if self._frames >= span:
                self._look()
            end = min(len(block), at + span - self._frames)
            heard = at + 1 + (end - at) // PART
            one, each = mixed[at:heard], block[at:heard]
            self._mixed += float(np.einsum("i,i->", one, one))
            self._each += float(np.einsum("ij,ij->", each, each)) / count
            self._frames += end - at
            at = end
        if self._frames >= span:
            self._look()
        return mixed

    def _look(self) -> None:
        """Note once if the channels have cancelled each other since the last call."""
        audible = self._frames >= ENOUGH * self._rate and self._each * PART > AUDIBLE * self._frames
        if not self._cancels and audible and self._mixed < CANCELLING * self._each:
            self._cancels = True
            self._notes.append(CANCELLED.format(self._looks * LOOK))
        self._looks += 1
        self._mixed = self._each = 0.0
        self._frames = 0

    def _check(self, samples: Array) -> None:
        peak = max(samples.max(), -samples.min())
        # written so that NaN fails it
        if not peak <= MAX_PEAK:
            raise AudioError(self._name, "has NaN, infinite or absurdly large samples")
        if peak > MAX_PLAUSIBLE_PEAK and not self._loud:
            self._loud = True
            self._notes.append(TOO_LOUD)

    def _loudest(self, blocks: Iterator[tuple[int, Array]]) -> Iterator[tuple[int, Array]]:
        """Reduce blocks to their loudest channel, decided every second."""
        energies = np.zeros(0)
        second: list[Array] = []
        length = last = 0
        for rate, block in blocks:
            if len(energies) != block.shape[1] or rate != last:
                if second:
                    yield last, _strongest(second, energies)
                energies, second, length, last = np.zeros(block.shape[1]), [], 0, rate
            while len(block):
                part, block = block[: rate - length], block[rate - length :]
                second.append(part)
                length += len(part)
                if length == rate:
                    yield rate, _strongest(second, energies)
                    second, length = [], 0
        if second:
            yield last, _strongest(second, energies)


def _strongest(parts: list[Array], energies: Array) -> Array:
    """Return the channel with the most energy so far, (n, 1), and update the `energies` of all channels."""
    block = np.concatenate(parts)
    with np.errstate(invalid="ignore", over="ignore"):
        energies += np.einsum("ij,ij->j", block, block, dtype=np.float64)
    best = int(np.argmax(energies))
    return block[:, best : best + 1]


def _average(block: Array) -> Array:
    """Return the mean of each row, as numpy computes it, but column by column, because numpy is slow for short rows."""
    if block.shape[1] >= 8:
        wide: Array = block.mean(axis=1, dtype=np.float32)
        return wide
    mean: Array = block[:, 0].copy()
    for channel in range(1, block.shape[1]):
        mean += block[:, channel]
    mean /= np.float32(block.shape[1])
    return mean
