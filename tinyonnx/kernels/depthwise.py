"""Depthwise convolutions on channels-last images: a vector is neighbouring channels of a pixel.

Weights are packed per block of LANES channels, [kernel rows, kernel columns, LANES]. The last
block is moved to the left where the channels don't fill it; only images with fewer channels
than lanes need a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.ir import Array, ConstantPool
from tinyonnx.kernels._arrays import (
    NO_BIAS,
    Epilogue,
    Geometry,
    Shape,
    conv_epilogue,
    conv_refused,
    geometry_of,
    image,
    is_depthwise,
    windows_of,
)
from tinyonnx.kernels._kernel import kernel, share
from tinyonnx.kernels._tiles import LANES, PIXELS, POSTPONED, taps_tile
from tinyonnx.kernels.conv import inside, interior
from tinyonnx.kernels.elementwise import activate
from tinyonnx.ops.conv import conv
from tinyonnx.ops.fused import fused_conv
from tinyonnx.registry import Call, Info, fast


@kernel
def convolve_depthwise(
    x: Array, x_shape: Shape, w: Array, bias: Array, residual: Array, out: Array, out_shape: Shape,
    geometry: Geometry, epilogue: Epilogue, part: int, parts: int,
) -> None:  # fmt: skip
    """Channels-last images, shapes (batch, height, width, channels)."""
    batch, height, width, c = x_shape
    _, out_height, out_width, _ = out_shape
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    lanes = min(c, LANES)
    begin, end = interior(k_w, s_w, d_w, p_w, width, out_width)
    tile = PIXELS if end - begin >= PIXELS else 1
    unrolled = 0
    if d_w == 1 and tile > 1 and c >= LANES and s_w <= 2 and (k_w == 3 or k_w == 5):
        unrolled = k_w * 2 + s_w
    # all channels of a few pixels before the next ones, so that memory is visited almost in order
    strip = PIXELS if c > LANES else out_width
    first_row, end_row = share(batch * out_height, part, parts)
    for row in range(first_row, end_row):
        item, y = row // out_height, row % out_height
        top = y * s_h - p_h
        i0, i1 = inside(top, d_h, k_h, height)
        line = ((item * height + top + i0 * d_h) * width - p_w) * c
        o_line = row * out_width * c
        for start in range(0, out_width, strip):
            for first in range(0, c, LANES):
                channel = min(first, max(c - LANES, 0))
                block = first * k_h * k_w + i0 * k_w * LANES
                p = start
                while p < min(start + strip, out_width):
                    if begin <= p < end:
                        j0, j1 = 0, k_w
                        count = tile
                        q = min(p, end - tile)
                    else:
                        j0, j1 = inside(p * s_w - p_w, d_w, k_w, width)
                        count = 1
                        q = p
                    taps = (i1 - i0, d_h * width * c, j1 - j0, d_w * c, k_w * LANES)
                    x_at = line + (q * s_w + j0 * d_w) * c + channel
                    w_at = block + j0 * LANES
                    o_at = o_line + q * c + channel
                    # the intrinsic takes its tile as literals, hence a call for each
                    if count == 1:
                        if c < LANES:
                            taps_tile(
                                1, 0, 1, 1, x, x_at, s_w * c, taps, w, w_at, bias, first,
                                out, o_at, c, lanes, residual, epilogue,
                            )  # fmt: skip
                        else:
                            taps_tile(
                                1, 0, 1, 0, x, x_at, s_w * c, taps, w, w_at, bias, first,
                                out, o_at, c, lanes, residual, epilogue,
                            )  # fmt: skip
                    elif unrolled == 7:
                        taps_tile(
                            PIXELS, 3, 1, 0, x, x_at, s_w * c, taps, w, w_at, bias, first,
                            out, o_at, c, lanes, residual, epilogue,
                        )  # fmt: skip
                    elif unrolled == 8:
                        taps_tile(
                            PIXELS, 3, 2, 0, x, x_at, s_w * c, taps, w, w_at, bias, first,
                            out, o_at, c, lanes, residual, epilogue,
                        )  # fmt: skip
                    elif unrolled == 11:
                        taps_tile(
                            PIXELS, 5, 1, 0, x, x_at, s_w * c, taps, w, w_at, bias, first,
                            out, o_at, c, lanes, residual, epilogue,
                        )  # fmt: skip
                    elif unrolled == 12:
                        taps_tile(
                            PIXELS, 5, 2, 0, x, x_at, s_w * c, taps, w, w_at, bias, first,
                            out, o_at, c, lanes, residual, epilogue,
                        )  # fmt: skip
                    elif c < LANES:
                        taps_tile(
                            PIXELS, 0, 1, 1, x, x_at, s_w * c, taps, w, w_at, bias, first,
                            out, o_at, c, lanes, residual, epilogue,
                        )  # fmt: skip
                    else:
                        taps_tile(
                            PIXELS, 0, 1, 0, x, x_at, s_w * c, taps, w, w_at, bias, first,
                            out, o_at, c, lanes, residual, epilogue,
                        )  # fmt: skip
                    p = min(p + count, end) if begin <= p < end else p + 1
    if epilogue[1] >= POSTPONED:
        line = out_width * c
        activate(out[first_row * line : end_row * line], epilogue[1], epilogue[2], epilogue[3])


def _blocks(c: int) -> list[Array]:
    """The channels of each block; the only block of few channels is short."""
    return [np.arange(min(f, max(c - LANES, 0)), min(min(f, max(c - LANES, 0)) + LANES, c)) for f in range(0, c, LANES)]


def _pack(w: Array) -> Array:
    taps = w.reshape(w.shape[0], -1).T
    packed = np.zeros((len(_blocks(w.shape[0])), len(taps), LANES), np.float32)
    for target, channels in zip(packed, _blocks(w.shape[0])):
        target[:, : len(channels)] = taps[:, channels]
    return packed.reshape(-1)


def _refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    group: int = 1, **attributes: Any,
) -> str | None:  # fmt: skip
    if not is_depthwise(x, w, group):
        return "not depthwise"
    return conv_refused(out, x, w, b, residual, group=group, **attributes)


@fast(conv, when=_refused)
@fast(fused_conv, when=_refused)
def bind_depthwise(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None,
    **attributes: Any,
) -> Call:  # fmt: skip
    """Weights [channels, 1, *kernel] become blocks of channels."""
    (source, x_shape), (target, out_shape) = image(x), image(out)
    geometry = geometry_of(windows_of(x, w, attributes))
    packed = pool.derive("depthwise", _pack, w)
    if b is None:
        bias = pool.derive(("no depthwise bias", len(w)), lambda _: _pack(np.zeros(len(w), np.float32)), NO_BIAS)
    else:
        bias = pool.derive("depthwise bias", _pack, b)
    other = target if residual is None else image(residual)[0]
    epilogue = conv_epilogue(residual, attributes)
    return Call(convolve_depthwise, (source, x_shape, packed, bias, other, target, out_shape, geometry, epilogue))
