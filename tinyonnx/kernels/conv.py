"""Convolutions of any kernel, stride, dilation, padding and group, without unfolding the input.

In a channels-last image the elements under one row of the kernel stand side by side, so an
output pixel is a product of a few runs of memory with the packed weights: the GEMM tile
walks over the runs. At the borders the runs are cut, and with them the weights. Where an
image is so narrow that tiles would rarely be full, the elements under the kernel are first
gathered for a block of pixels, which may then span lines.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, POSTPONED, ROWS_3
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Epilogue,
    Geometry,
    Shape,
    conv_refused,
    epilogue_of,
    geometry_of,
    image,
    is_depthwise,
)
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import bias_panels, multiply_rows, pack_bias, pack_panels
from tinyonnx.kernels.pointwise import pointwise_refused
from tinyonnx.ops.conv import ConvAttributes, conv, conv_windows
from tinyonnx.ops.fused import Activation, fused_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ROWS = 8
"""Pixels that are not divided between threads."""

_GATHERED = 1 << 18
"""Elements of a block of gathered pixels: they stay in the second cache, and the weights are seldom read again."""

_ALONE = 2.5
"""What a pixel costs outside full tiles, compared with one inside. Measured."""

_GATHERING = 12
"""What gathering costs per tap, compared with a product with one filter. Measured."""

_ZERO = np.float32(0)


@jit
def inside(first: int, step: int, taps: int, size: int) -> tuple[int, int]:
    """The range of taps at first, first + step, … that lie in [0, size)."""
    begin = min(max(-(first // step), 0), taps)
    end = min(max((size - first + step - 1) // step, begin), taps)
    return begin, end


@jit
def interior(taps: int, stride: int, dilation: int, pad: int, size: int, out: int) -> tuple[int, int]:
    """The range of output positions whose taps all lie in [0, size)."""
    begin = min(max(-(-pad // stride), 0), out)
    end = min(max((size - 1 - (taps - 1) * dilation + pad) // stride + 1, begin), out)
    return begin, end


@kernel
def convolve(
    x: Array, x_shape: Shape, w: Array, bias: Array, residual: Array, out: Array, out_shape: Shape,
    geometry: Geometry, groups: int, epilogue: Epilogue, part: int, parts: int,
) -> None:  # fmt: skip
    """Channels-last images, shapes (batch, height, width, channels); `w` and `bias` are packed by group."""
    batch, height, width, channels = x_shape
    _, out_height, out_width, filters = out_shape
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    c, n = channels // groups, filters // groups
    columns = (n + LANES - 1) // LANES * LANES
    depth = k_h * k_w * c
    merged = d_w == 1 and groups == 1
    begin, end = interior(k_w, s_w, d_w, p_w, width, out_width)
    first_row, end_row = share(batch * out_height, part, parts)
    for row in range(first_row, end_row):
        item, y = row // out_height, row % out_height
        top = y * s_h - p_h
        i0, i1 = inside(top, d_h, k_h, height)
        line = ((item * height + top + i0 * d_h) * width - p_w) * channels
        o_line = row * out_width * filters
        # a position outside the interior stands alone; the interior is the one at `begin`
        p = 0
        while p < out_width:
            count = end - begin if p == begin and end > begin else 1
            j0, j1 = inside(p * s_w - p_w, d_w, k_w, width)
            across = j1 - j0
            taps = (i1 - i0, d_h * width * channels, 1, 0, across * c, k_w * c)
            if not merged:
                taps = (i1 - i0, d_h * width * channels, across, d_w * channels, c, k_w * c)
            at = line + (p * s_w + j0 * d_w) * channels
            for g in range(groups):
                multiply_rows(
                    x, at + g * c, s_w * channels, count, taps, w, g * depth * columns, (i0 * k_w + j0) * c, depth,
                    bias, g * columns, n, out, o_line + p * filters + g * n, filters, LANES, residual, epilogue,
                )  # fmt: skip
            p += count
        if epilogue[1] >= POSTPONED:
            activate(out[o_line : o_line + out_width * filters], epilogue[1], epilogue[2], epilogue[3])


@kernel
def convolve_gathered(
    x: Array, x_shape: Shape, w: Array, bias: Array, residual: Array, out: Array, out_shape: Shape,
    geometry: Geometry, block: int, epilogue: Epilogue, scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """As `convolve` with one group, up to `block` pixels at a time; `scratch` has room for them, [pixels, taps]."""
    batch, height, width, channels = x_shape
    _, out_height, out_width, filters = out_shape
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    depth = k_h * k_w * channels
    taps = (1, 0, 1, 0, depth, 0)
    pixels = out_height * out_width
    room = scratch.shape[0] // parts * part
    rows = scratch[room : room + block * depth]
    first, end = share((batch * pixels + _ROWS - 1) // _ROWS, part, parts)
    first, end = first * _ROWS, min(end * _ROWS, batch * pixels)
    blocks = (end - first + block - 1) // block
    for b in range(blocks):
        begin, stop = share(end - first, b, blocks)
        for r in range(stop - begin):
            pixel = first + begin + r
            item, y, z = pixel // pixels, pixel % pixels // out_width, pixel % out_width
            top, left = y * s_h - p_h, z * s_w - p_w
            j0, j1 = inside(left, d_w, k_w, width)
            for i in range(k_h):
                line = (r * k_h + i) * k_w * channels
                target = rows[line : line + k_w * channels]
                if not 0 <= top + i * d_h < height:
                    for k in range(k_w * channels):
                        target[k] = _ZERO
                    continue
                at = ((item * height + top + i * d_h) * width + left) * channels
                for k in range(j0 * channels):
                    target[k] = _ZERO
                for k in range(j1 * channels, k_w * channels):
                    target[k] = _ZERO
                if d_w == 1:
                    at += j0 * channels
                    source, middle = x[at : at + (j1 - j0) * channels], target[j0 * channels : j1 * channels]
                    for k in range((j1 - j0) * channels):
                        middle[k] = source[k]
                else:
                    for j in range(j0, j1):
                        for k in range(channels):
                            target[j * channels + k] = x[at + j * d_w * channels + k]
        o_at = (first + begin) * filters
        multiply_rows(
            scratch, room, depth, stop - begin, taps, w, 0, 0, depth, bias, 0, filters,
            out, o_at, filters, LANES, residual, epilogue,
        )  # fmt: skip
        if epilogue[1] >= POSTPONED:
            activate(out[o_at : o_at + (stop - begin) * filters], epilogue[1], epilogue[2], epilogue[3])


def _block(x_shape: Shape, out_shape: Shape, geometry: Geometry, groups: int) -> int:
    """How many pixels to gather at a time, or 0 where it doesn't pay."""
    k_w, s_w, d_w, p_w = geometry[1::2]
    out_width, filters = out_shape[2], out_shape[3]
    if groups > 1 or filters < 2 * LANES:
        return 0
    begin, end = interior(k_w, s_w, d_w, p_w, x_shape[2], out_width)
    full = -(-(end - begin) // ROWS_3) * ROWS_3 if end - begin >= ROWS_3 else (end - begin) * _ALONE
    if full + (out_width - end + begin) * _ALONE < (1 + _GATHERING / filters) * out_width:
        return 0
    return max(_GATHERED // (geometry[0] * k_w * x_shape[3]) // _ROWS, 3) * _ROWS


def pack(w: Array, groups: int) -> Array:
    """Weights [filters, channels, *kernel] as panels of [*kernel, channels] rows, group by group."""
    rows = np.moveaxis(w, 1, -1).reshape(groups, w.shape[0] // groups, -1)
    return np.concatenate([pack_panels(group.T) for group in rows])


def _pack_bias(b: Array, groups: int) -> Array:
    return np.concatenate([pack_bias(group) for group in b.reshape(groups, -1)])


def _refused(
    out: Info, x: Info | None, w: Info | None, *others: Info | None, geometry: ConvAttributes,
    activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if pointwise_refused(out, x, w, *others, geometry=geometry, activation=activation) is None:
        return "pointwise: has a kernel of its own"
    if is_depthwise(x, w, geometry.group):
        return "depthwise: has a kernel of its own"
    return conv_refused(out, x, w, *others, geometry=geometry, activation=activation)


@fast(conv, when=_refused, by_item=True)
@fast(fused_conv, when=_refused, by_item=True)
def bind_conv(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Weights [filters, channels, *kernel] become panels of [*kernel, channels] rows, group by group."""
    (source, x_shape), (target, out_shape), group = image(x), image(out), geometry.group
    numbers = geometry_of(conv_windows(x, w, b, geometry=geometry))
    packed = pool.derive(("conv", group), lambda w: pack(w, group), w)
    if group == 1:
        bias = bias_panels(pool, b, w.shape[0])
    else:
        zeros = np.zeros(w.shape[0], np.float32)
        bias = pool.derive(("conv bias", group), lambda w, *b: _pack_bias(b[0] if b else zeros, group), w, *_given(b))
    other = target if residual is None else image(residual)[0]
    epilogue = epilogue_of(activation, residual is not None)
    block = _block(x_shape, out_shape, numbers, group)
    if block:
        block = min(block, -(-out.size // (out.shape[1] * _ROWS)) * _ROWS)
        return Call(
            convolve_gathered,
            (source, x_shape, packed, bias, other, target, out_shape, numbers, block, epilogue),
            scratch=block * w[0].size,
        )
    return Call(convolve, (source, x_shape, packed, bias, other, target, out_shape, numbers, group, epilogue))


def _given(b: Array | None) -> tuple[Array, ...]:
    return () if b is None else (b,)
