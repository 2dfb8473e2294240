"""Fourier transforms, windows and the mel scale, computed in float64 and rounded at the end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.cast import convert, dtype_of
from tinyonnx.ops.math import quiet
from tinyonnx.ops.shape import Shape, integer
from tinyonnx.registry import Context, Info, op

# -- DFT --------------------------------------------------------------------------------


def _dft_axis(shape: Shape, axis: int) -> int:
    rank = len(shape)
    if rank < 2 or shape[-1] not in (1, 2):
        raise OpError(f"input has shape {list(shape)}, needs a signal axis and a last axis of 1 (real) or 2 (complex)")
    if not -rank <= axis < rank or axis % rank == rank - 1:
        raise OpError(f"axis is {axis}, must be a signal axis of an input of rank {rank}")
    return axis % rank


def _dft_shape(shape: Shape, length: int | None, axis: int, inverse: int, onesided: int) -> tuple[Shape, int]:
    """Return the output's shape and the length of the transform."""
    if onesided and shape[-1] != (2 if inverse else 1):
        kind = "complex" if inverse else "real"
        raise OpError(f"a onesided transform needs {kind} input, its last axis has size {shape[-1]}")
    if length is None:
        length = 2 * (shape[axis] - 1) if inverse and onesided else shape[axis]
    if length < 1:
        raise OpError(f"the length of the transform is {length}, should be positive")
    result = list(shape)
    result[axis] = length // 2 + 1 if onesided and not inverse else length
    result[-1] = 1 if onesided and inverse else 2
    return tuple(result), length


def _complex(x: Array) -> Array:
    """Join the last axis, real and imaginary parts, to complex128; float64 if there is only a real part."""
    wide = x.astype(np.float64)
    return wide[..., 0] if x.shape[-1] == 1 else wide[..., 0] + 1j * wide[..., 1]


def _parts(y: Array, dtype: np.dtype[Any]) -> Array:
    """Split complex numbers into real and imaginary parts along a new last axis."""
    return np.stack([y.real, y.imag], axis=-1).astype(dtype)


def _dft(ctx: Context, x: Array, length: int | None, axis: int, inverse: int, onesided: int) -> Array:
    axis = _dft_axis(x.shape, axis)
    shape, length = _dft_shape(x.shape, length, axis, inverse, onesided)
    ctx.check_size((*shape[:-1], 2), np.float64)
    signal = _complex(x)
    if signal.size == 0:
        return np.zeros(shape, x.dtype)
    if onesided and inverse:
        return np.fft.irfft(signal, length, axis)[..., None].astype(x.dtype)
    transform = np.fft.ifft if inverse else np.fft.rfft if onesided else np.fft.fft
    return _parts(transform(signal, length, axis), x.dtype)


def _dft_rule(
    input: Info, dft_length: Info | None = None, axis: Info | None = None, *, inverse: int = 0, onesided: int = 0
) -> Info:
    if axis is not None and axis.value is None:
        return Info(input.dtype, None)
    along = -2 if axis is None else integer(axis.value, "axis")
    return _dft_rule_17(input, dft_length, axis=along, inverse=inverse, onesided=onesided)


@op("DFT", since=20, shape=_dft_rule)
@quiet
def dft(
    ctx: Context, input: Array, dft_length: Array | None = None, axis: Array | None = None, *, inverse: int = 0,
    onesided: int = 0,
) -> Array:  # fmt: skip
    length = None if dft_length is None else integer(dft_length, "dft_length")
    return _dft(ctx, input, length, -2 if axis is None else integer(axis, "axis"), inverse, onesided)


def _dft_rule_17(
    input: Info, dft_length: Info | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Info:
    if input.shape is None or (dft_length is not None and dft_length.value is None):
        return Info(input.dtype, None)
    length = None if dft_length is None else integer(dft_length.value, "dft_length")
    along = _dft_axis(input.shape, axis)
    return Info(input.dtype, _dft_shape(input.shape, length, along, inverse, onesided)[0])


@op("DFT", since=17, shape=_dft_rule_17)
@quiet
def dft_17(
    ctx: Context, input: Array, dft_length: Array | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Array:
    return _dft(ctx, input, None if dft_length is None else integer(dft_length, "dft_length"), axis, inverse, onesided)


# -- STFT -------------------------------------------------------------------------------


def _stft_shape(signal: Shape, step: int, window: Shape | None, frame: int | None, onesided: int) -> tuple[Shape, int]:
    """Return the output's shape and the length of a frame; a signal without last axis is real."""
    if len(signal) not in (2, 3) or (len(signal) == 3 and signal[2] not in (1, 2)):
        raise OpError(f"signal has shape {list(signal)}, should be [batch, length, 1 (real) or 2 (complex)]")
    if window is not None and len(window) != 1:
        raise OpError(f"window has shape {list(window)}, should be a vector")
    if frame is None:
        frame = signal[1] if window is None else window[0]
    if window is not None and window[0] != frame:
        raise OpError(f"window has {window[0]} elements, frame_length is {frame}")
    if step < 1 or frame < 1 or frame > signal[1]:
        raise OpError(f"frames of {frame} samples, one every {step}, don't fit a signal of {signal[1]}")
    if onesided and len(signal) == 3 and signal[2] == 2:
        raise OpError("a onesided transform needs a real signal, this one is complex")
    return (signal[0], (signal[1] - frame) // step + 1, frame // 2 + 1 if onesided else frame, 2), frame


def _stft_rule(
    signal: Info, frame_step: Info, window: Info | None = None, frame_length: Info | None = None, *, onesided: int = 1
) -> Info:
    known = frame_length is None or frame_length.value is not None
    if signal.shape is None or frame_step.value is None or not known or (window is not None and window.shape is None):
        return Info(signal.dtype, None)
    frame = None if frame_length is None else integer(frame_length.value, "frame_length")
    step = integer(frame_step.value, "frame_step")
    return Info(signal.dtype, _stft_shape(signal.shape, step, window and window.shape, frame, onesided)[0])


@op("STFT", since=17, shape=_stft_rule)
@quiet
def stft(
    ctx: Context, signal: Array, frame_step: Array, window: Array | None = None, frame_length: Array | None = None, *,
    onesided: int = 1,
) -> Array:  # fmt: skip
    """Compute the short-time Fourier transform, [batch, frames, bins, 2]."""
    step = integer(frame_step, "frame_step")
    wanted = None if frame_length is None else integer(frame_length, "frame_length")
    weights = None if window is None else window.shape
    shape, frame = _stft_shape(signal.shape, step, weights, wanted, onesided)
    ctx.check_size((*shape[:2], frame, 2), np.float64)
    samples = _complex(signal if signal.ndim == 3 else signal[..., None])
    frames = sliding_window_view(samples, frame, axis=1)[:, ::step]
    if window is not None:
        frames = frames * window.astype(np.float64)
    if not frames.size:
        return np.zeros(shape, signal.dtype)
    return _parts(np.fft.rfft(frames) if onesided else np.fft.fft(frames), signal.dtype)


# -- windows ----------------------------------------------------------------------------


def _window(name: str, *coefficients: float) -> Any:
    """Register a window that is a sum of cosines; the k-th coefficient belongs to k periods."""

    def length(size: Any) -> int:
        result = integer(size, "size")
        if result < 0:
            raise OpError(f"size is {result}, should not be negative")
        return result

    def rule(size: Info, *, output_datatype: int = 1, periodic: int = 1) -> Info:
        return Info(dtype_of(output_datatype), None if size.value is None else (length(size.value),))

    @op(name, since=17, shape=rule)
    @quiet
    def window(ctx: Context, size: Array, *, output_datatype: int = 1, periodic: int = 1) -> Array:
        count = length(size)
        ctx.check_size((count,), np.float64)
        if count == 1 and not periodic:  # the formula gives 0 / 0; a window of one element is 1
            return convert(np.ones(1), dtype_of(output_datatype))
        angle = np.arange(count) * (2 * np.pi / max(count if periodic else count - 1, 1))
        return convert(
            np.asarray(sum(c * np.cos(k * angle) for k, c in enumerate(coefficients))), dtype_of(output_datatype)
        )

    return window


hann_window = _window("HannWindow", 0.5, -0.5)
hamming_window = _window("HammingWindow", 25 / 46, -21 / 46)
blackman_window = _window("BlackmanWindow", 0.42, -0.5, 0.08)


# -- MelWeightMatrix --------------------------------------------------------------------


def _mel_shape(num_mel_bins: Any, dft_length: Any) -> Shape:
    bands, length = integer(num_mel_bins, "num_mel_bins"), integer(dft_length, "dft_length")
    if bands < 1 or length < 1:
        raise OpError(f"num_mel_bins is {bands} and dft_length {length}, both should be positive")
    return (length // 2 + 1, bands)


def _mel_rule(num_mel_bins: Info, dft_length: Info, *_: Info, output_datatype: int = 1) -> Info:
    known = num_mel_bins.value is not None and dft_length.value is not None
    return Info(dtype_of(output_datatype), _mel_shape(num_mel_bins.value, dft_length.value) if known else None)


def _hertz(value: Array, name: str) -> float:
    if value.size != 1:
        raise OpError(f"{name} has shape {list(value.shape)}, should be one number")
    return float(value.reshape(())[()])


@op("MelWeightMatrix", since=17, shape=_mel_rule)
@quiet
def mel_weight_matrix(
    ctx: Context, num_mel_bins: Array, dft_length: Array, sample_rate: Array, lower_edge_hertz: Array,
    upper_edge_hertz: Array, *, output_datatype: int = 1,
) -> Array:  # fmt: skip
    """Return mel weights [bins of the spectrum, bands]; edges are rounded down to whole bins.

    As in ONNX's test case and in onnxruntime the step on the mel scale is the range divided by
    bands + 2, not bands + 1: the highest band ends one step below `upper_edge_hertz`.
    """
    shape = _mel_shape(num_mel_bins, dft_length)
    ctx.check_size(shape, np.float64)
    rate = integer(sample_rate, "sample_rate")
    low, high = _hertz(lower_edge_hertz, "lower_edge_hertz"), _hertz(upper_edge_hertz, "upper_edge_hertz")
    if not (rate > 0 and 0 <= low <= high <= rate / 2):
        raise OpError(f"edges of {low} and {high} Hz don't fit a sample rate of {rate}")
    bins, bands = shape
    low_mel, high_mel = (2595 * math.log10(1 + f / 700) for f in (low, high))
    mel = low_mel + np.arange(bands + 2) * ((high_mel - low_mel) / (bands + 2))
    edges = np.floor((integer(dft_length, "dft_length") + 1) * 700 * (10 ** (mel / 2595) - 1) / rate)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    at = np.arange(bins)[:, None]
    rising = np.where(centre > left, (at - left) / (centre - left), at == centre)
    falling = np.where(right > centre, (right - at) / (right - centre), 0)
    weights = np.where((at >= left) & (at <= centre), rising, np.where((at > centre) & (at < right), falling, 0))
    return convert(weights, dtype_of(output_datatype))
