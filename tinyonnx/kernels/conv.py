"""Convolutions of any kernel, stride, dilation, padding and group, without unfolding the input.

In a channels-last image the elements under one row of the kernel are contiguous, so an output pixel is a product of a
few runs of memory with the packed weights: the GEMM tile iterates over the runs. At the borders the runs and their
weights are cut. If an image is so narrow that tiles would rarely be full, the elements under the kernel are first
gathered for a block of pixels, which may span several lines.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, POSTPONED, ROWS_3, Lines, Rows, Taps
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Convolution,
    Geometry,
    Image,
    conv_refused,
    epilogue_of,
    geometry_of,
    image,
    is_depthwise,
    memory_or,
)
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import Panels, bias_panels, multiply_matrix, multiply_rows, pack_bias, pack_panels
from tinyonnx.kernels.pointwise import pointwise_refused
from tinyonnx.ops.conv import ConvAttributes, conv, conv_windows
from tinyonnx.ops.fused import Activation, fused_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ROWS = 8
"""Pixels per work item, which is not divided between threads."""

_GATHERED = 1 << 18
"""Elements in a block of gathered pixels: the block stays in the L2 cache, and the weights are read less often."""

_IN_TILE, _ALONE = 2, 5
"""Relative costs of a pixel inside full tiles, and of one outside. Measured."""

_GATHERING = 12
"""Cost of gathering a tap, relative to its product with one filter. Measured."""

_ZERO = np.float32(0)


@jit
def inside(first: int, step: int, taps: int, size: int) -> tuple[int, int]:
    """Return the range of taps at first, first + step, … that lie in [0, size)."""
    begin = min(max(-(first // step), 0), taps)
    end = min(max((size - first + step - 1) // step, begin), taps)
    return begin, end


@jit
def interior(taps: int, stride: int, dilation: int, pad: int, size: int, out: int) -> tuple[int, int]:
    """Return the range of output positions whose taps all lie in [0, size)."""
    begin = min(max(-(-pad // stride), 0), out)
    end = min(max((size - 1 - (taps - 1) * dilation + pad) // stride + 1, begin), out)
    return begin, end


@kernel
def convolve(
    x: Image, layer: Convolution, groups: int, residual: Array, out: Image, part: int, parts: int
) -> None:  # fmt: skip
    """Convolve; weights and bias are packed by group."""
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = layer.geometry
    width, channels, filters, epilogue = x.width, x.channels, out.channels, layer.epilogue
    c, n = channels // groups, filters // groups
    columns = (n + LANES - 1) // LANES * LANES
    depth = k_h * k_w * c
    merged = d_w == 1 and groups == 1
    begin, end = interior(k_w, s_w, d_w, p_w, width, out.width)
    first_row, end_row = share(out.batch * out.height, part, parts)
    for row in range(first_row, end_row):
        item, y = row // out.height, row % out.height
        top = y * s_h - p_h
        i0, i1 = inside(top, d_h, k_h, x.height)
        line = ((item * x.height + top + i0 * d_h) * width - p_w) * channels
        o_line = row * out.width * filters
        # a position outside the interior is computed alone; the interior is computed at once when `begin` is reached
        p = 0
        while p < out.width:
            count = end - begin if p == begin and end > begin else 1
            j0, j1 = inside(p * s_w - p_w, d_w, k_w, width)
            taps = Taps(i1 - i0, d_h * width * channels, 1, 0, (j1 - j0) * c, k_w * c)
            if not merged:
                taps = Taps(i1 - i0, d_h * width * channels, j1 - j0, d_w * channels, c, k_w * c)
            at = line + (p * s_w + j0 * d_w) * channels
            for g in range(groups):
                multiply_rows(
                    Rows(x.data, at + g * c, s_w * channels), count, taps,
                    Panels(layer.data, g * depth * columns, (i0 * k_w + j0) * c, depth, layer.bias, g * columns), n,
                    Lines(out.data, residual, o_line + p * filters + g * n, filters, LANES), epilogue,
                )  # fmt: skip
            p += count
        if epilogue.activation >= POSTPONED:
            activate(out.data[o_line : o_line + out.width * filters], epilogue)


@jit
def gather_pixel(x: Image, geometry: Geometry, item: int, y: int, z: int, window: Array) -> None:
    """Copy the pixels of output (y, z)'s receptive field to window[k_h, k_w, channels], zeros outside the image."""
    width, channels, k_w, d_w = x.width, x.channels, geometry.k_w, geometry.d_w
    top, left = y * geometry.s_h - geometry.p_h, z * geometry.s_w - geometry.p_w
    j0, j1 = inside(left, d_w, k_w, width)
    for i in range(geometry.k_h):
        target = window[i * k_w * channels : (i + 1) * k_w * channels]
        row = top + i * geometry.d_h
        if not 0 <= row < x.height:
            for k in range(k_w * channels):
                target[k] = _ZERO
            continue
        at = ((item * x.height + row) * width + left) * channels
        for k in range(j0 * channels):
            target[k] = _ZERO
        for k in range(j1 * channels, k_w * channels):
            target[k] = _ZERO
        if d_w == 1:
            at += j0 * channels
            source, middle = x.data[at : at + (j1 - j0) * channels], target[j0 * channels : j1 * channels]
            for k in range((j1 - j0) * channels):
                middle[k] = source[k]
        else:
            for j in range(j0, j1):
                for k in range(channels):
                    target[j * channels + k] = x.data[at + j * d_w * channels + k]


@kernel
def convolve_gathered(
    x: Image, layer: Convolution, block: int, residual: Array, out: Image, scratch: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Convolve with one group, gathering up to `block` pixels at a time.

    The result is that of `convolve`. `scratch` holds the gathered pixels of each share, [pixels, taps].
    """
    geometry, filters, epilogue = layer.geometry, out.channels, layer.epilogue
    depth = geometry.k_h * geometry.k_w * x.channels
    pixels = out.height * out.width
    room = scratch.shape[0] // parts * part
    first, end = share((out.batch * pixels + _ROWS - 1) // _ROWS, part, parts)
    first, end = first * _ROWS, min(end * _ROWS, out.batch * pixels)
    blocks = (end - first + block - 1) // block
    for b in range(blocks):
        # whole tiles of rows
        begin, stop = share((end - first + _ROWS - 1) // _ROWS, b, blocks)
        begin, stop = begin * _ROWS, min(stop * _ROWS, end - first)
        for r in range(stop - begin):
            pixel = first + begin + r
            window = scratch[room + r * depth : room + (r + 1) * depth]
            gather_pixel(x, geometry, pixel // pixels, pixel % pixels // out.width, pixel % out.width, window)
        o_at = (first + begin) * filters
        multiply_matrix(
            Rows(scratch, room, depth), stop - begin,
            Panels(layer.data, 0, 0, depth, layer.bias, 0), filters,
            Lines(out.data, residual, o_at, filters, LANES), epilogue,
        )  # fmt: skip
        if epilogue.activation >= POSTPONED:
            activate(out.data[o_at : o_at + (stop - begin) * filters], epilogue)


# -- operators --------------------------------------------------------------------------


def gathered_rows(x: Image, out: Image, geometry: Geometry, groups: int) -> int:
    """Return the number of pixels to gather at a time, or 0 if gathering would be slower."""
    _, k_w, _, s_w, _, d_w, _, p_w = geometry
    if groups > 1 or out.channels < 2 * LANES:
        return 0
    begin, end = interior(k_w, s_w, d_w, p_w, x.width, out.width)
    middle = end - begin
    full = -(-middle // ROWS_3) * ROWS_3 * _IN_TILE if middle >= ROWS_3 else middle * _ALONE
    # in integers, because sizes may be expressions
    cost = (full + (out.width - middle) * _ALONE) * out.channels
    if cost < (out.channels + _GATHERING) * out.width * _IN_TILE:
        return 0
    block = max(_GATHERED // (geometry.k_h * k_w * x.channels) // _ROWS, 3) * _ROWS
    return min(block, -(-out.batch * out.height * out.width // _ROWS) * _ROWS)


def pack(w: Array, groups: int) -> Array:
    """Pack weights [filters, channels, *kernel], group by group, into panels of rows [*kernel, channels]."""
    rows = np.moveaxis(w, 1, -1).reshape(groups, w.shape[0] // groups, -1)
    return np.concatenate([pack_panels(group.T) for group in rows])


def _pack_bias(b: Array, groups: int) -> Array:
    return np.concatenate([pack_bias(group) for group in b.reshape(groups, -1)])


def _refused(
    out: Info, x: Info | None, w: Info | None, *others: Info | None, geometry: ConvAttributes,
    activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if pointwise_refused(out, x, w, *others, geometry=geometry, activation=activation) is None:
        return "pointwise convolutions have a kernel of their own"
    if is_depthwise(x, w, geometry.group):
        return "depthwise convolutions have a kernel of their own"
    return conv_refused(out, x, w, *others, geometry=geometry, activation=activation)


@fast(conv, when=_refused, by_item=True)
@fast(fused_conv, when=_refused, by_item=True)
def bind_conv(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Bind a convolution; its pixels are gathered where that is faster."""
    source, target, group = image(x), image(out), geometry.group
    numbers = geometry_of(conv_windows(x, w, b, geometry=geometry))
    packed = pool.derive(("conv", group), lambda w: pack(w, group), w)
    if group == 1:
        bias = bias_panels(pool, b, w.shape[0])
    else:
        zeros = np.zeros(w.shape[0], np.float32)
        bias = pool.derive(("conv bias", group), lambda w, *b: _pack_bias(b[0] if b else zeros, group), w, *_given(b))
    layer = Convolution(packed, bias, epilogue_of(activation, residual is not None), numbers)
    other = memory_or(residual, target.data)
    block = gathered_rows(source, target, numbers, group)
    if block:
        return Call(convolve_gathered, (source, layer, block, other, target), scratch=block * w[0].size)
    return Call(convolve, (source, layer, group, other, target))


def _given(b: Array | None) -> tuple[Array, ...]:
    return () if b is None else (b,)
