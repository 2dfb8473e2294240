"""Depthwise convolutions on channels-last images: a vector is neighbouring channels of a pixel.

Weights are packed per block of LANES channels, [kernel rows, kernel columns, LANES]. The last
block is moved to the left where the channels don't fill it; images with fewer channels than lanes
have several pixels in a vector, or need a mask.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import FEW_PIXELS, LANES, PIXELS, POSTPONED, taps_tile
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
    zeros,
)
from tinyonnx.kernels.conv import inside, interior
from tinyonnx.kernels.elementwise import activate
from tinyonnx.ops.conv import ConvAttributes, conv, conv_windows
from tinyonnx.ops.fused import Activation, fused_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

RowTaps = tuple[int, int, int, int, int, int, int]

STRIP = 2 * PIXELS
"""Pixels of which all channels are done before the next ones."""


@jit
def convolve_pixels(
    x: Array, x_at: int, pixel: int, stride: int, taps: RowTaps, w: Array, w_at: int, bias: Array, b_at: int,
    out: Array, o_at: int, o_step: int, count: int, lanes: int, residual: Array, epilogue: Epilogue,
    sums: Array, s_at: int,
) -> None:  # fmt: skip
    """One block of channels of `count` neighbouring output pixels whose windows are complete.

    Pixels of x are `pixel` elements apart. `taps` says how the taps lie: count of rows and
    their distance, count of columns and their distance, weights of a row; from row
    `wrap_at` on, rows lie `wrap` elements further back. The results are added to sums[s_at:]
    unless `s_at` is negative.
    """
    step = stride * pixel
    p = 0
    while p < count:
        # the intrinsic takes its tile as literals, hence a call for each
        if lanes < LANES and count >= PIXELS:
            q = min(p, count - PIXELS)
            skip = PIXELS if s_at < 0 else p - q
            taps_tile(
                PIXELS, 0, 1, 1, x, x_at + q * step, step, taps, w, w_at, bias, b_at,
                out, o_at + q * o_step, o_step, lanes, residual, epilogue, sums, s_at, skip,
            )  # fmt: skip
            p += PIXELS
        elif lanes < LANES:
            skip = 1 if s_at < 0 else 0
            taps_tile(
                1, 0, 1, 1, x, x_at + p * step, step, taps, w, w_at, bias, b_at,
                out, o_at + p * o_step, o_step, lanes, residual, epilogue, sums, s_at, skip,
            )  # fmt: skip
            p += 1
        elif count >= PIXELS:
            q = min(p, count - PIXELS)
            skip = PIXELS if s_at < 0 else p - q
            at, o = x_at + q * step, o_at + q * o_step
            p += PIXELS
            variant = taps[2] * 2 + stride if taps[3] == pixel and stride <= 2 else 0
            if variant == 7:
                taps_tile(
                    PIXELS, 3, 1, 0, x, at, step, taps, w, w_at, bias, b_at, out, o, o_step, lanes, residual, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
            elif variant == 8:
                taps_tile(
                    PIXELS, 3, 2, 0, x, at, step, taps, w, w_at, bias, b_at, out, o, o_step, lanes, residual, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
            elif variant == 11:
                taps_tile(
                    PIXELS, 5, 1, 0, x, at, step, taps, w, w_at, bias, b_at, out, o, o_step, lanes, residual, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
            elif variant == 12:
                taps_tile(
                    PIXELS, 5, 2, 0, x, at, step, taps, w, w_at, bias, b_at, out, o, o_step, lanes, residual, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
            else:
                taps_tile(
                    PIXELS, 0, 1, 0, x, at, step, taps, w, w_at, bias, b_at, out, o, o_step, lanes, residual, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
        elif count >= FEW_PIXELS:
            q = min(p, count - FEW_PIXELS)
            skip = FEW_PIXELS if s_at < 0 else p - q
            taps_tile(
                FEW_PIXELS, 0, 1, 0, x, x_at + q * step, step, taps, w, w_at, bias, b_at,
                out, o_at + q * o_step, o_step, lanes, residual, epilogue, sums, s_at, skip,
            )  # fmt: skip
            p += FEW_PIXELS
        else:
            skip = 1 if s_at < 0 else 0
            taps_tile(
                1, 0, 1, 0, x, x_at + p * step, step, taps, w, w_at, bias, b_at,
                out, o_at + p * o_step, o_step, lanes, residual, epilogue, sums, s_at, skip,
            )  # fmt: skip
            p += 1


@jit
def depthwise_row(
    x: Array, x_shape: Shape, w: Array, bias: Array, residual: Array, out: Array, o_line: int, out_shape: Shape,
    geometry: Geometry, epilogue: Epilogue, row: int,
) -> None:  # fmt: skip
    """Row `row` of the result, counted through the batch, to out[o_line:]."""
    _, height, width, c = x_shape
    _, out_height, out_width, _ = out_shape
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    lanes = min(c, LANES)
    # pixels of 8 channels stand side by side, and two of them fill a vector of 16, as one with a stride of 2
    pair = LANES // c if c < LANES and LANES % c == 0 and s_w == 1 else 1
    strip = STRIP if c > LANES else out_width
    begin, end = interior(k_w, s_w, d_w, p_w, width, out_width)
    item, y = row // out_height, row % out_height
    top = y * s_h - p_h
    i0, i1 = inside(top, d_h, k_h, height)
    line = ((item * height + top + i0 * d_h) * width - p_w) * c
    # all channels of a few pixels before the next ones, so that memory is visited almost in order;
    # a pixel whose window is cut stands alone
    p = 0
    while p < out_width:
        count, j0, j1 = 1, 0, k_w
        if begin <= p < end:
            # a rest too small for a tile goes with the pixels before it
            count = min(strip, end - p) if end - p >= strip + PIXELS else end - p
        else:
            j0, j1 = inside(p * s_w - p_w, d_w, k_w, width)
        taps = (i1 - i0, d_h * width * c, j1 - j0, d_w * c, k_w * LANES, k_h, 0)
        if pair > 1 and count >= pair:
            count = count // pair * pair
            convolve_pixels(
                x, line + p * c, c, pair, taps, w, i0 * LANES * k_w, bias, 0,
                out, o_line + p * c, LANES, count // pair, LANES, residual, epilogue, out, -1,
            )  # fmt: skip
            p += count
            continue
        for first in range(0, c, LANES):
            channel = min(first, max(c - LANES, 0))
            convolve_pixels(
                x, line + (p * s_w + j0 * d_w) * c + channel, c, s_w, taps,
                w, (first * k_h + i0 * LANES) * k_w + j0 * LANES, bias, first,
                out, o_line + p * c + channel, c, count, lanes, residual, epilogue, out, -1,
            )  # fmt: skip
        p += count
    if epilogue[1] >= POSTPONED:
        activate(out[o_line : o_line + out_width * c], epilogue[1], epilogue[2], epilogue[3])


@kernel
def convolve_depthwise(
    x: Array, x_shape: Shape, w: Array, bias: Array, residual: Array, out: Array, out_shape: Shape,
    geometry: Geometry, epilogue: Epilogue, part: int, parts: int,
) -> None:  # fmt: skip
    """Channels-last images, shapes (batch, height, width, channels)."""
    batch, out_height, out_width, c = out_shape
    first, end = share(batch * out_height, part, parts)
    for row in range(first, end):
        depthwise_row(x, x_shape, w, bias, residual, out, row * out_width * c, out_shape, geometry, epilogue, row)


def _blocks(c: int) -> list[Array]:
    """The channels of each block; the only block of few channels is short."""
    return [np.arange(min(f, max(c - LANES, 0)), min(min(f, max(c - LANES, 0)) + LANES, c)) for f in range(0, c, LANES)]


def _pack(w: Array) -> Array:
    taps = w.reshape(w.shape[0], -1).T
    packed = zeros(len(_blocks(w.shape[0])) * taps.size // w.shape[0] * LANES).reshape(-1, len(taps), LANES)
    for target, channels in zip(packed, _blocks(w.shape[0])):
        # few channels are repeated, for the pixels that share a vector
        repeated = np.tile(taps[:, channels], LANES // len(channels))
        target[:, : repeated.shape[1]] = repeated
    return packed.reshape(-1)


def pack_depthwise(pool: ConstantPool, w: Array) -> Array:
    """Weights [channels, 1, *kernel] as blocks of channels."""
    return np.asarray(pool.derive("depthwise", _pack, w))


def depthwise_bias(pool: ConstantPool, b: Array | None, channels: int) -> Array:
    """A bias [channels], zeros if absent, in blocks."""
    if b is None:
        return _pack(np.zeros(channels, np.float32))
    return np.asarray(pool.derive("depthwise bias", _pack, b))


def _refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if not is_depthwise(x, w, geometry.group):
        return "not depthwise"
    return conv_refused(out, x, w, b, residual, geometry=geometry, activation=activation)


@fast(conv, when=_refused, by_item=True)
@fast(fused_conv, when=_refused, by_item=True)
def bind_depthwise(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None,
    *, geometry: ConvAttributes, activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Weights [channels, 1, *kernel] become blocks of channels."""
    (source, x_shape), (target, out_shape) = image(x), image(out)
    numbers = geometry_of(conv_windows(x, w, b, geometry=geometry))
    other = target if residual is None else image(residual)[0]
    packed, bias = pack_depthwise(pool, w), depthwise_bias(pool, b, len(w))
    epilogue = epilogue_of(activation, residual is not None)
    return Call(convolve_depthwise, (source, x_shape, packed, bias, other, target, out_shape, numbers, epilogue))
