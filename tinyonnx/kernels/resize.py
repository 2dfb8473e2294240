"""Resampling of channels-last images: a pixel of the result is a weighted sum of pixels.

The pixels and weights are computed once for rows and once for columns, by the numpy operator's
functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Image, float32_refused, image
from tinyonnx.ops import resize as meaning
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO = np.float32(0)


class Sampling(NamedTuple):
    """The pixels along an axis that each pixel of the result is a sum of, `taps` each, and their weights."""

    sources: Array
    weights: Array
    taps: int


@kernel
def resample(x: Image, out: Image, rows: Sampling, columns: Sampling, part: int, parts: int) -> None:
    """out[y, z] = Σ rows.weights[y, i] · columns.weights[z, j] · x[rows.sources[y, i], columns.sources[z, j]]."""
    c, down, across = x.channels, rows.taps, columns.taps
    first, end = share(out.batch * out.height, part, parts)
    for line in range(first, end):
        item, y = line // out.height, line % out.height
        for z in range(out.width):
            o = (line * out.width + z) * c
            result = out.data[o : o + c]
            if down == 1 and across == 1:
                at = ((item * x.height + rows.sources[y]) * x.width + columns.sources[z]) * c
                pixel = x.data[at : at + c]
                for k in range(c):
                    result[k] = pixel[k]
            else:
                for k in range(c):
                    result[k] = _ZERO
                for i in range(down):
                    base = (item * x.height + rows.sources[y * down + i]) * x.width
                    for j in range(across):
                        at = (base + columns.sources[z * across + j]) * c
                        weight = rows.weights[y * down + i] * columns.weights[z * across + j]
                        pixel = x.data[at : at + c]
                        for k in range(c):
                            result[k] += weight * pixel[k]


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
    return float32_refused(out, x)


@fast(meaning.resize, when=_refused)
def bind_resize(
    pool: ConstantPool, out: Array, x: Array, roi: Array | None = None, scales: Array | None = None,
    sizes: Array | None = None, *, axes: Any = None, keep_aspect_ratio_policy: str = "stretch",
    nearest_mode: str = "round_prefer_floor", **attributes: Any,
) -> Call:  # fmt: skip
    """Bind a resize of opset 11 or later."""
    chosen = meaning.axes_of(x, scales, sizes, axes, keep_aspect_ratio_policy)
    taps = {axis.at: meaning.axis_taps(axis, nearest_mode=nearest_mode, **attributes) for axis in chosen}
    return _call(out, x, taps)


def _refused_10(
    out: Info, x: Info | None, scales: Info | None = None, *, mode: str = "nearest", **_: Any
) -> str | None:
    return _refused(out, x, None, scales, mode=mode)


@fast(meaning.resize_10, when=_refused_10)
@fast(meaning.upsample, when=_refused_10)
def bind_resize_10(pool: ConstantPool, out: Array, x: Array, scales: Array, *, mode: str = "nearest") -> Call:
    """Bind a resize before opset 11, whose coordinates are asymmetric."""
    taps = {
        axis.at: meaning.axis_taps(
            axis, mode=mode, coordinate_transformation_mode="asymmetric",
            nearest_mode="floor" if axis.scale >= 1 else "ceil",
        )
        for axis in meaning.axes_of(x, scales, None, None, "stretch")
    }  # fmt: skip
    return _call(out, x, taps)


def _call(out: Array, x: Array, taps: dict[int, tuple[Array, Array]]) -> Call:
    def sampling(axis: int) -> Sampling:
        """The transposed taps of an axis; an axis that isn't resized is copied."""
        if axis in taps and axis > 1:
            sources, weights = taps[axis]
        else:
            size = x.shape[axis] if axis > 1 else 1
            sources, weights = np.arange(size)[None], np.ones((1, size))
        return Sampling(sources.T.ravel().astype(np.int64), weights.T.ravel().astype(np.float32), len(sources))

    return Call(resample, (image(x), image(out), sampling(x.ndim - 2), sampling(x.ndim - 1)))
