"""Pooling of channels-last images, global and by windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Geometry,
    Image,
    flat,
    float32_refused,
    geometry_of,
    geometry_refused,
    image,
    temporary,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.ops.pool import PoolAttributes, average_pool, global_average_pool, global_max_pool, max_pool, pool_windows
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

_LOWEST = np.float32(-math.inf)
_ZERO = np.float32(0)

_RUN = 256
"""Pixels per partial sum; partial sums keep rounding errors small."""

_LINE = 16
"""Channels of a work item, which is not divided between threads: a cache line."""


@kernel
def global_mean(
    x: Array, batch: int, pixels: int, channels: int, out: Array, partial: Array, part: int, parts: int
) -> None:
    """Compute out[batch, channels] = means of the images x[batch, pixels, channels].

    `partial`, as large as `out`, holds the sums of one run of pixels.
    """
    begin, end = share((channels + _LINE - 1) // _LINE, part, parts)
    begin, end = begin * _LINE, min(end * _LINE, channels)
    count = np.float32(pixels)
    for item in range(batch):
        # slices indexed from 0, because only then the compiler removes numba's handling of negative indices
        total = out[item * channels + begin : item * channels + end]
        run = partial[item * channels + begin : item * channels + end]
        for c in range(end - begin):
            total[c] = _ZERO
        for first in range(0, pixels, _RUN):
            for c in range(end - begin):
                run[c] = _ZERO
            last = min(first + _RUN, pixels)
            p = first
            while p + 4 <= last:
                # four pixels at a time, because storing and reloading a sum takes as long as adding four of them
                at = (item * pixels + p) * channels
                r0, r1 = x[at + begin : at + end], x[at + channels + begin : at + channels + end]
                at += 2 * channels
                r2, r3 = x[at + begin : at + end], x[at + channels + begin : at + channels + end]
                for c in range(end - begin):
                    run[c] += (r0[c] + r1[c]) + (r2[c] + r3[c])
                p += 4
            while p < last:
                at = (item * pixels + p) * channels
                row = x[at + begin : at + end]
                for c in range(end - begin):
                    run[c] += row[c]
                p += 1
            for c in range(end - begin):
                total[c] += run[c]
        for c in range(end - begin):
            total[c] /= count


@kernel
def pool_windowed(
    x: Image, out: Image, geometry: Geometry, ends: tuple[int, int], average: int, part: int, parts: int
) -> None:
    """Compute the maxima of windows or, with `average`, the means over the taps inside the image widened by pads.

    `ends` is how far beyond the image, at the bottom and at the right, taps still count; `average` is 1 if leading pads
    don't count and 2 if they do.
    """
    c = x.channels
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    before_h, before_w = (max(p_h, 0), max(p_w, 0)) if average == 2 else (0, 0)
    first_row, end_row = share(out.batch * out.height, part, parts)
    for line in range(first_row, end_row):
        item, y = line // out.height, line % out.height
        top = y * s_h - p_h
        i0, i1 = inside(top, d_h, k_h, x.height)
        n0, n1 = inside(top + before_h, d_h, k_h, x.height + before_h + ends[0])
        for z in range(out.width):
            left = z * s_w - p_w
            j0, j1 = inside(left, d_w, k_w, x.width)
            m0, m1 = inside(left + before_w, d_w, k_w, x.width + before_w + ends[1])
            o = (line * out.width + z) * c
            result = out.data[o : o + c]
            for k in range(c):
                result[k] = _ZERO if average else _LOWEST
            for i in range(i0, i1):
                for j in range(j0, j1):
                    at = ((item * x.height + top + i * d_h) * x.width + left + j * d_w) * c
                    pixel = x.data[at : at + c]
                    if average:
                        for k in range(c):
                            result[k] += pixel[k]
                    else:
                        for k in range(c):
                            a, b = pixel[k], result[k]
                            result[k] = b if b > a or b != b else a
            if average:
                count = np.float32(max((n1 - n0) * (m1 - m0), 1))
                for k in range(c):
                    result[k] /= count


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, x: Info | None) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x)


def windows_refused(x: Info | None, geometry: PoolAttributes, storage_order: int) -> str | None:
    """Refuse windows that no kernel supports."""
    if x is None or x.shape is None or len(x.shape) not in (3, 4) or storage_order not in (0, 1):
        return "not one or two spatial axes"
    if x.value is not None:
        return "the input is constant"
    try:
        windows = pool_windows(x, geometry)
    except OpError as error:
        return str(error)
    if geometry.ceil_mode and min(windows.end) < 0:
        return "the last windows reach into pixels that negative pads cut off"
    return geometry_refused(windows)


def _windows_refused(
    out: Info, x: Info | None, *, geometry: PoolAttributes, storage_order: int = 0, **_: Any
) -> str | None:
    return windows_refused(x, geometry, storage_order) or _refused(out, x)


def _bind_windows(out: Array, x: Array, average: int, geometry: PoolAttributes) -> Call:
    w = pool_windows(x, geometry)
    ends = (0, *w.end)[-2:] if average == 2 else (0, 0)
    return Call(pool_windowed, (image(x), image(out), geometry_of(w), ends, average))


@fast(max_pool, when=_windows_refused, by_item=True)
def bind_max_pool(
    pool: ConstantPool, out: Array, x: Array, *, geometry: PoolAttributes, storage_order: int = 0
) -> Call:
    """Bind maxima without indices; a node whose indices are used runs in numpy."""
    return _bind_windows(out, x, 0, geometry)


@fast(average_pool, when=_windows_refused, by_item=True)
def bind_average_pool(
    pool: ConstantPool, out: Array, x: Array, *, geometry: PoolAttributes, count_include_pad: int = 0
) -> Call:
    """Bind the means of windows."""
    return _bind_windows(out, x, 2 if count_include_pad else 1, geometry)


@fast(global_average_pool, when=_refused, by_item=True)
def bind_global_mean(pool: ConstantPool, out: Array, x: Array, *_: Array | None, **__: Any) -> Call:
    """Bind the means over all spatial axes."""
    batch, channels = x.shape[:2]
    pixels = x.size // (batch * channels)
    return Call(global_mean, (flat(x), batch, pixels, channels, flat(out), temporary(batch * channels)))


@fast(global_max_pool, when=_refused, by_item=True)
def bind_global_max(pool: ConstantPool, out: Array, x: Array) -> Call:
    """Bind the maxima over all spatial axes, as one window."""
    batch, channels = x.shape[:2]
    pixels = x.size // (batch * channels)
    images = Image(flat(x), batch, 1, pixels, channels), Image(flat(out), batch, 1, 1, channels)
    return Call(pool_windowed, (*images, Geometry(1, pixels, 1, 1, 1, 1, 0, 0), (0, 0), 0))


def _spatial_mean_refused(
    out: Info, x: Info | None, axes_input: Info | None = None, *, axes: Any = None, **_: Any
) -> str | None:
    """Refuse all but a mean over all spatial axes; `axes` is an attribute before opset 18 and an input from then on."""
    if axes_input is not None:
        if axes_input.value is None:
            return "axes are not constant"
        axes = axes_input.value.ravel()
    # with rank 3 it is more often part of a normalisation of rows than the pooling of a sequence
    if x is None or x.shape is None or len(x.shape) < 4 or axes is None:
        return "fewer than two spatial axes"
    if {int(a) % len(x.shape) for a in axes} != set(range(2, len(x.shape))):
        return "axes are not the spatial ones"
    # without keepdims the two remaining axes have the same memory order
    return _refused(out, x)


for _function in functions("ReduceMean"):
    fast(_function, when=_spatial_mean_refused)(bind_global_mean)
