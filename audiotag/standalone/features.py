"""The kernel from samples to the log-mel features of a clip, or of each of its windows in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.features import mel_stream
from audiotag.features.mel import DEFAULT
from audiotag.features.mel_stream import Ends, FrontEnd, State, stream
from audiotag.sound.windows import MAX_REMAINDER, SHORTEST
from audiotag.standalone import registers as reg
from audiotag.standalone import settings as setting
from audiotag.standalone.control import ARRANGE, CLOSE, DECODE, DOUBTFUL, MODEL, NOTHING, REPORT, SHORT, TOO_LONG
from audiotag.standalone.records import Shared
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_RATE = DEFAULT.rate
_FAR = 1e18
"""More samples than any clip has."""

_MORE, _LAST, _FRAMES = mel_stream.MORE, mel_stream.LAST, mel_stream.FRAMES


@kernel
def analyse(
    shared: Shared, samples: Array, tape: Array, features: Array, state: State, front: FrontEnd, part: int, parts: int
) -> None:  # fmt: skip
    """Take c[reg.SAMPLES] samples; request more of them, or a run of the model on `features`.

    `tape` is longer than the longest window.
    """
    mels, n_fft, mel_hop = front.tables.sizes.n_mels, front.tables.sizes.n_fft, front.tables.sizes.hop
    c, settings, reals, registers = shared.control, shared.settings, shared.reals, state.registers
    c[reg.KERNEL], c[reg.ACTION] = DECODE, NOTHING
    size = settings[setting.WINDOW]
    if not size:
        most = len(features) // mels
        heard = c[reg.CLIP_SAMPLES] + c[reg.SAMPLES]
        if frames_of(heard, n_fft, mel_hop, front.ends) > most:
            c[reg.PROBLEM], c[reg.KERNEL] = TOO_LONG, REPORT
            if not c[reg.LAST]:
                c[reg.ACTION] = CLOSE
            return
        if c[reg.CLIP_SAMPLES] == 0:
            registers[:] = 0
        what = _LAST if c[reg.LAST] else _MORE
        stream(state, samples[: c[reg.SAMPLES]], what, features, most, front)
        c[reg.CLIP_SAMPLES], c[reg.SAMPLES] = heard, 0
        if c[reg.LAST]:
            c[reg.FRAMES] = registers[_FRAMES]
            compact(features, mels, c[reg.FRAMES], most)
            limit(features[: mels * c[reg.FRAMES]], front.below)
            c[reg.PART_START], c[reg.PART_END] = 0, heard
            note_length(c)
            c[reg.ACTION], c[reg.KERNEL] = MODEL, REPORT
        return
    if next_window(c, settings, reals, samples, tape):
        begin, end = c[reg.PART_START] - c[reg.TAPE_START], c[reg.PART_END] - c[reg.TAPE_START]
        registers[:] = 0
        c[reg.FRAMES] = frames_of(end - begin, n_fft, mel_hop, front.ends)
        stream(state, tape[begin:end], _LAST, features, c[reg.FRAMES], front)
        limit(features[: mels * c[reg.FRAMES]], front.below)
        c[reg.ACTION], c[reg.KERNEL] = MODEL, REPORT
    elif c[reg.LAST] and c[reg.WARNINGS]:
        c[reg.PROBLEM], c[reg.KERNEL] = DOUBTFUL, REPORT
    elif c[reg.LAST]:
        c[reg.KERNEL] = ARRANGE


@jit
def note_length(c: Array) -> None:
    """Warn of a clip that is too short to judge."""
    if c[reg.PART_END] - c[reg.PART_START] < SHORTEST * _RATE:
        c[reg.WARNINGS] |= SHORT


@jit
def frames_of(samples: int, n_fft: int, hop: int, ends: Ends) -> int:
    """Number of frames of a clip, as `MelConfig.n_frames`."""
    return 1 + (max(samples, ends.least + ends.lost) - ends.lost + 2 * ends.padding - n_fft) // hop


@jit
def limit(features: Array, below: Any) -> None:
    """Raise features to the greatest less `below`, as `mel.limit`."""
    if below == np.inf or len(features) == 0:
        return
    greatest = features[0]
    for i in range(np.uint64(len(features))):
        greatest = max(greatest, features[i])
    floor = np.float32(greatest - below)
    for i in range(np.uint64(len(features))):
        features[i] = max(features[i], floor)


@jit
def compact(features: Array, mels: int, frames: int, step: int) -> None:
    """Move feature rows that are `step` apart directly behind each other."""
    for m in range(1, mels):
        o, i = np.uint64(m * frames), np.uint64(m * step)
        for t in range(np.uint64(frames)):
            features[o + t] = features[i + t]


@jit
def start_of(k: int, hop: Any) -> int:
    """First sample of window k, as `windows.Grid.start`: round(k * hop * 32000), halves to even."""
    place = min(k * hop * _RATE, _FAR)
    whole = int(place)
    rest = place - whole
    if rest > 0.5 or (rest == 0.5 and whole & 1):
        whole += 1
    return whole


@jit
def next_window(c: Array, settings: Array, reals: Array, samples: Array, tape: Array) -> bool:
    """Set PART_START and PART_END to the next window if it is complete; return whether it is."""
    size = settings[setting.WINDOW]
    start = start_of(c[reg.WINDOW_COUNT], reals[setting.HOP])
    remainder = int(min(MAX_REMAINDER, reals[setting.WINDOW_SECONDS] / 20) * _RATE)
    taken = 0
    while taken < c[reg.SAMPLES] and c[reg.CLIP_SAMPLES] < start + size:
        if c[reg.TAPE_SAMPLES] == len(tape):
            # no later window starts more than one window length before the end
            keep_last(c, tape, size)
        count = min(min(c[reg.SAMPLES] - taken, len(tape) - c[reg.TAPE_SAMPLES]), start + size - c[reg.CLIP_SAMPLES])
        i, o = np.uint64(taken), np.uint64(c[reg.TAPE_SAMPLES])
        for j in range(np.uint64(count)):
            tape[o + j] = samples[i + j]
        taken += count
        c[reg.TAPE_SAMPLES] += count
        c[reg.CLIP_SAMPLES] += count
    i = np.uint64(taken)
    for j in range(np.uint64(c[reg.SAMPLES] - taken)):
        samples[j] = samples[i + j]
    c[reg.SAMPLES] -= taken
    if c[reg.CLIP_SAMPLES] >= start + size:
        c[reg.PART_START], c[reg.PART_END] = start, start + size
    elif c[reg.LAST] and (c[reg.WINDOW_COUNT] == 0 or c[reg.CLIP_SAMPLES] - max(c[reg.COVERED_END], start) > remainder):
        c[reg.PART_START], c[reg.PART_END] = max(c[reg.CLIP_SAMPLES] - size, 0), c[reg.CLIP_SAMPLES]
        if c[reg.CLIP_SAMPLES] < size:
            note_length(c)
    else:
        return False
    c[reg.WINDOW_COUNT] += 1
    c[reg.COVERED_END] = c[reg.PART_END]
    return True


@jit
def keep_last(c: Array, tape: Array, size: int) -> None:
    """Remove all samples from the tape except the last window."""
    dropped = c[reg.TAPE_SAMPLES] - size
    i = np.uint64(dropped)
    for j in range(np.uint64(size)):
        tape[j] = tape[i + j]
    c[reg.TAPE_SAMPLES] = size
    c[reg.TAPE_START] += dropped
