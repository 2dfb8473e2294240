"""The kernel from the bytes of a file to mono samples at 32 kHz."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audiotag.standalone.control import (
    ACTION,
    ANALYSE,
    AT,
    BAD_SAMPLES,
    BEGUN,
    CHANNELS,
    CLOSE,
    COUNT,
    DECODE,
    EMPTY,
    ENCODING,
    END,
    ENDED,
    KERNEL,
    LAST,
    LEFT,
    MONO_AT,
    MONO_END,
    NO_FRAMES,
    NO_SAMPLES,
    NO_WAV,
    NOTHING,
    NUMBER,
    NUMBER_2,
    OPEN,
    PART_OF_FRAME,
    PROBLEM,
    RATE,
    RAW_CHANNELS,
    RAW_ENCODING,
    RAW_RATE,
    READ,
    READY,
    REPORT,
    RESULT,
    SAMPLES,
    STARTED,
    SYSTEM,
    TOTAL,
)
from audiotag.standalone.resampler import LARGEST, TARGET, accept, done, produce, start
from audiotag.standalone.samples import VALUES, average, convert, sound, width_of
from audiotag.standalone.wav import ENDLESS, begin, read
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array


@kernel
def decode(
    c: Array, settings: Array, data: Array, shorts: Array, ints: Array, floats: Array, doubles: Array, values: Array,
    mono: Array, r: Array, weights: Array, inputs: Array, curve: Array, zeros: Array, sums: Array, samples: Array,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Take what was read, put c[SAMPLES] samples in `samples`; ask for more, or for the analysis of these.

    `shorts` to `doubles` are `data` seen as numbers, from `r` to `sums` all is the resampler's.
    """
    opened = c[ACTION] != OPEN or c[RESULT] >= 0
    take_result(c, settings)
    c[KERNEL], c[ACTION] = DECODE, NOTHING
    if not c[READY] and not c[PROBLEM]:
        read(c, data)
        if c[ENDED] and not c[READY] and not c[PROBLEM]:
            c[PROBLEM] = EMPTY if not c[TOTAL] else NO_SAMPLES if c[BEGUN] else NO_WAV
    if c[READY] and not c[STARTED] and not c[PROBLEM]:
        c[STARTED] = 1
        start(r, c[RATE], weights, inputs, curve)
    while c[STARTED] and not c[LAST] and not c[PROBLEM] and c[SAMPLES] + LARGEST <= len(samples):
        if c[MONO_AT] == c[MONO_END] and not mix(c, data, shorts, ints, floats, doubles, values, mono):
            if not c[ENDED] and c[LEFT] >= frame_of(c):
                break
            end(c, settings)
            if c[RATE] != TARGET:
                c[SAMPLES] = produce(r, True, inputs, weights, zeros, sums, samples, c[SAMPLES])
            c[LAST] = int(c[RATE] == TARGET or done(r))
        elif c[RATE] == TARGET:
            pass_on(c, mono, samples)
        else:
            c[MONO_AT] += accept(r, mono, c[MONO_AT], c[MONO_END], inputs)
            c[SAMPLES] = produce(r, False, inputs, weights, zeros, sums, samples, c[SAMPLES])
    if c[LAST] or (c[PROBLEM] and opened):
        c[ACTION] = CLOSE
    if c[PROBLEM]:
        c[KERNEL] = REPORT
    elif c[SAMPLES] or c[LAST]:
        # before anything is read: that may take a while
        c[KERNEL] = ANALYSE
    else:
        move_to_front(c, data)
        c[ACTION], c[COUNT] = READ, c[END]


@jit
def take_result(c: Array, settings: Array) -> None:
    """What the glue did."""
    if c[ACTION] == OPEN:
        c[AT] = c[END] = c[TOTAL] = c[ENDED] = c[STARTED] = c[PROBLEM] = 0
        c[MONO_AT] = c[MONO_END] = c[SAMPLES] = c[LAST] = 0
        begin(c)
        if settings[RAW_ENCODING]:
            c[ENCODING], c[CHANNELS] = settings[RAW_ENCODING], settings[RAW_CHANNELS]
            c[RATE], c[LEFT], c[READY] = settings[RAW_RATE], ENDLESS, 1
    elif c[ACTION] == READ:
        if c[RESULT] > 0:
            c[END] += c[RESULT]
            c[TOTAL] += c[RESULT]
        elif c[RESULT] == 0:
            c[ENDED] = 1
    if c[ACTION] in (OPEN, READ) and c[RESULT] < 0:
        c[PROBLEM], c[NUMBER] = SYSTEM, -c[RESULT]


@jit
def frame_of(c: Array) -> int:
    """Bytes of a frame."""
    return int(width_of(c[ENCODING]) * c[CHANNELS])


@jit
def mix(
    c: Array, data: Array, shorts: Array, ints: Array, floats: Array, doubles: Array, values: Array, mono: Array
) -> bool:
    """Decode frames of what was read; whether there were any."""
    width, channels = width_of(c[ENCODING]), c[CHANNELS]
    frames = min(min(c[END] - c[AT], c[LEFT]) // (width * channels), VALUES // channels)
    if frames < 1:
        return False
    if width != 3 and c[AT] % width:
        move_to_front(c, data)
    at = c[AT]
    convert(
        c[ENCODING], frames * channels, data[at:], shorts[at // 2 :], ints[at // 4 :], floats[at // 4 :],
        doubles[at // 8 :], values,
    )  # fmt: skip
    average(values, channels, frames, mono)
    if not sound(mono, frames):
        c[PROBLEM] = BAD_SAMPLES
    c[AT] += frames * width * channels
    c[LEFT] -= frames * width * channels
    c[MONO_AT], c[MONO_END], c[STARTED] = 0, frames, 2
    return True


@jit
def end(c: Array, settings: Array) -> None:
    """No more frames: there must have been some, and of samples without a header nothing may be left."""
    if settings[RAW_ENCODING] and c[END] > c[AT]:
        c[PROBLEM], c[NUMBER], c[NUMBER_2] = PART_OF_FRAME, c[TOTAL], frame_of(c)
    elif not c[TOTAL]:
        c[PROBLEM] = EMPTY
    elif c[STARTED] == 1:
        c[PROBLEM] = NO_FRAMES


@jit
def pass_on(c: Array, mono: Array, samples: Array) -> None:
    """Samples that have the right rate."""
    count = np.uint64(min(c[MONO_END] - c[MONO_AT], len(samples) - c[SAMPLES]))
    i, o = np.uint64(c[MONO_AT]), np.uint64(c[SAMPLES])
    for j in range(count):
        samples[o + j] = mono[i + j]
    c[MONO_AT] += count
    c[SAMPLES] += count


@jit
def move_to_front(c: Array, data: Array) -> None:
    """What is still to be read."""
    at, count = np.uint64(c[AT]), np.uint64(c[END] - c[AT])
    for i in range(count):
        data[i] = data[at + i]
    c[AT], c[END] = 0, count
