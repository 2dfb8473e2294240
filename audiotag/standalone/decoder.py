"""The kernel from the bytes of a file to mono samples at 32 kHz."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audiotag.sound.channels import AUDIBLE, CANCELLING, ENOUGH, LOOK, MAX_PEAK, MAX_PLAUSIBLE_PEAK
from audiotag.standalone import registers as reg
from audiotag.standalone import settings as setting
from audiotag.standalone.control import (
    ANALYSE,
    BAD_SAMPLES,
    CANCELLED,
    CLOSE,
    DECODE,
    EMPTY,
    ENDS_EARLY,
    LOUD,
    NO_FRAMES,
    NO_SAMPLES,
    NO_WAV,
    NOTHING,
    OPEN,
    PART_OF_FRAME,
    READ,
    REPORT,
    SYSTEM,
)
from audiotag.standalone.records import Input, Resampler, Shared
from audiotag.standalone.resampler import LARGEST, TARGET, accept, done, produce, start
from audiotag.standalone.samples import VALUES, average, convert, peak_of, width_of
from audiotag.standalone.wav import ENDLESS, MORE, OVER, RUNS, begin, follow, read
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_STEP = 8
_MOST, _LOUD = np.float32(MAX_PEAK), np.float32(MAX_PLAUSIBLE_PEAK)


@kernel
def decode(
    shared: Shared, source: Input, values: Array, mono: Array, resampler: Resampler, samples: Array,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Decode the bytes that were read into `samples`; request more bytes, or the analysis of the samples."""
    c, settings, reals, data = shared.control, shared.settings, shared.reals, source.data
    r, weights, inputs = resampler.registers, resampler.weights, resampler.inputs
    zeros, sums = resampler.zeros, resampler.sums
    opened = c[reg.ACTION] != OPEN or c[reg.RESULT] >= 0
    take_result(c, settings)
    c[reg.KERNEL], c[reg.ACTION] = DECODE, NOTHING
    if not c[reg.HEADER_DONE] and not c[reg.PROBLEM]:
        read(c, data)
        if c[reg.INPUT_ENDED] and not c[reg.HEADER_DONE] and not c[reg.PROBLEM]:
            c[reg.PROBLEM] = EMPTY if not c[reg.INPUT_BYTES] else NO_SAMPLES if c[reg.HEADER_STARTED] else NO_WAV
    if c[reg.HEADER_DONE] and not c[reg.DECODING] and not c[reg.PROBLEM]:
        c[reg.DECODING] = 1
        start(r, c[reg.RATE], weights, inputs, resampler.curve)
    while c[reg.DECODING] and not c[reg.LAST] and not c[reg.PROBLEM] and c[reg.SAMPLES] + LARGEST <= len(samples):
        waiting = c[reg.MONO_START] < c[reg.MONO_END]
        if not waiting and not mix(c, reals, source, values, mono):
            following = OVER
            if c[reg.DATA_LEFT] < frame_of(c):
                following = follow(c, data)
            elif not c[reg.INPUT_ENDED]:
                following = MORE
            if following == MORE:
                break
            if following == RUNS:
                continue
            end(c, settings, reals)
            if c[reg.RATE] != TARGET:
                c[reg.SAMPLES] = produce(r, True, inputs, weights, zeros, sums, samples, c[reg.SAMPLES])
            c[reg.LAST] = int(c[reg.RATE] == TARGET or done(r))
        elif c[reg.RATE] == TARGET:
            pass_on(c, mono, samples)
        else:
            c[reg.MONO_START] += accept(r, mono, c[reg.MONO_START], c[reg.MONO_END], inputs)
            c[reg.SAMPLES] = produce(r, False, inputs, weights, zeros, sums, samples, c[reg.SAMPLES])
    if c[reg.LAST] or (c[reg.PROBLEM] and opened):
        c[reg.ACTION] = CLOSE
    if c[reg.PROBLEM]:
        c[reg.KERNEL] = REPORT
    elif c[reg.SAMPLES] or c[reg.LAST]:
        # analyse before reading more, which may block
        c[reg.KERNEL] = ANALYSE
    else:
        move_to_front(c, data)
        c[reg.ACTION], c[reg.COUNT] = READ, c[reg.INPUT_END]


@jit
def take_result(c: Array, settings: Array) -> None:
    """Handle the result of the glue's action."""
    if c[reg.ACTION] == OPEN:
        c[reg.INPUT_START] = c[reg.INPUT_END] = c[reg.INPUT_BYTES] = c[reg.INPUT_ENDED] = c[reg.DECODING] = c[
            reg.PROBLEM
        ] = 0
        c[reg.MONO_START] = c[reg.MONO_END] = c[reg.SAMPLES] = c[reg.LAST] = 0
        begin(c)
        if settings[setting.RAW_ENCODING]:
            c[reg.ENCODING], c[reg.CHANNELS] = settings[setting.RAW_ENCODING], settings[setting.RAW_CHANNELS]
            c[reg.RATE], c[reg.DATA_LEFT], c[reg.HEADER_DONE] = settings[setting.RAW_RATE], ENDLESS, 1
    elif c[reg.ACTION] == READ:
        if c[reg.RESULT] > 0:
            c[reg.INPUT_END] += c[reg.RESULT]
            c[reg.INPUT_BYTES] += c[reg.RESULT]
        elif c[reg.RESULT] == 0:
            c[reg.INPUT_ENDED] = 1
    if c[reg.ACTION] in (OPEN, READ) and c[reg.RESULT] < 0:
        c[reg.PROBLEM], c[reg.NUMBER] = SYSTEM, -c[reg.RESULT]


@jit
def frame_of(c: Array) -> int:
    """Size of a frame in bytes."""
    return int(width_of(c[reg.ENCODING]) * c[reg.CHANNELS])


@jit
def mix(c: Array, reals: Array, source: Input, values: Array, mono: Array) -> bool:
    """Decode unread frames to mono; return whether there were any."""
    data = source.data
    width, channels = width_of(c[reg.ENCODING]), c[reg.CHANNELS]
    frames = min(min(c[reg.INPUT_END] - c[reg.INPUT_START], c[reg.DATA_LEFT]) // (width * channels), VALUES // channels)
    if frames < 1:
        return False
    if width != 3 and c[reg.INPUT_START] % width:
        move_to_front(c, data)
    at = c[reg.INPUT_START]
    convert(
        c[reg.ENCODING], frames * channels, data[at:], source.shorts[at // 2 :], source.ints[at // 4 :],
        source.floats[at // 4 :], source.doubles[at // 8 :], values,
    )  # fmt: skip
    average(values, channels, frames, mono)
    peak = peak_of(mono, frames)
    if not peak <= _MOST:
        c[reg.PROBLEM] = BAD_SAMPLES
    elif peak > _LOUD:
        c[reg.WARNINGS] |= LOUD & ~c[reg.WARNED]
    if channels > 1:
        note_cancellation(c, reals, values, mono, frames)
    c[reg.DECODED_FRAMES] += frames
    c[reg.INPUT_START] += frames * width * channels
    c[reg.DATA_LEFT] -= frames * width * channels
    c[reg.MONO_START], c[reg.MONO_END], c[reg.DECODING] = 0, frames, 2
    return True


@jit
def note_cancellation(c: Array, reals: Array, values: Array, mono: Array, frames: int) -> None:
    """Add the energies of every eighth frame, and look for cancellation at regular times."""
    channels = c[reg.CHANNELS]
    mixed, each = 0.0, 0.0
    for i in range(0, frames, _STEP):
        mixed += np.float64(mono[i]) * np.float64(mono[i])
        for j in range(i * channels, (i + 1) * channels):
            each += np.float64(values[j]) * np.float64(values[j])
    reals[setting.MIXED_ENERGY] += _STEP * mixed
    reals[setting.CHANNEL_ENERGY] += _STEP * each / channels
    c[reg.MIXED_FRAMES] += frames
    if c[reg.MIXED_FRAMES] >= LOOK * c[reg.RATE]:
        look(c, reals)


@jit
def look(c: Array, reals: Array) -> None:
    """Warn once if the channels cancelled each other since the last look."""
    mixed, each = reals[setting.MIXED_ENERGY], reals[setting.CHANNEL_ENERGY]
    enough = c[reg.MIXED_FRAMES] >= ENOUGH * c[reg.RATE]
    if enough and each > AUDIBLE * c[reg.MIXED_FRAMES] and mixed < CANCELLING * each:
        if not (c[reg.WARNED] | c[reg.WARNINGS]) & CANCELLED:
            c[reg.CANCELLED_AT] = LOOK * c[reg.LOOKS]
        c[reg.WARNINGS] |= CANCELLED & ~c[reg.WARNED]
    c[reg.LOOKS] += 1
    c[reg.MIXED_FRAMES] = 0
    reals[setting.MIXED_ENERGY] = reals[setting.CHANNEL_ENERGY] = 0.0


@jit
def end(c: Array, settings: Array, reals: Array) -> None:
    """Check that there were frames and that, at the end, none is missing or incomplete."""
    look(c, reals)
    if c[reg.RUN_PROMISED] and c[reg.DATA_LEFT] >= frame_of(c):
        c[reg.WARNINGS] |= ENDS_EARLY
    if settings[setting.RAW_ENCODING] and c[reg.INPUT_END] > c[reg.INPUT_START]:
        c[reg.PROBLEM], c[reg.NUMBER], c[reg.NUMBER_2] = PART_OF_FRAME, c[reg.INPUT_BYTES], frame_of(c)
    elif not c[reg.INPUT_BYTES]:
        c[reg.PROBLEM] = EMPTY
    elif c[reg.DECODING] == 1:
        c[reg.PROBLEM] = NO_FRAMES


@jit
def pass_on(c: Array, mono: Array, samples: Array) -> None:
    """Copy mono samples that need no resampling to the output."""
    count = np.uint64(min(c[reg.MONO_END] - c[reg.MONO_START], len(samples) - c[reg.SAMPLES]))
    i, o = np.uint64(c[reg.MONO_START]), np.uint64(c[reg.SAMPLES])
    for j in range(count):
        samples[o + j] = mono[i + j]
    c[reg.MONO_START] += count
    c[reg.SAMPLES] += count


@jit
def move_to_front(c: Array, data: Array) -> None:
    """Move the unread bytes to the beginning of `data`."""
    at, count = np.uint64(c[reg.INPUT_START]), np.uint64(c[reg.INPUT_END] - c[reg.INPUT_START])
    for i in range(count):
        data[i] = data[at + i]
    c[reg.INPUT_START], c[reg.INPUT_END] = 0, count
