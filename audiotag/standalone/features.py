"""The kernel from samples to the log-mel features of a clip or, one after the other, of its windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.features import mel_stream
from audiotag.features.mel import DEFAULT
from audiotag.features.mel_stream import stream
from audiotag.standalone.control import (
    ACTION,
    ARRANGE,
    CLOSE,
    COVERED,
    DECODE,
    FRAMES,
    HEARD,
    HOP,
    KERNEL,
    LAST,
    MODEL,
    NOTHING,
    PART_END,
    PART_START,
    PROBLEM,
    REPORT,
    SAMPLES,
    TAPE_START,
    TAPED,
    TOO_LONG,
    WINDOW,
    WINDOWS,
)
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_RATE, _MELS, _FFT, _MEL_HOP = DEFAULT.sample_rate, DEFAULT.n_mels, DEFAULT.n_fft, DEFAULT.hop_length
_PREEMPHASIS, _OFFSET = np.float32(DEFAULT.preemphasis), np.float32(DEFAULT.log_offset)
_FAR = 1e18
"""Samples that no clip has."""

_MORE, _LAST, _FRAMES = mel_stream.MORE, mel_stream.LAST, mel_stream.FRAMES


@kernel
def analyse(
    c: Array, settings: Array, reals: Array, samples: Array, tape: Array, features: Array, registers: Array, y: Array,
    sizes: tuple[int, int, int, int, int], numbers: Array, indices: Array, slab: Array, spectrum: Array, other: Array,
    mel: Array, bits: Array, exponents: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Take c[SAMPLES] samples; ask for more, or for a run of the model on `features`.

    `tape` is longer than the longest window; `registers` to `exponents` are the mel stream's.
    """
    c[KERNEL], c[ACTION] = DECODE, NOTHING
    size = settings[WINDOW]
    if not size:
        most = len(features) // _MELS
        heard = c[HEARD] + c[SAMPLES]
        if frames_of(heard) > most:
            c[PROBLEM], c[KERNEL] = TOO_LONG, REPORT
            if not c[LAST]:
                c[ACTION] = CLOSE
            return
        if c[HEARD] == 0:
            registers[:] = 0
        stream(registers, y, samples[: c[SAMPLES]], _LAST if c[LAST] else _MORE, features, most, _PREEMPHASIS, _OFFSET,
               sizes, numbers, indices, slab, spectrum, other, mel, bits, exponents)  # fmt: skip
        c[HEARD], c[SAMPLES] = heard, 0
        if c[LAST]:
            c[FRAMES] = registers[_FRAMES]
            compact(features, c[FRAMES], most)
            c[PART_START], c[PART_END] = 0, heard
            c[ACTION], c[KERNEL] = MODEL, REPORT
        return
    if next_window(c, settings, reals, samples, tape):
        begin, end = c[PART_START] - c[TAPE_START], c[PART_END] - c[TAPE_START]
        registers[:] = 0
        c[FRAMES] = frames_of(end - begin)
        stream(registers, y, tape[begin:end], _LAST, features, c[FRAMES], _PREEMPHASIS, _OFFSET,
               sizes, numbers, indices, slab, spectrum, other, mel, bits, exponents)  # fmt: skip
        c[ACTION], c[KERNEL] = MODEL, REPORT
    elif c[LAST]:
        c[KERNEL] = ARRANGE


@jit
def frames_of(samples: int) -> int:
    """Frames of a clip, as `MelConfig.n_frames`."""
    return 1 + (max(samples, _FFT // 2 + 2) - 1) // _MEL_HOP


@jit
def compact(features: Array, frames: int, step: int) -> None:
    """Move rows that are `step` apart together."""
    for m in range(1, _MELS):
        o, i = np.uint64(m * frames), np.uint64(m * step)
        for t in range(np.uint64(frames)):
            features[o + t] = features[i + t]


@jit
def start_of(k: int, hop: Any) -> int:
    """The k-th window's first sample, as `windows.Grid.start`: round(k * hop * 32000), halves to even."""
    place = min(k * hop * _RATE, _FAR)
    whole = int(place)
    rest = place - whole
    if rest > 0.5 or (rest == 0.5 and whole & 1):
        whole += 1
    return whole


@jit
def next_window(c: Array, settings: Array, reals: Array, samples: Array, tape: Array) -> bool:
    """Go on to the next window that is complete: PART_START to PART_END; whether there is one."""
    size = settings[WINDOW]
    start = start_of(c[WINDOWS], reals[HOP])
    taken = 0
    while taken < c[SAMPLES] and c[HEARD] < start + size:
        if c[TAPED] == len(tape):
            # a window may begin later, but one at the end of the clip not earlier
            keep_last(c, tape, size)
        count = min(min(c[SAMPLES] - taken, len(tape) - c[TAPED]), start + size - c[HEARD])
        i, o = np.uint64(taken), np.uint64(c[TAPED])
        for j in range(np.uint64(count)):
            tape[o + j] = samples[i + j]
        taken += count
        c[TAPED] += count
        c[HEARD] += count
    i = np.uint64(taken)
    for j in range(np.uint64(c[SAMPLES] - taken)):
        samples[j] = samples[i + j]
    c[SAMPLES] -= taken
    if c[HEARD] >= start + size:
        c[PART_START], c[PART_END] = start, start + size
    elif c[LAST] and (c[WINDOWS] == 0 or c[COVERED] < c[HEARD] > start):
        c[PART_START], c[PART_END] = max(c[HEARD] - size, 0), c[HEARD]
    else:
        return False
    c[WINDOWS] += 1
    c[COVERED] = c[PART_END]
    return True


@jit
def keep_last(c: Array, tape: Array, size: int) -> None:
    """Forget what is older than one window."""
    dropped = c[TAPED] - size
    i = np.uint64(dropped)
    for j in range(np.uint64(size)):
        tape[j] = tape[i + j]
    c[TAPED] = size
    c[TAPE_START] += dropped
