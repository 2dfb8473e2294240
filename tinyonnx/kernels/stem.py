"""A convolution of few taps, the depthwise one after it and the 1×1 one after that, row by row.

Rows of the first one's result lie in a ring with margins of zeros, as many as the depthwise
kernel is high. Its input is copied row by row between margins, too, so that neither has
borders.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, POSTPONED, ROWS_1, window_tile
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Epilogue,
    Geometry,
    Shape,
    activation_refused,
    epilogue_of,
    float32_refused,
    geometry_of,
    geometry_refused,
    image,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.conv import pack as pack_conv
from tinyonnx.kernels.depthwise import RowTaps, depthwise_bias, pack_depthwise
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.expand_depthwise import convolve_ring, margin
from tinyonnx.kernels.gemm import bias_panels, multiply_rows, pack_panels
from tinyonnx.ops._windows import Windows
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.fused import Activation
from tinyonnx.ops.stem import StemAttributes, stem, stem_windows
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO = np.float32(0)


@jit
def room(floats: int) -> int:
    """So many floats in whole vectors."""
    return (floats + LANES - 1) // LANES * LANES


@jit
def stem_row(
    x: Array, x_shape: Shape, item: int, y: int, w: Array, bias: Array, geometry: Geometry, out: Array, o_at: int,
    width: int, c: int, epilogue: Epilogue, padded: int, row: int,
) -> None:  # fmt: skip
    """Row y of the first convolution, `width` pixels of `c` channels, to out[o_at:]; out[padded:] is for its input."""
    _, height, x_width, channels = x_shape
    k_h, k_w, s_h, s_w, _, _, p_h, p_w = geometry
    for i in range(k_h):
        source = y * s_h - p_h + i
        line = out[padded + i * row + p_w * channels : padded + i * row + (p_w + x_width) * channels]
        if 0 <= source < height:
            start = (item * height + source) * x_width * channels
            read = x[start : start + x_width * channels]
            for j in range(x_width * channels):
                line[j] = read[j]
        else:
            for j in range(x_width * channels):
                line[j] = _ZERO
    if k_h == 3 and k_w == 3 and s_w == 2 and channels == 1 and c <= LANES and width >= ROWS_1:
        # so few taps take less time than the loops around them, if the compiler doesn't know how many there are
        p = 0
        while p < width:
            q = min(p, width - ROWS_1)
            window_tile(
                ROWS_1, 1, 3, 3, 2, out, padded + 2 * q, row, w, 0, bias, 0,
                out, o_at + q * c, c, 0, c, out, epilogue,
            )  # fmt: skip
            p += ROWS_1
    else:
        run = k_w * channels
        multiply_rows(
            out, padded, s_w * channels, width, (k_h, row, 1, 0, run, run), w, 0, 0, k_h * run,
            bias, 0, c, out, o_at, c, LANES, out, epilogue,
        )  # fmt: skip
    if epilogue[1] >= POSTPONED:
        activate(out[o_at : o_at + width * c], epilogue[1], epilogue[2], epilogue[3])


@jit
def depthwise_ring(
    x: Array, x_at: int, c: int, stride: int, taps: RowTaps, w: Array, w_row: int, k_h: int, bias: Array, out: Array,
    o_at: int, width: int, epilogue: Epilogue,
) -> None:  # fmt: skip
    """A row of the depthwise convolution from the ring at x[x_at:]; `w_row` is the first row of its kernel."""
    lanes, k_w = min(c, LANES), taps[2]
    # pixels of 8 channels stand side by side, and two of them fill a vector of 16, as one with a stride of 2
    pair = LANES // c if c < LANES and LANES % c == 0 and stride == 1 else 1
    paired = width // pair * pair if pair > 1 else 0
    # pairs, then blocks of channels of what they leave: a single call, which the compiler copies here
    for block in range(-1, (c + LANES - 1) // LANES):
        first = max(block, 0) * LANES
        channel = min(first, max(c - LANES, 0))
        at, step, o, o_step = x_at + paired * stride * c + channel, stride, o_at + paired * c + channel, c
        count, used = width - paired, lanes
        if block < 0:
            at, step, o, o_step, count, used = x_at, pair, o_at, LANES, paired // pair, LANES
        if count > 0:
            convolve_ring(
                x, at, c, step, taps, w, (first * k_h + w_row * LANES) * k_w, bias, first,
                out, o, o_step, count, used, epilogue, out, -1,
            )  # fmt: skip
    if epilogue[1] >= POSTPONED:
        activate(out[o_at : o_at + width * c], epilogue[1], epilogue[2], epilogue[3])


@kernel
def convolve_three(
    x: Array, x_shape: Shape, first_w: Array, first_bias: Array, taps_w: Array, taps_bias: Array, w: Array,
    bias: Array, out: Array, middle_shape: Shape, out_shape: Shape, first_geometry: Geometry, geometry: Geometry,
    first_epilogue: Epilogue, depthwise_epilogue: Epilogue, epilogue: Epilogue, scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Channels-last images, shapes (batch, height, width, channels).

    Scratch holds padded rows of the input, the ring, and a row of the depthwise convolution's
    result. The residual, if the epilogue wants one, is the first convolution's result.
    """
    batch, height, width, c = middle_shape
    _, out_height, out_width, n = out_shape
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    ring = (k_h - 1) * d_h + 1
    padded_row = room(((width - 1) * first_geometry[3] + first_geometry[1]) * x_shape[3])
    padded_row = max(padded_row, room((first_geometry[7] + x_shape[2]) * x_shape[3]))
    row = room((p_w + width + margin(width, out_width, k_w, s_w, d_w, p_w)) * c)
    padded = scratch.shape[0] // parts * part
    rows = padded + first_geometry[0] * padded_row
    middle = rows + ring * row
    for i in range(padded, middle):
        scratch[i] = _ZERO
    first, end = share(batch * out_height, part, parts)
    ready = 0
    for line in range(first, end):
        item, y = line // out_height, line % out_height
        top = y * s_h - p_h
        if line == first or y == 0:
            ready = max(top, 0)
        for source in range(max(ready, top), min(top + ring, height)):
            stem_row(
                x, x_shape, item, source, first_w, first_bias, first_geometry, scratch,
                rows + source % ring * row + p_w * c, width, c, first_epilogue, padded, padded_row,
            )  # fmt: skip
        ready = max(ready, min(top + ring, height))
        i0, i1 = inside(top, d_h, k_h, height)
        slot = (top + i0 * d_h) % ring
        wrap_at = (ring - slot + d_h - 1) // d_h
        taps = (i1 - i0, d_h * row, k_w, d_w * c, k_w * LANES, wrap_at, ring * row)
        depthwise_ring(
            scratch, rows + slot * row, c, s_w, taps, taps_w, i0, k_h, taps_bias, scratch, middle, out_width,
            depthwise_epilogue,
        )  # fmt: skip
        target = out[line * out_width * n : (line + 1) * out_width * n]
        at = rows + y % ring * row + p_w * c if epilogue[0] != 0 else middle
        residual = scratch[at : at + out_width * n]
        multiply_rows(
            scratch, middle, c, out_width, (1, 0, 1, 0, c, 0), w, 0, 0, c, bias, 0, n, target, 0, n, LANES,
            residual, epilogue,
        )  # fmt: skip
        if epilogue[1] >= POSTPONED:
            activate(target, epilogue[1], epilogue[2], epilogue[3])


# -- the operator -----------------------------------------------------------------------


def _windows(
    x: Array | Info, first: Array | Info, taps: Array | Info, stem: StemAttributes, geometry: ConvAttributes
) -> tuple[Windows, Windows]:
    """The windows of the first and of the depthwise convolution. Raises OpError."""
    before = stem_windows(x, first, stem)
    assert x.shape is not None
    assert first.shape is not None
    middle = Info(x.dtype, (x.shape[0], first.shape[0], *before.out))
    return before, conv_windows(middle, taps, geometry=geometry)


def _refused(
    out: Info, x: Info | None, first: Info | None, first_b: Info | None, taps: Info | None, taps_b: Info | None,
    w: Info | None, b: Info | None = None, *, stem: StemAttributes, geometry: ConvAttributes,
    stem_activation: Activation = Activation(), depthwise_activation: Activation = Activation(),
    activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    constants = (first, first_b, taps, taps_b, w, b)
    if x is None or first is None or taps is None or any(i is not None and i.value is None for i in constants):
        return "weights are not constant"
    if x.value is not None or x.shape is None or len(x.shape) != 4:
        return "the input is constant, or has not two spatial axes"
    try:
        before, windows = _windows(x, first, taps, stem, geometry)
    except OpError as error:
        return str(error)
    if min((*before.begin, *before.end, *windows.begin)) < 0 or windows.begin[0] >= windows.extent[0]:
        return "a pad is negative, or as high as the kernel"
    activations = (stem_activation, depthwise_activation, activation)
    reasons = [geometry_refused(before), geometry_refused(windows), *map(activation_refused, activations)]
    return next(filter(None, reasons), None) or float32_refused(out, x, *constants)


@fast(stem, when=_refused, by_item=True)
def bind_stem(
    pool: ConstantPool, out: Array, x: Array, first: Array, first_b: Array | None, taps: Array,
    taps_b: Array | None, w: Array, b: Array | None = None, *, stem: StemAttributes, geometry: ConvAttributes,
    stem_activation: Activation = Activation(), depthwise_activation: Activation = Activation(),
    activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Weights are packed as for the three convolutions."""
    (source, x_shape), (target, out_shape) = image(x), image(out)
    before, windows = _windows(x, first, taps, stem, geometry)
    c = len(first)
    middle_shape = (x_shape[0], *before.out, c)
    args = (
        source, x_shape, pool.derive(("conv", 1), lambda w: pack_conv(w, 1), first), bias_panels(pool, first_b, c),
        pack_depthwise(pool, taps), depthwise_bias(pool, taps_b, c),
        pool.derive("pointwise", lambda w: pack_panels(w.reshape(w.shape[:2]).T), w), bias_panels(pool, b, len(w)),
        target, middle_shape, out_shape, geometry_of(before), geometry_of(windows),
        epilogue_of(stem_activation), epilogue_of(depthwise_activation), epilogue_of(activation, bool(stem.residual)),
    )  # fmt: skip
    return Call(convolve_three, args, scratch=_scratch_size(x_shape, before, windows, c))


def _scratch_size(x_shape: Shape, before: Windows, windows: Windows, c: int) -> int:
    width, out_width = before.out[1], windows.out[1]
    needed = max((width - 1) * before.strides[1] + before.kernel[1], before.begin[1] + x_shape[2])
    right = margin(width, out_width, windows.kernel[1], windows.strides[1], windows.dilations[1], windows.begin[1])
    ring = windows.extent[0] * room((windows.begin[1] + width + right) * c)
    return before.kernel[0] * room(needed * x_shape[3]) + ring + room(out_width * c)
