"""Resize and Upsample.

A Resize is separable: each axis has its own taps, the input elements that an output
element reads and their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Context, Info, op
from tinyonnx.sizes.integers import is_size, value_of

ASYMMETRIC = "asymmetric"
CROP = "tf_crop_and_resize"
SYMMETRIC = "half_pixel_symmetric"
_TRANSFORMATIONS = (
    "half_pixel",
    SYMMETRIC,
    "pytorch_half_pixel",
    "align_corners",
    ASYMMETRIC,
    "tf_half_pixel_for_nn",
    CROP,
)
_NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


class Axis(NamedTuple):
    """One axis of a Resize.

    `ratio` is the scale as a fraction, of integers if sizes are given.
    """

    at: int
    size: int
    out: int
    ratio: tuple[float, float]
    precision: type[np.float32] | type[np.float64]

    @property
    def width(self) -> float:
        """The output's size before it is cut to an integer."""
        if self.precision is np.float32:
            return _scaled(self.size, self.ratio[0])
        return self.size * self.ratio[0] / self.ratio[1]

    @property
    def scale(self) -> float:
        return self.ratio[0] / self.ratio[1]


# -- sizes and scales ---------------------------------------------------------------------


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise OpError(f"{name} is {value!r}, not one of {', '.join(allowed)}")


def _numbers(name: str, values: Array | Info | Sequence[float] | None, count: int) -> Array | None:
    """Return an optional input as a vector, None if absent or empty; raises OpError."""
    if isinstance(values, Info):
        values = values.value
    if values is None or np.size(values) == 0:
        return None
    vector = np.asarray(values)
    if vector.shape != (count,):
        raise OpError(f"{name} has shape {list(vector.shape)}, not {[count]}")
    return vector


def _scaled(size: int, scale: float) -> float:
    # scales are float32: in higher precision 10 * 2.3 would be less than 23
    return float(np.float32(size) * np.float32(scale))


def _scaled_size(size: int, scale: float) -> int:
    """Return ⌊size · scale⌋ in float32; an expression for a size that is one."""
    if is_size(size):
        limit = 1 << max(16, (2 * value_of(size)).bit_length())
        fraction, largest = _exact_scale(float(scale), limit)
        if value_of(size) <= largest and size <= largest:  # the second comparison is recorded
            return size * fraction.numerator // fraction.denominator
    return floor(_scaled(int(size), scale))


@lru_cache(maxsize=256)
def _exact_scale(scale: float, limit: int) -> tuple[Fraction, int]:
    """Return a fraction that scales sizes like float32 does, and the largest size below `limit` up to which it does."""
    fraction = Fraction(scale).limit_denominator(1024)
    sizes = np.arange(limit)
    exact = sizes * fraction.numerator // fraction.denominator
    wrong = np.floor(sizes.astype(np.float32) * np.float32(scale)) != exact
    return fraction, int(wrong.argmax()) - 1 if wrong.any() else limit - 1


def _by_scales(shape: Sequence[int], axes: Sequence[int], scales: Array) -> list[Axis]:
    if not np.all(np.isfinite(scales) & (scales > 0)):
        raise OpError(f"scales {scales.tolist()} must be positive")
    if not np.all(np.isfinite([_scaled(value_of(shape[i]), s) for i, s in zip(axes, scales)])):
        raise OpError(f"scales {scales.tolist()} are too large for shape {list(shape)}")
    return [Axis(i, shape[i], _scaled_size(shape[i], s), (float(s), 1.0), np.float32) for i, s in zip(axes, scales)]


def _by_sizes(shape: Sequence[int], axes: Sequence[int], sizes: Array, policy: str) -> list[Axis]:
    _one_of("keep_aspect_ratio_policy", policy, ("stretch", "not_larger", "not_smaller"))
    targets = [s if is_size(s) else int(s) for s in sizes]
    if min(targets) < 0:
        raise OpError(f"sizes {targets} must not be negative")
    if any(shape[i] == 0 and t for i, t in zip(axes, targets)):
        raise OpError(f"can't resize shape {list(shape)} to sizes {targets}: an axis is empty")
    ratios = [(t, shape[i]) if shape[i] else (1, 1) for i, t in zip(axes, targets)]
    given = [ratio for i, ratio in zip(axes, ratios) if shape[i]]
    if policy != "stretch" and given:
        chosen = given[0]
        for ratio in given[1:]:
            larger, smaller = (chosen, ratio) if policy == "not_larger" else (ratio, chosen)
            if larger[0] * smaller[1] > smaller[0] * larger[1]:
                chosen = ratio
        ratios = [chosen] * len(ratios)
        targets = [(2 * shape[i] * t + size) // (2 * size) for i, (t, size) in zip(axes, ratios)]
    return [Axis(i, shape[i], t, ratio, np.float64) for i, t, ratio in zip(axes, targets, ratios)]


def axes_of(
    x: Array | Info, scales: Array | Info | Sequence[float] | None, sizes: Array | Info | None,
    axes: Sequence[int] | None, policy: str,
) -> list[Axis]:  # fmt: skip
    """Return the axes to resize. Raises OpError if the inputs are inconsistent."""
    assert x.shape is not None
    chosen = list(range(x.ndim)) if axes is None else [int(a) for a in axes]
    if any(not -x.ndim <= a < x.ndim for a in chosen):
        raise OpError(f"axes {chosen} are out of range for {x.ndim} dimensions")
    chosen = [a % x.ndim for a in chosen]
    if len(set(chosen)) < len(chosen):
        raise OpError(f"axes contain duplicates: {chosen}")
    factors, targets = _numbers("scales", scales, len(chosen)), _numbers("sizes", sizes, len(chosen))
    if (factors is None) == (targets is None):
        if not chosen:
            return []
        raise OpError(f"{'neither' if factors is None else 'both'} scales and sizes given, exactly one is needed")
    if factors is not None:
        return _by_scales(x.shape, chosen, factors)
    assert targets is not None
    return _by_sizes(x.shape, chosen, targets, policy)


def _output_shape(shape: tuple[int, ...], axes: Sequence[Axis]) -> tuple[int, ...]:
    outs = {a.at: a.out for a in axes}
    return tuple(outs.get(i, size) for i, size in enumerate(shape))


# -- taps -------------------------------------------------------------------------------


def _coordinates(axis: Axis, transformation: str, roi: tuple[float, float], precision: Any) -> Array:
    """Return the coordinate of each output element on the input's axis, [out]."""
    x, half, last = np.arange(axis.out, dtype=precision), precision(0.5), axis.size - 1

    def unscaled(values: Array) -> Array:
        return np.asarray(values * precision(axis.ratio[1]) / precision(axis.ratio[0]))

    at: Array
    match transformation:
        case "half_pixel_symmetric":
            at = precision(axis.size / 2 * (1 - axis.out / axis.width)) + unscaled(x + half) - half
        case "half_pixel" | "pytorch_half_pixel":
            at = x if transformation.startswith("pytorch") and axis.out == 1 else unscaled(x + half) - half
        case "tf_half_pixel_for_nn":
            at = unscaled(x + half)
        case "align_corners":
            # ONNX's suite keeps the fraction that is cut off a size, but only has cases that shrink;
            # exporters and other runtimes use the size itself
            width = axis.out if axis.out >= axis.size else axis.width
            at = x if axis.out == 1 else x * precision(last) / precision(width - 1)
        case "tf_crop_and_resize":
            start, end = (precision(border) for border in roi)
            t = x + half if axis.out == 1 else x / precision(axis.width - 1)
            at = (start * (1 - t) + end * t) * precision(last)
        case _:
            at = unscaled(x)
    return at


def _nearest(x: Array, mode: str) -> Array:
    match mode:
        case "round_prefer_floor":
            return np.asarray(np.ceil(x - x.dtype.type(0.5)))
        case "round_prefer_ceil":
            return np.asarray(np.floor(x + x.dtype.type(0.5)))
        case "ceil":
            return np.asarray(np.ceil(x))
        case _:
            return np.asarray(np.floor(x))


def _kernel(distance: Array, mode: str, a: float) -> Array:
    """Return the interpolation kernel: a triangle, or Keys' cubic convolution with parameter `a`."""
    d = np.abs(distance)
    if mode == "linear":
        return np.asarray(np.maximum(1 - d, 0))
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0)))


def _taps(
    axis: Axis, x: Array, mode: str, *, antialias: int, cubic_coeff_a: float, exclude_outside: int
) -> tuple[Array, Array]:
    """Return indices and weights of the inputs around the coordinates `x`, both [taps, out]."""
    squeeze = min(axis.scale, 1.0) if antialias else 1.0
    reach = floor((1 if mode == "linear" else 2) / squeeze) + 1
    base = np.floor(x)
    index = base + np.arange(1 - reach, reach + 1)[:, None]
    weights = _kernel((index - x) * squeeze, mode, cubic_coeff_a)
    if exclude_outside:
        weights = np.where((index < 0) | (index > axis.size - 1), 0, weights)
    if exclude_outside or antialias:
        total = weights.sum(axis=0)
        weights = weights / np.where(total == 0, 1, total)
    used = np.any(weights != 0, axis=1)
    return np.clip(index, 0, axis.size - 1).astype(np.int64)[used], weights[used]


def _interpolate(y: Array, axis: int, index: Array, weights: Array) -> Array:
    tail = (1,) * (y.ndim - axis - 1)
    result = np.zeros((*y.shape[:axis], index.shape[1], *y.shape[axis + 1 :]), y.dtype)
    for i, w in zip(index, weights):
        result += y.take(i, axis=axis) * w.reshape(-1, *tail).astype(y.real.dtype)
    return result


def _cast(y: Array, dtype: np.dtype[Any]) -> Array:
    """Convert back to the input's dtype; integers are truncated and clipped to their range."""
    if dtype.kind not in "iu":
        return y.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    whole = np.rint(y)
    exact = np.isclose(y, whole, rtol=1e-12, atol=1e-9)  # 6.999999999999 is a 7 with rounding errors
    return np.clip(np.where(exact, whole, np.trunc(y)), limits.min, limits.max).astype(dtype)


# -- Resize -----------------------------------------------------------------------------


def _resample(
    ctx: Context | None, x: Array, axes: Sequence[Axis], *, mode: str, transformation: str,
    nearest_modes: Sequence[str], rois: Sequence[tuple[float, float]], extrapolation_value: float = 0.0, **kernel: Any,
) -> Array:  # fmt: skip
    _check_modes(mode, transformation, *nearest_modes)
    shape = _output_shape(x.shape, axes)
    if ctx is not None:
        ctx.check_size(shape, x.dtype)
    if 0 in shape:
        return np.empty(shape, x.dtype)
    nearest = mode == "nearest"
    if not nearest and x.dtype.kind not in "fiucV":
        raise OpError(f"{mode} interpolation of {x.dtype} has no meaning")
    y = x if nearest else x.astype(np.float64 if x.dtype.kind in "iu" else np.result_type(x.dtype, np.float32))
    outside: list[tuple[int, Array]] = []
    steps = sorted(zip(axes, nearest_modes, rois), key=lambda step: step[0].out / max(step[0].size, 1))
    with np.errstate(all="ignore"):
        for axis, nearest_mode, roi in steps:
            if axis.out == axis.size and axis.scale == 1 and transformation != CROP:
                continue
            # a float32 scale like 1/3 selects the intended neighbours only if computed in float32
            at = _coordinates(axis, transformation, roi, axis.precision if nearest else np.float64)
            if transformation == CROP:
                outside.append((axis.at, (at < 0) | (at > axis.size - 1)))
            if nearest:
                index = np.clip(_nearest(at, nearest_mode), 0, axis.size - 1).astype(np.int64)
                y = y.take(index, axis=axis.at)
            else:
                y = _interpolate(y, axis.at, *_taps(axis, at, mode, **kernel))
        y = _cast(y, x.dtype)
    for i, mask in outside:
        if mask.any():
            y = y.copy() if y is x else y
            y[(slice(None),) * i + (mask,)] = extrapolation_value
    return y


def _check_modes(mode: str, transformation: str, *nearest_modes: str) -> None:
    _one_of("mode", mode, ("nearest", "linear", "cubic"))
    _one_of("coordinate_transformation_mode", transformation, _TRANSFORMATIONS)
    for nearest_mode in nearest_modes:
        _one_of("nearest_mode", nearest_mode, _NEAREST_MODES)


def resize_shape(
    x: Info, roi: Info | None = None, scales: Info | None = None, sizes: Info | None = None, *,
    axes: Sequence[int] | None = None, coordinate_transformation_mode: str = "half_pixel",
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest", nearest_mode: str = "round_prefer_floor",
    **_: Any,
) -> Info:  # fmt: skip
    """Infer the output shape of Resize; `scales` and `sizes` must be constants."""
    _check_modes(mode, coordinate_transformation_mode, nearest_mode)
    if x.shape is None or any(i is not None and i.value is None and i.shape != (0,) for i in (scales, sizes)):
        return Info(x.dtype, None)
    return Info(x.dtype, _output_shape(x.shape, axes_of(x, scales, sizes, axes, keep_aspect_ratio_policy)))


@op("Resize", since=11, shape=resize_shape)
def resize(
    ctx: Context | None, x: Array, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None, *,
    antialias: int = 0, axes: Sequence[int] | None = None, coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75, exclude_outside: int = 0, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest", nearest_mode: str = "round_prefer_floor",
) -> Array:  # fmt: skip
    """Resample `x`, the output being floor(size * scale) or `sizes` long.

    As in onnx's shape inference the `roi` doesn't change the size of the output.
    """
    chosen = axes_of(x, scales, sizes, axes, keep_aspect_ratio_policy)
    rois = [(0.0, 1.0)] * len(chosen)
    if coordinate_transformation_mode == CROP:
        borders = _numbers("roi", roi, 2 * len(chosen))
        if borders is None:
            raise OpError(f"{CROP} needs a roi")
        if not np.isfinite(borders).all():
            raise OpError(f"a border of the roi is not finite: {borders.tolist()}")
        rois = list(zip(borders[: len(chosen)].tolist(), borders[len(chosen) :].tolist()))
    return _resample(
        ctx,
        x,
        chosen,
        mode=mode,
        transformation=coordinate_transformation_mode,
        nearest_modes=[nearest_mode] * len(chosen),
        rois=rois,
        extrapolation_value=extrapolation_value,
        antialias=antialias,
        cubic_coeff_a=cubic_coeff_a,
        exclude_outside=exclude_outside,
    )


# -- Resize before opset 11 ---------------------------------------------------------------


def resize_shape_10(x: Info, scales: Info, *, mode: str = "nearest") -> Info:
    """Infer the output shape of Resize-10 and Upsample-9; `scales` must be a constant."""
    return resize_shape(x, None, scales)


@op("Resize", since=10, shape=resize_shape_10)
def resize_10(ctx: Context | None, x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """Resample by asymmetric coordinates; "nearest" rounds down on axes that grow and up on axes that shrink."""
    _one_of("mode", mode, ("nearest", "linear"))
    axes = axes_of(x, scales, None, None, "stretch")
    return _resample(
        ctx,
        x,
        axes,
        mode=mode,
        transformation=ASYMMETRIC,
        nearest_modes=["floor" if a.scale >= 1 else "ceil" for a in axes],
        rois=[(0.0, 1.0)] * len(axes),
        antialias=0,
        cubic_coeff_a=0.0,
        exclude_outside=0,
    )


@op("Upsample", since=9, shape=resize_shape_10)
def upsample(ctx: Context | None, x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    if np.any(np.asarray(scales) < 1):
        raise OpError(f"scales {np.asarray(scales).tolist()} must be at least 1")
    return resize_10(ctx, x, scales, mode=mode)


def upsample_shape_7(x: Info, *, scales: Sequence[float], mode: str = "nearest") -> Info:
    """Infer the output shape of Upsample-7."""
    return Info(x.dtype, None if x.shape is None else _output_shape(x.shape, axes_of(x, scales, None, None, "stretch")))


@op("Upsample", since=7, shape=upsample_shape_7)
def upsample_7(ctx: Context | None, x: Array, *, scales: Sequence[float], mode: str = "nearest") -> Array:
    return upsample(ctx, x, np.asarray(scales, np.float32), mode=mode)


def upsample_shape_1(x: Info, *, height_scale: float, width_scale: float, mode: str = "nearest") -> Info:
    """Infer the output shape of Upsample-1."""
    return upsample_shape_7(x, scales=(1, 1, height_scale, width_scale))


@op("Upsample", since=1, shape=upsample_shape_1)
def upsample_1(
    ctx: Context | None, x: Array, *, height_scale: float, width_scale: float, mode: str = "nearest"
) -> Array:
    return upsample_7(ctx, x, scales=(1, 1, height_scale, width_scale), mode="linear" if mode == "bilinear" else mode)
