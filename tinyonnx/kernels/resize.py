"""Resampling of channels-last images: a pixel of the result is a weighted sum of pixels.

The indices and weights of these pixels are computed before each run, once for rows and once for columns, so that a plan
is valid for every size.
"""

from __future__ import annotations

from math import floor
from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Image, float32_refused, image, temporary
from tinyonnx.kernels._strided import bits, movable
from tinyonnx.ops import resize as meaning
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.integers import maximum

_ZERO, _ONE = np.float32(0), np.float32(1)

NEAREST, LINEAR, CUBIC = range(3)

HALF_PIXEL, SYMMETRIC, PYTORCH, ALIGN_CORNERS, ASYMMETRIC, HALF_PIXEL_FOR_NEAREST = range(6)

PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL = range(4)

_MODES = {"nearest": NEAREST, "linear": LINEAR, "cubic": CUBIC}

_TRANSFORMATIONS = {
    "half_pixel": HALF_PIXEL,
    meaning.SYMMETRIC: SYMMETRIC,
    "pytorch_half_pixel": PYTORCH,
    "align_corners": ALIGN_CORNERS,
    meaning.ASYMMETRIC: ASYMMETRIC,
    "tf_half_pixel_for_nn": HALF_PIXEL_FOR_NEAREST,
}

_NEAREST_MODES = {
    "round_prefer_floor": PREFER_FLOOR,
    "round_prefer_ceil": PREFER_CEIL,
    "floor": FLOOR,
    "ceil": CEIL,
}


class AxisScale(NamedTuple):
    """An axis of `size` pixels that is resized to `out` by `scale`, or by numerator / denominator if `scale` is 0."""

    size: int
    out: int
    numerator: int
    denominator: int
    scale: float


class Interpolation(NamedTuple):
    """The attributes of a resize, as numbers."""

    mode: int
    transformation: int
    nearest: int
    antialias: int
    exclude_outside: int
    cubic_coeff_a: float


class Sampling(NamedTuple):
    """The indices and weights, both [out, taps], of the pixels along an axis that each pixel of the result is a sum of.

    The first `used[0]` taps count.
    """

    sources: Array
    weights: Array
    used: Array
    taps: int


@jit
def _position(x: Any, before: Any, denominator: Any, numerator: Any, shift: Any, after: Any) -> Any:
    return (shift + (x + before) * denominator / numerator) - after


@jit
def _rounded(x: Any, half: Any, mode: int) -> Any:
    if mode == PREFER_FLOOR:
        return np.ceil(x - half)
    if mode == PREFER_CEIL:
        return np.floor(x + half)
    return np.ceil(x) if mode == CEIL else np.floor(x)


@jit
def _weight(distance: float, index: float, last: float, rule: Interpolation) -> float:
    """Return the weight of a pixel at a distance, by the triangle or Keys' cubic; 0 for excluded pixels."""
    d, a = abs(distance), rule.cubic_coeff_a
    if rule.exclude_outside != 0 and (index < 0 or index > last):
        return 0.0
    if rule.mode == LINEAR:
        return max(1.0 - d, 0.0)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


@kernel
def find_taps(axis: AxisScale, rule: Interpolation, sampling: Sampling, part: int, parts: int) -> None:
    """Compute the taps of an axis as the numpy operator does: nearest by scale in float32, all else in float64."""
    if part > 0:
        return
    sampling.used[0] = 1
    single = rule.mode == NEAREST and axis.scale > 0
    numerator, denominator = float(axis.numerator), float(axis.denominator)
    if axis.scale > 0:
        numerator, denominator = axis.scale, 1.0
        width = float(np.float32(axis.size) * np.float32(axis.scale))
    else:
        width = axis.size * numerator / denominator
    squeeze = min(numerator / denominator, 1.0) if rule.antialias != 0 else 1.0
    before, shift, after, last = 0.5, 0.0, 0.5, float(axis.size - 1)
    same = axis.out == axis.size and numerator == denominator
    if rule.transformation == SYMMETRIC:
        shift = axis.size / 2 * (1 - axis.out / width)
    elif rule.transformation == ASYMMETRIC:
        before, after = 0.0, 0.0
    elif rule.transformation == HALF_PIXEL_FOR_NEAREST:
        after = 0.0
    elif rule.transformation == ALIGN_CORNERS:
        before, after, denominator = 0.0, 0.0, last
        numerator = (axis.out if axis.out >= axis.size else width) - 1.0
    if same or (axis.out == 1 and (rule.transformation == PYTORCH or rule.transformation == ALIGN_CORNERS)):
        numerator, denominator, before, shift, after = 1.0, 1.0, 0.0, 0.0, 0.0
    if rule.mode == NEAREST or same:
        for z in range(axis.out):
            if single:
                narrow = _position(
                    np.float32(z), np.float32(before), np.float32(denominator), np.float32(numerator),
                    np.float32(shift), np.float32(after),
                )  # fmt: skip
                at = float(_rounded(narrow, np.float32(0.5), rule.nearest))
            else:
                at = _rounded(_position(float(z), before, denominator, numerator, shift, after), 0.5, rule.nearest)
            sampling.sources[z * sampling.taps] = int(min(max(at, 0.0), last))
            sampling.weights[z * sampling.taps] = _ONE
        return
    reach = sampling.taps // 2
    for z in range(axis.out):
        at = _position(float(z), before, denominator, numerator, shift, after)
        first, total = np.floor(at) + 1 - reach, 1.0
        if rule.exclude_outside != 0 or rule.antialias != 0:
            total = 0.0
            for i in range(sampling.taps):
                total += _weight((first + i - at) * squeeze, first + i, last, rule)
            if total == 0:
                total = 1.0
        for i in range(sampling.taps):
            o = z * sampling.taps + i
            sampling.sources[o] = int(min(max(first + i, 0.0), last))
            sampling.weights[o] = np.float32(_weight((first + i - at) * squeeze, first + i, last, rule) / total)
    _drop_unused(axis.out, sampling)


@jit
def _drop_unused(out: int, sampling: Sampling) -> None:
    """Remove taps whose weight is 0 for all pixels, because 0 times infinity would be NaN."""
    used = 0
    for i in range(sampling.taps):
        wanted = False
        for z in range(out):
            wanted = wanted or sampling.weights[z * sampling.taps + i] != 0
        if wanted:
            for z in range(out):
                o = z * sampling.taps
                sampling.sources[o + used] = sampling.sources[o + i]
                sampling.weights[o + used] = sampling.weights[o + i]
            used += 1
    sampling.used[0] = used


@kernel
def resample(x: Image, out: Image, rows: Sampling, columns: Sampling, part: int, parts: int) -> None:
    """Sum out[y, z] = Σ rows.weights[y, i] · columns.weights[z, j] · x[rows.sources[y, i], columns.sources[z, j]]."""
    c, down, across = x.channels, rows.used[0], columns.used[0]
    first, end = share(out.batch * out.height, part, parts)
    for line in range(first, end):
        item, y = line // out.height, line % out.height * rows.taps
        for z in range(out.width):
            o, across_z = (line * out.width + z) * c, z * columns.taps
            result = out.data[o : o + c]
            for k in range(c):
                result[k] = _ZERO
            for i in range(down):
                base = (item * x.height + rows.sources[y + i]) * x.width
                for j in range(across):
                    at = (base + columns.sources[across_z + j]) * c
                    weight = rows.weights[y + i] * columns.weights[across_z + j]
                    pixel = x.data[at : at + c]
                    for k in range(c):
                        result[k] += weight * pixel[k]


@kernel
def repeat_pixels(x: Image, out: Image, rows: Sampling, columns: Sampling, part: int, parts: int) -> None:
    """Copy out[y, z] = x[rows.sources[y], columns.sources[z]], pixels of integers of any size."""
    c = x.channels
    first, end = share(out.batch * out.height, part, parts)
    for line in range(first, end):
        item, y = line // out.height, line % out.height
        base = (item * x.height + rows.sources[y]) * x.width
        for z in range(out.width):
            o, at = (line * out.width + z) * c, (base + columns.sources[z]) * c
            result, pixel = out.data[o : o + c], x.data[at : at + c]
            for k in range(c):
                result[k] = pixel[k]


# -- operators --------------------------------------------------------------------------


def _refused(
    out: Info, x: Info | None, roi: Info | None = None, scales: Info | None = None, sizes: Info | None = None, *,
    axes: Any = None, coordinate_transformation_mode: str = "half_pixel", mode: str = "nearest", **_: Any,
) -> str | None:  # fmt: skip
    if x is None or x.value is not None or x.shape is None or len(x.shape) not in (3, 4):
        return "not one or two spatial axes, or a constant"
    if any(i is not None and i.value is None for i in (scales, sizes)):
        return "the sizes depend on data"
    if out.shape is None or out.shape[:2] != x.shape[:2]:
        return "batch or channels are resized"
    if mode not in ("nearest", "linear", "cubic") or coordinate_transformation_mode == "tf_crop_and_resize":
        return f"mode {mode}, {coordinate_transformation_mode}"
    if mode == "nearest" and movable(x.dtype) and x.dtype == out.dtype:
        return None
    return float32_refused(out, x)


@fast(meaning.resize, when=_refused)
def bind_resize(
    pool: ConstantPool, out: Array, x: Array, roi: Array | None = None, scales: Array | None = None,
    sizes: Array | None = None, *, axes: Any = None, keep_aspect_ratio_policy: str = "stretch",
    **attributes: Any,
) -> list[Call]:  # fmt: skip
    """Bind a Resize of opset 11 or later."""
    chosen = meaning.axes_of(x, scales, sizes, axes, keep_aspect_ratio_policy)
    return _calls(out, x, {axis.at: (axis, _interpolation(**attributes)) for axis in chosen})


def _interpolation(
    *, mode: str = "nearest", coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor", antialias: int = 0, cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0, **_: Any,
) -> Interpolation:  # fmt: skip
    transformation, nearest = _TRANSFORMATIONS[coordinate_transformation_mode], _NEAREST_MODES[nearest_mode]
    return Interpolation(_MODES[mode], transformation, nearest, antialias, exclude_outside, float(cubic_coeff_a))


def _refused_10(
    out: Info, x: Info | None, scales: Info | None = None, *, mode: str = "nearest", **_: Any
) -> str | None:
    return _refused(out, x, None, scales, mode=mode)


@fast(meaning.resize_10, when=_refused_10)
@fast(meaning.upsample, when=_refused_10)
def bind_resize_10(pool: ConstantPool, out: Array, x: Array, scales: Array, *, mode: str = "nearest") -> list[Call]:
    """Bind a Resize before opset 11, whose coordinates are asymmetric."""
    chosen = {}
    for axis in meaning.axes_of(x, scales, None, None, "stretch"):
        nearest = "floor" if axis.scale >= 1 else "ceil"
        rule = _interpolation(mode=mode, coordinate_transformation_mode=meaning.ASYMMETRIC, nearest_mode=nearest)
        chosen[axis.at] = axis, rule
    return _calls(out, x, chosen)


def _calls(out: Array, x: Array, chosen: dict[int, tuple[meaning.Axis, Interpolation]]) -> list[Call]:
    down, rows = _taps_of(x, x.ndim - 2, chosen)
    across, columns = _taps_of(x, x.ndim - 1, chosen)
    source, target = image(x), image(out)
    if all(rule.mode == NEAREST for _, rule in chosen.values()):
        source, target = (each._replace(data=bits(each.data)) for each in (source, target))
        return [down, across, Call(repeat_pixels, (source, target, rows, columns))]
    return [down, across, Call(resample, (source, target, rows, columns))]


def _taps_of(x: Array, at: int, chosen: dict[int, tuple[meaning.Axis, Interpolation]]) -> tuple[Call, Sampling]:
    """Return the call that computes the taps of an axis, and their memory; an axis that isn't resized is copied."""
    if at in chosen and at > 1:
        axis, rule = chosen[at]
        by_scale = axis.precision is np.float32
        scaling = AxisScale(axis.size, axis.out, *((0, 1, axis.ratio[0]) if by_scale else (*axis.ratio, 0.0)))
    else:
        size = x.shape[at] if at > 1 else 1
        scaling, rule = AxisScale(size, size, 1, 1, 0.0), _interpolation()
    taps = _most_taps(scaling, rule)
    weights = temporary(scaling.out * taps)
    sampling = Sampling(temporary(scaling.out * taps, np.int64), weights, temporary(1, np.int64), taps)
    return Call(find_taps, (scaling, rule, sampling)), sampling


def _most_taps(scaling: AxisScale, rule: Interpolation) -> int:
    """Return an upper bound of the number of pixels that a pixel of the result is a sum of."""
    if rule.mode == NEAREST:
        return 1
    support = 1 if rule.mode == LINEAR else 2
    if not rule.antialias:
        return 2 * (support + 1)
    if scaling.scale > 0:
        return 2 * (floor(support / min(scaling.scale, 1.0)) + 1)
    needed = -(-support * scaling.denominator // maximum(scaling.numerator, 1))
    taps: int = 2 * (maximum(support, needed) + 1)
    return taps
