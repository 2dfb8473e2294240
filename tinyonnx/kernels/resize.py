"""Resampling of channels-last images: a pixel of the result is a weighted sum of pixels.

Which pixels, and with which weights, is worked out once for rows and once for columns, by
the operator's own arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Shape, float32_refused, image
from tinyonnx.ops import resize as meaning
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO = np.float32(0)


@kernel
def resample(
    x: Array, x_shape: Shape, out: Array, out_shape: Shape, rows: Array, row_weights: Array, columns: Array,
    column_weights: Array, taps: tuple[int, int], part: int, parts: int,
) -> None:  # fmt: skip
    """out[y, z] = Σ row_weights[y, i]·column_weights[z, j]·x[rows[y, i], columns[z, j]] for `taps` i and j each."""
    batch, height, width, c = x_shape
    _, out_height, out_width, _ = out_shape
    down, across = taps
    first, end = share(batch * out_height, part, parts)
    for line in range(first, end):
        item, y = line // out_height, line % out_height
        for z in range(out_width):
            o = (line * out_width + z) * c
            result = out[o : o + c]
            if down == 1 and across == 1:
                at = ((item * height + rows[y]) * width + columns[z]) * c
                pixel = x[at : at + c]
                for k in range(c):
                    result[k] = pixel[k]
            else:
                for k in range(c):
                    result[k] = _ZERO
                for i in range(down):
                    base = (item * height + rows[y * down + i]) * width
                    for j in range(across):
                        at = (base + columns[z * across + j]) * c
                        weight = row_weights[y * down + i] * column_weights[z * across + j]
                        pixel = x[at : at + c]
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
    """From opset 11 on."""
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
    """Asymmetric, as the operators were before."""
    taps = {
        axis.at: meaning.axis_taps(
            axis, mode=mode, coordinate_transformation_mode="asymmetric",
            nearest_mode="floor" if axis.scale >= 1 else "ceil",
        )
        for axis in meaning.axes_of(x, scales, None, None, "stretch")
    }  # fmt: skip
    return _call(out, x, taps)


def _call(out: Array, x: Array, taps: dict[int, tuple[Array, Array]]) -> Call:
    (source, x_shape), (target, out_shape) = image(x), image(out)
    nothing = np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32)
    (rows, row_weights), (columns, column_weights) = (
        taps.get(axis, (np.arange(x.shape[axis])[None], np.ones((1, x.shape[axis])))) if axis > 1 else nothing
        for axis in (x.ndim - 2, x.ndim - 1)
    )
    tables = [
        np.ascontiguousarray(table.T).reshape(-1).astype(kind)
        for table, kind in (
            (rows, np.int64),
            (row_weights, np.float32),
            (columns, np.int64),
            (column_weights, np.float32),
        )
    ]
    return Call(resample, (source, x_shape, target, out_shape, *tables, (len(rows), len(columns))))
