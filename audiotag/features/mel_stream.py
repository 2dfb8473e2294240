"""Log-mel features of a clip in blocks: pre-emphasis across blocks, extension at both ends of the clip.

`y` contains the pre-emphasised samples that are still needed, at the start of a clip preceded by what
extends it, such as the reflection of the first half window. The features are identical bits, however a clip is split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audiotag.features.fft_kernel import LANES, Curve, Scratch, Tables, log_mel
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array

SAMPLES, FRAMES, _END, _NEXT, _REFLECTED, REGISTERS = range(6)
"""Registers of a stream: number of samples taken and of frames written; end of the samples in `y` and start of the next
frame; whether the start has been extended; number of registers."""

MORE, ALL, LAST = range(3)
"""Frames to write: those in complete groups, which is most efficient; all complete ones; all, ending the clip."""

_GROUPS = 4
"""Number of groups of frames that fit into `y`; small, so that it stays in the L1 or L2 cache."""

_1 = np.uint64(1)
_ZERO = np.float32(0)


def capacity(n_fft: int, hop: int) -> int:
    """Return the length of `y`: a few groups of frames, samples for the reflection at the end, and the last sample."""
    return n_fft + hop * LANES * (_GROUPS + 1) + n_fft // 2 + 2


class State(NamedTuple):
    """The state of a stream: registers, zero at its start, and `y`, the pre-emphasised samples still needed."""

    registers: Array
    y: Array


class Ends(NamedTuple):
    """The padding at the beginning and the end of a clip.

    `padding` samples are added at either end, zeros if `zeros` is 1, otherwise its reflection; the pre-emphasised clip
    is `lost` samples shorter than the clip, and padded with zeros to `least` samples.
    """

    padding: int
    least: int
    lost: int
    zeros: int


class FrontEnd(NamedTuple):
    """Parameters, tables and scratch memory of the front end.

    Features may not lie more than `below` under the greatest one of the clip, which takes the whole clip: the stream
    does not apply it.
    """

    preemphasis: Any
    ends: Ends
    curve: Curve
    below: Any
    tables: Tables
    scratch: Scratch


@kernel
def push(
    state: State, x: Array, what: int, out: Array, step: int, front: FrontEnd, part: int, parts: int
) -> None:  # fmt: skip
    """Take samples `x`; write frame t = registers[FRAMES], ... to column t of `out`, whose rows are `step` apart."""
    stream(state, x, what, out, step, front)


@jit
def stream(state: State, x: Array, what: int, out: Array, step: int, front: FrontEnd) -> None:
    """Do what `push` does; for calls by other kernels."""
    registers, y, preemphasis = state.registers, state.y, front.preemphasis
    n_fft, hop = front.tables.sizes.n_fft, front.tables.sizes.hop
    ends = front.ends
    if registers[SAMPLES] == 0:
        registers[_END] = ends.padding
    at = 0
    while True:
        at += append(registers, y, x, at, preemphasis, ends)
        if at == len(x) and what == LAST:
            end_clip(registers, y, preemphasis, ends)
        left = registers[_END] - registers[_NEXT] - n_fft
        frames = left // hop + 1 if registers[_REFLECTED] and left >= 0 else 0
        if what == MORE or at < len(x):
            frames = frames // LANES * LANES
        if frames > 0:
            used = y[registers[_NEXT] : registers[_END]]
            log_mel(used, out, registers[FRAMES], step, frames, front.curve, front.tables, front.scratch)
            registers[FRAMES] += frames
            registers[_NEXT] += frames * hop
        if at == len(x):
            break
        forget(registers, y, ends)


@jit
def append(registers: Array, y: Array, x: Array, at: int, preemphasis: Any, ends: Ends) -> int:
    """Append pre-emphasised samples x[at:] while there is space; return their number."""
    room = len(y) - 1 - ends.padding - registers[_END]
    count = min(len(x) - at, room)
    if count <= 0:
        return 0
    last, end = len(y) - 1, registers[_END]
    if registers[SAMPLES] == 0:
        y[last] = _ZERO
    if registers[SAMPLES] > 0 or not ends.lost:
        y[end] = x[at] - preemphasis * y[last]
        end += 1
    o, i = np.uint64(end) - _1, np.uint64(at)
    for j in range(_1, np.uint64(count)):
        y[o + j] = x[i + j] - preemphasis * x[i + j - _1]
    y[last] = x[at + count - 1]
    registers[SAMPLES] += count
    registers[_END] = end + count - 1
    begin_clip(registers, y, ends)
    return int(count)


@jit
def begin_clip(registers: Array, y: Array, ends: Ends) -> None:
    """Extend the clip at its start as soon as there are enough samples."""
    padding = ends.padding
    if not registers[_REFLECTED] and registers[_END] - padding >= ends.least:
        registers[_REFLECTED] = 1
        for k in range(padding):
            y[k] = _ZERO if ends.zeros else y[2 * padding - k]


@jit
def end_clip(registers: Array, y: Array, preemphasis: Any, ends: Ends) -> None:
    """Extend the clip at its end, after padding it with zeros if it is too short."""
    samples, end = registers[SAMPLES], registers[_END]
    if ends.lost and 0 < samples < ends.least + ends.lost:
        y[end] = -preemphasis * y[len(y) - 1]
        end += 1
    while end - ends.padding < ends.least and not registers[_REFLECTED]:
        y[end] = _ZERO
        end += 1
    registers[_END] = end
    begin_clip(registers, y, ends)
    for k in range(ends.padding):
        y[end + k] = _ZERO if ends.zeros else y[end - 2 - k]
    registers[_END] = end + ends.padding


@jit
def forget(registers: Array, y: Array, ends: Ends) -> None:
    """Remove samples that neither the next frame nor the reflection at the end needs."""
    dropped = min(registers[_NEXT], registers[_END] - ends.padding - 1)
    kept = registers[_END] - dropped
    for i in range(kept):
        y[i] = y[dropped + i]
    registers[_END] = kept
    registers[_NEXT] -= dropped
