"""The standalone program's resampler as a function of arrays, and measurements beside soxr's quality HQ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import soxr

from audiotag.features.mel import DEFAULT
from audiotag.standalone import kernels, resampler
from audiotag.standalone.resampler import accept, produce, start
from tinyonnx import kernel
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array

RATES = 8000, 11025, 16000, 22050, 44056, 44100, 48000, 96000, 192000
"""Sample rates in the table, in Hz."""

TARGET = DEFAULT.rate


@kernel
def run(
    x: Array, rate: int, block: int, memory: kernels.Resampler, out: Array, ends: Array, part: int, parts: int
) -> None:
    """Resample x in blocks; ends[0] becomes the number of outputs."""
    target, registers, weights, inputs, curve, zeros, sums = memory
    start(registers, rate, target, weights, inputs, curve)
    end, at, produced = 0, 0, -1
    while at < len(x):
        at += accept(registers, x, at, min(at + block, len(x)), inputs)
        end = produce(registers, False, inputs, weights, zeros, sums, out, end)
    while produced != end:
        produced = end
        end = produce(registers, True, inputs, weights, zeros, sums, out, end)
    ends[0] = end


class Resampler:
    """Resamples clips (n,) float32 to a rate, in blocks of a given number of samples."""

    def __init__(self, target: int = TARGET) -> None:
        weights, inputs = resampler.lengths(target)
        self._memory = kernels.Resampler(
            rate=target,
            registers=np.zeros(resampler.REGISTERS, np.int64),
            weights=np.zeros(weights, np.float32),
            inputs=np.full(inputs, np.nan, np.float32),
            curve=resampler.prototype(),
            zeros=np.zeros(LANES, np.float32),
            sums=np.zeros(resampler.SUMS, np.float32),
        )

    def __call__(self, x: Array, rate: int, block: int = 8192) -> Array:
        room = resampler.outputs_of(len(x), rate, self._memory.rate) + resampler.LARGEST
        out, ends = np.full(room, np.nan, np.float32), np.zeros(1, np.int64)
        x = np.ascontiguousarray(x, np.float32)
        run(x, rate, block, self._memory, out, ends)
        return out[: ends[0]]


class Response(NamedTuple):
    """Response of a resampler to sines and noise, all in dB of the input.

    Gain up to `PASSBAND` and at 0.95 of the lower Nyquist frequency, the loudest alias or image, and the error on noise
    within the passband.
    """

    ripple: float
    edge: float
    leak: float
    error: float


def decibels(power: Any) -> float:
    """Return a ratio of powers in dB."""
    return float(10 * np.log10(max(power, 1e-30)))


def measure(resample: Callable[[Array, int], Array], rate: int) -> Response:
    """Measure the response at a sample rate on half a second."""
    nyquist = min(rate, TARGET) / 2
    inside = [_gain(resample, rate, part * nyquist)[0] for part in (0.01, 0.3, 0.6, 0.8, 0.9, resampler.PASSBAND)]
    edge = _gain(resample, rate, 0.95 * nyquist)[0]
    if rate > TARGET:
        outside = [part * nyquist for part in (1.001, 1.01, 1.05, 1.2, 1.37) if part * nyquist < rate / 2]
    else:
        outside = [part * nyquist for part in (0.2, 0.5, 0.8, 0.9, resampler.PASSBAND)]
    leak = max(_gain(resample, rate, frequency)[1] for frequency in outside)
    return Response(max(inside, key=abs), edge, leak, _noise_error(resample, rate))


def _gain(resample: Callable[[Array, int], Array], rate: int, frequency: float) -> tuple[float, float]:
    """Return (gain of a sine, everything else in the output), in dB."""
    n = rate // 2
    out = resample(np.sin(2 * np.pi * frequency * np.arange(n) / rate).astype(np.float32), rate).astype(np.float64)
    middle = np.arange(len(out) // 4, 3 * len(out) // 4)
    angle = 2 * np.pi * frequency * middle / TARGET
    basis = np.stack([np.sin(angle), np.cos(angle)], 1)
    if frequency > TARGET / 2:
        return -np.inf, decibels(np.mean(out[middle] ** 2) / 0.5)
    (a, b), *_ = np.linalg.lstsq(basis, out[middle], rcond=None)
    rest = out[middle] - basis @ (a, b)
    return decibels(a * a + b * b), decibels(np.mean(rest**2) / 0.5)


def limited_noise(n: int, rate: int, edge: float) -> tuple[Array, Array]:
    """Return noise (n,) without frequencies above `edge` of the lower Nyquist frequency, and its ideal resampling."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(n) * 0.1)
    spectrum[int(n / 2 * edge * min(1, TARGET / rate)) :] = 0
    x = np.fft.irfft(spectrum, n).astype(np.float32)
    m = n * TARGET // rate
    found, wanted = np.fft.rfft(x), np.zeros(m // 2 + 1, complex)
    shared = min(len(found), len(wanted))
    wanted[:shared] = found[:shared]
    return x, np.fft.irfft(wanted, m) * m / n


def _noise_error(resample: Callable[[Array, int], Array], rate: int) -> float:
    x, expected = limited_noise(2 * rate, rate, resampler.PASSBAND)
    middle = slice(len(expected) // 4, 3 * len(expected) // 4)
    error = resample(x, rate)[middle] - expected[middle]
    return decibels(np.mean(error**2) / np.mean(expected[middle] ** 2))


def table(rates: Sequence[int] = RATES) -> str:
    """Return a table of both resamplers, in dB."""
    ours = Resampler()
    lines = [
        f"to {TARGET} Hz, dB; the lower Nyquist frequency is 1",
        f"     Hz{f'gain to {resampler.PASSBAND}':>21}    gain at 0.95  aliases, images   error on noise",
        " " * 7 + "     native      soxr" + "   native   soxr" * 3,
    ]
    for rate in rates:
        mine, other = measure(ours, rate), measure(lambda x, rate: soxr.resample(x, rate, TARGET), rate)
        cells = [f"{mine.ripple:+11.5f}{other.ripple:+10.5f}"]
        cells += [f"{a:9.1f}{b:7.1f}" for a, b in list(zip(mine, other, strict=True))[1:]]
        lines.append(f"{rate:7}" + "".join(cells))
    return "\n".join(lines)
