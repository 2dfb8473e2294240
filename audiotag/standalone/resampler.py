"""Resampler from any rate to that of a model: a windowed-sinc filter in polyphase form, block by block.

With L/M the ratio of the rates in lowest terms, output m is the convolution of the input at position
m · M/L with h(u) = c·sinc(c·u)·Kaiser(u), u in samples of the lower rate. The passband ends at 0.913
of the lower Nyquist frequency; the stopband of -126 dB begins at the Nyquist frequency, as with
soxr's quality HQ.

Outputs at a distance of `P`, a multiple of L, have the same weights. These form a matrix [inputs, P];
input ranges at a distance of `Q` = P·M/L are the rows of another matrix, and their product is the
output. If L is large (44056 Hz: 4000), the weights are interpolated between four phases of a filter
with fewer phases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.sound.audio import MAX_RATE
from tinyonnx import jit
from tinyonnx.codegen.primitives import LANES, LINEAR, ROWS_1, Block, Epilogue, Lines, Rows, Taps, Weights, gemm_tile

if TYPE_CHECKING:
    from tinyonnx.ir import Array

PASSBAND = 0.913
"""End of the passband as a fraction of the lower Nyquist frequency."""

ATTENUATION = 126.0
"""Attenuation of the stopband in dB."""

DENSITY = 128
"""Points of the prototype filter per sample; cubic interpolation between them has an error of 1e-8."""

HALF_WIDTH = 94
"""Half the filter length in samples for this transition band: (A - 7.95) / (2.285 Δω) / 2, Kaiser 1974."""

RATE, _TARGET, _L, _M, _PERIOD, _STEP, _HALF, _DEPTH, _BEGIN, _END, _SEEN, _GIVEN, _PHASE, REGISTERS = range(14)
"""Registers: input and output rate of the weights; L; M; P (0: interpolate); Q, or the number of phases; half the
filter length; rows of the weights; begin and end of the used range of `inputs`; numbers of inputs and outputs so far;
position of the next output between two inputs in units of 1/L (when interpolating)."""

_WEIGHTS = 400_000
"""Maximum number of weights that are not interpolated."""

_MAX_STEP = _WEIGHTS // (2 * HALF_WIDTH)

LARGEST = 16 * _MAX_STEP
"""Maximum number of outputs produced at once, the space that `produce` needs."""

SUMS = 16
"""Length of `sums`; a constant, so that the compiler can vectorise."""

_0, _1, _2, _3, _4, _SUMS = (np.uint64(n) for n in (0, 1, 2, 3, 4, SUMS))
_ZERO = np.float32(0)


def lengths(target: int) -> tuple[int, int]:
    """Return the lengths of `weights` and `inputs` that suffice for any input rate, with space for more inputs."""
    depth = (2 * HALF_WIDTH + 96) * max(1, MAX_RATE // target + 1)
    return max(_WEIGHTS, 5 * depth + 40_000), 16 * _MAX_STEP + 2 * depth + (1 << 14)


def prototype() -> Array:
    """Return the prototype filter h(k / DENSITY), float64, for k = -1, 0, ... until it is zero."""
    u = np.arange(-1, HALF_WIDTH * DENSITY + 4) / DENSITY
    cutoff = (1 + PASSBAND) / 2
    beta = 0.1102 * (ATTENUATION - 8.7)
    window = np.i0(beta * np.sqrt(np.maximum(0, 1 - (u / HALF_WIDTH) ** 2))) / np.i0(beta)
    values: Array = np.where(np.abs(u) <= HALF_WIDTH, cutoff * np.sinc(cutoff * u) * window, 0)
    return values


@jit
def outputs_of(n: int, rate: int, target: int) -> int:
    """Return the number of outputs for `n` inputs, rounded as in soxr."""
    return (2 * n * target + rate) // (2 * rate)


@jit
def at(u: Any, curve: Array) -> Any:
    """Return the prototype filter at |u|, by cubic interpolation of four points."""
    place = abs(u) * DENSITY
    i = int(place)
    if i + 3 >= len(curve):
        return 0.0
    t = place - i
    a, b, c, d = curve[i], curve[i + 1], curve[i + 2], curve[i + 3]
    return b + t * (c - a / 3 - b / 2 - d / 6 + t * ((a + c) / 2 - b + t * ((d - a) / 6 + (b - c) / 2)))


@jit
def common(a: int, b: int) -> int:
    """Return the greatest common divisor."""
    while b:
        a, b = b, a % b
    return a


@jit
def start(r: Array, rate: int, target: int, weights: Array, inputs: Array, curve: Array) -> None:
    """Start a clip."""
    if r[RATE] != rate or r[_TARGET] != target:
        design(r, rate, target, weights, curve)
    inputs[: r[_HALF]] = _ZERO
    r[_BEGIN] = r[_SEEN] = r[_GIVEN] = r[_PHASE] = 0
    r[_END] = r[_HALF]


@jit
def design(r: Array, rate: int, target: int, weights: Array, curve: Array) -> None:
    """Compute the weights for two rates: panels of LANES outputs or, when interpolating, the phases of a filter."""
    divisor = common(target, rate)
    up, down = target // divisor, rate // divisor
    scale = min(1.0, up / down)
    half = int(HALF_WIDTH / scale) + 1
    period = up * ((LANES + up - 1) // up)
    step = period // up * down
    depth = 2 * half + LANES * down // up + 1
    r[RATE], r[_TARGET], r[_L], r[_M], r[_HALF] = rate, target, up, down, half
    if (period + LANES) * depth <= _WEIGHTS and step <= _MAX_STEP:
        r[_PERIOD], r[_STEP], r[_DEPTH] = period, step, depth
        for panel in range((period + LANES - 1) // LANES):
            first = panel_start(panel, period)
            begin = first * down // up - half + 1
            for k in range(depth):
                for lane in range(LANES):
                    # exact, unlike a difference of two rounded positions
                    u = ((first + lane) * down - (begin + k) * up) / up
                    weights[(panel * depth + k) * LANES + lane] = np.float32(scale * at(u * scale, curve))
    else:
        phases = int(DENSITY * scale) + 1
        depth = (2 * half // (4 * SUMS) + 1) * 4 * SUMS
        r[_PERIOD], r[_STEP], r[_DEPTH] = 0, phases, depth
        for phase in range(phases + 3):
            for k in range(depth):
                u = (phase - 1) / phases + half - 1 - k
                weights[phase * depth + k] = np.float32(scale * at(u * scale, curve))


@jit
def panel_start(panel: int, period: int) -> int:
    """Return the first output of a panel; the last panel overlaps its predecessor so that it is full."""
    return min(panel * LANES, period - LANES)


@jit
def accept(r: Array, x: Array, begin: int, end: int, inputs: Array) -> int:
    """Append as many samples of x[begin:end] as there is space for; return their number."""
    if r[_END] + end - begin > len(inputs):
        forget(r, inputs)
    count = min(end - begin, len(inputs) - r[_END])
    i, o = np.uint64(begin), np.uint64(r[_END])
    for j in range(np.uint64(count)):
        inputs[o + j] = x[i + j]
    r[_END] += count
    r[_SEEN] += count
    return int(count)


@jit
def forget(r: Array, inputs: Array) -> None:
    """Move the used range to the beginning of `inputs`."""
    kept = r[_END] - r[_BEGIN]
    begin = np.uint64(r[_BEGIN])
    for j in range(np.uint64(kept)):
        inputs[j] = inputs[begin + j]
    r[_BEGIN], r[_END] = 0, kept


@jit
def produce(
    r: Array, ended: bool, inputs: Array, weights: Array, zeros: Array, sums: Array, out: Array, begin: int
) -> int:
    """Write outputs from out[begin] on, while there are inputs and space for LARGEST outputs; return their end.

    `zeros` has at least LANES zeros; `sums` is scratch memory of length SUMS.
    """
    total = outputs_of(r[_SEEN], r[RATE], r[_TARGET]) if ended else -1
    if r[_PERIOD]:
        needed = (ROWS_1 - 1) * r[_STEP] + (r[_PERIOD] - LANES) * r[_M] // r[_L] + 1 + r[_DEPTH]
    else:
        needed = r[_M] // r[_L] + 2 + r[_DEPTH]
    end = begin
    while end + LARGEST <= len(out) and r[_GIVEN] != total:
        missing = r[_BEGIN] + needed - r[_END]
        if missing > 0:
            if not ended:
                break
            forget(r, inputs)
            inputs[r[_END] : r[_END] + missing] = _ZERO
            r[_END] += missing
        if r[_PERIOD]:
            count = tile(r, inputs, weights, zeros, out, end)
        else:
            count = interpolate(r, needed, inputs, weights, sums, out, end)
        if ended:
            count = min(count, total - r[_GIVEN])
        r[_GIVEN] += count
        end += count
    return end


@jit
def done(r: Array) -> bool:
    """Return whether all outputs of a clip that has ended have been produced."""
    return bool(r[_GIVEN] == outputs_of(r[_SEEN], r[RATE], r[_TARGET]))


@jit
def tile(r: Array, inputs: Array, weights: Array, zeros: Array, out: Array, begin: int) -> int:
    """Compute the outputs of ROWS_1 periods as a matrix product."""
    period, step, depth = r[_PERIOD], r[_STEP], r[_DEPTH]
    taps, linear = Taps(1, 0, 1, 0, depth, 0), Epilogue(0, LINEAR, _ZERO, _ZERO)
    for panel in range((period + LANES - 1) // LANES):
        first = panel_start(panel, period)
        # inputs[_BEGIN] is _HALF before the first output
        place = r[_BEGIN] + first * r[_M] // r[_L] + 1
        gemm_tile(
            ROWS_1, 1, 0, 0, Rows(inputs, place, step), taps, Weights(weights, panel * depth * LANES, zeros, 0),
            Block(Lines(out, out, begin + first, period, LANES), 0, LANES), linear,
        )  # fmt: skip
    r[_BEGIN] += ROWS_1 * step
    return int(ROWS_1 * period)


@jit
def interpolate(
    r: Array, needed: int, inputs: Array, weights: Array, sums: Array, out: Array, begin: int
) -> int:  # fmt: skip
    """Compute outputs with interpolated weights while there are inputs, at most LARGEST."""
    up, down, phases, depth = r[_L], r[_M], r[_STEP], np.uint64(r[_DEPTH])
    phase, place, count = r[_PHASE], r[_BEGIN], 0
    while place + needed <= r[_END] and count < LARGEST:
        row, rest = phase * phases // up, phase * phases % up
        t = rest / up
        wa, wb = np.float32(t * (t * (3 - t) - 2) / 6), np.float32(1 + t * (t * (t / 2 - 1) - 0.5))
        wc, wd = np.float32(t + t * t * (1 - t) / 2), np.float32(t * (t * t - 1) / 6)
        a, i = np.uint64(row) * depth, np.uint64(place) + _1
        for lane in range(_SUMS):
            sums[lane] = _ZERO
        for k in range(_0, depth, _4 * _SUMS):
            for lane in range(_SUMS):
                j: Any = k + lane
                total = inputs[i + j] * blend(weights, a + j, depth, wa, wb, wc, wd)
                j += _SUMS
                total += inputs[i + j] * blend(weights, a + j, depth, wa, wb, wc, wd)
                j += _SUMS
                total += inputs[i + j] * blend(weights, a + j, depth, wa, wb, wc, wd)
                j += _SUMS
                sums[lane] += total + inputs[i + j] * blend(weights, a + j, depth, wa, wb, wc, wd)
        total = _ZERO
        for lane in range(_SUMS):
            total += sums[lane]
        out[begin + count] = total
        count += 1
        phase += down
        place += phase // up
        phase %= up
    r[_PHASE], r[_BEGIN] = phase, place
    return count


@jit
def blend(weights: Array, i: Any, step: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Interpolate a weight between four phases."""
    return a * weights[i] + b * weights[i + step] + (c * weights[i + _2 * step] + d * weights[i + _3 * step])
