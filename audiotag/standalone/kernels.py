"""The kernels that the C front end calls: from bytes to samples at the model's rate, to its input, and to tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audiotag.features import mel_stream
from audiotag.features.mel_stream import FrontEnd, State, stream
from audiotag.standalone import registers as reg
from audiotag.standalone.resampler import accept, done, produce, start
from audiotag.standalone.samples import average, convert, peak_of
from audiotag.standalone.scores import probabilities, rank
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_STEP = 8
_MORE, _LAST, _FRAMES = mel_stream.MORE, mel_stream.LAST, mel_stream.FRAMES


class Input(NamedTuple):
    """The bytes that were read, and views of the same memory as numbers."""

    data: Array
    shorts: Array
    ints: Array
    floats: Array
    doubles: Array


class Resampler(NamedTuple):
    """The output rate, registers and memory of `resampler`; `curve` and `zeros` are constants."""

    rate: int
    registers: Array
    weights: Array
    inputs: Array
    curve: Array
    zeros: Array
    sums: Array


@kernel
def mix(n: Array, reals: Array, source: Input, values: Array, mono: Array, part: int, parts: int) -> None:
    """Decode FRAMES frames from byte START on, a multiple of a sample's width, to `mono`; measure peak and energies.

    `values` has room for them. Energies, of more than one channel, are those of every eighth frame.
    """
    channels, frames, at = n[reg.CHANNELS], n[reg.FRAMES], n[reg.START]
    convert(
        n[reg.ENCODING], frames * channels, source.data[at:], source.shorts[at // 2 :], source.ints[at // 4 :],
        source.floats[at // 4 :], source.doubles[at // 8 :], values,
    )  # fmt: skip
    average(values, channels, frames, mono)
    reals[reg.PEAK] = peak_of(mono, frames)
    mixed, each = 0.0, 0.0
    if channels > 1:
        for i in range(0, frames, _STEP):
            mixed += np.float64(mono[i]) * np.float64(mono[i])
            for j in range(i * channels, (i + 1) * channels):
                each += np.float64(values[j]) * np.float64(values[j])
    reals[reg.MIXED_ENERGY] = _STEP * mixed
    reals[reg.CHANNEL_ENERGY] = _STEP * each / channels


@kernel
def resample(n: Array, resampler: Resampler, mono: Array, samples: Array, part: int, parts: int) -> None:
    """Resample mono[START:END] to samples[COUNT:] as far as there is room; advance START and COUNT.

    With FIRST a clip begins; with LAST there are no more inputs, and RESULT is whether all outputs are there.
    """
    r, weights, inputs = resampler.registers, resampler.weights, resampler.inputs
    if n[reg.RATE] == resampler.rate:
        pass_on(n, mono, samples)
        n[reg.RESULT] = 1
        return
    if n[reg.FIRST]:
        start(r, n[reg.RATE], resampler.rate, weights, inputs, resampler.curve)
    n[reg.START] += accept(r, mono, n[reg.START], n[reg.END], inputs)
    last = n[reg.LAST] != 0
    n[reg.COUNT] = produce(r, last, inputs, weights, resampler.zeros, resampler.sums, samples, n[reg.COUNT])
    n[reg.RESULT] = int(done(r))


@jit
def pass_on(n: Array, mono: Array, samples: Array) -> None:
    """Copy mono samples that need no resampling to the output."""
    count = np.uint64(min(n[reg.END] - n[reg.START], len(samples) - n[reg.COUNT]))
    i, o = np.uint64(n[reg.START]), np.uint64(n[reg.COUNT])
    for j in range(count):
        samples[o + j] = mono[i + j]
    n[reg.START] += count
    n[reg.COUNT] += count


@kernel
def analyse(
    n: Array, samples: Array, features: Array, silence: Array, state: State, front: FrontEnd, part: int, parts: int
) -> None:  # fmt: skip
    """Take samples[START:END] of a clip; with LAST, FRAMES frames of its features lie at the start of `features`.

    With FIRST a clip begins. Rows are STEP apart until the clip ends, with ZEROS samples of silence.
    """
    registers, mels = state.registers, front.tables.sizes.n_mels
    if n[reg.FIRST]:
        registers[:] = 0
    stream(state, samples[n[reg.START] : n[reg.END]], _MORE, features, n[reg.STEP], front)
    for at in range(0, n[reg.ZEROS], len(silence)):
        stream(state, silence[: n[reg.ZEROS] - at], _MORE, features, n[reg.STEP], front)
    if n[reg.LAST]:
        stream(state, silence[:0], _LAST, features, n[reg.STEP], front)
    n[reg.FRAMES] = registers[_FRAMES]
    if n[reg.LAST]:
        if n[reg.FRAMES] < n[reg.STEP]:
            compact(features, mels, n[reg.FRAMES], n[reg.STEP])
        limit(features[: mels * n[reg.FRAMES]], front.below)


@kernel
def collect(n: Array, samples: Array, features: Array, state: State, part: int, parts: int) -> None:
    """Take samples[START:END] of a clip as `analyse` does, for a model of waveforms: each is a frame."""
    registers = state.registers
    if n[reg.FIRST]:
        registers[_FRAMES] = 0
    i, o = np.uint64(n[reg.START]), np.uint64(registers[_FRAMES])
    count = np.uint64(n[reg.END] - n[reg.START])
    for j in range(count):
        features[o + j] = samples[i + j]
    for j in range(np.uint64(n[reg.ZEROS])):
        features[o + count + j] = np.float32(0)
    registers[_FRAMES] += n[reg.END] - n[reg.START] + n[reg.ZEROS]
    n[reg.FRAMES] = registers[_FRAMES]


@jit
def limit(features: Array, below: Any) -> None:
    """Raise features to the greatest one minus `below`, as `mel.limit` does."""
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
    """Move feature rows that are `step` apart next to each other."""
    for m in range(1, mels):
        o, i = np.uint64(m * frames), np.uint64(m * step)
        for t in range(np.uint64(frames)):
            features[o + t] = features[i + t]


@kernel
def choose(
    n: Array, reals: Array, logits: Array, scores: Array, sums: Array, order: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Set `scores` to those of all classes and `order` to the tags; RESULT is their number, -1 without valid scores.

    With PIECES, which counts the pieces of a clip so far, scores are the mean of those of all pieces.
    """
    pieces = n[reg.PIECES]
    if not probabilities(logits, n[reg.PROBABILITIES], scores):
        n[reg.RESULT] = -1
        return
    if pieces > 0:
        for i in range(len(scores)):
            sums[i] = scores[i] + (sums[i] if pieces > 1 else 0.0)
            scores[i] = sums[i] / pieces
    n[reg.RESULT] = rank(scores, n[reg.TOP], reals[reg.THRESHOLD], order)
