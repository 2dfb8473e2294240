"""Depthwise convolutions of channels-last images: a vector holds neighbouring channels of a pixel.

Weights are packed by blocks of LANES channels, [kernel rows, kernel columns, LANES]. If the channels don't fill the
last block, it is moved to the left; images with fewer channels than lanes have several pixels in a vector, or need a
mask.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.arguments import Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import (
    FEW_PIXELS,
    LANES,
    MASKED,
    NARROW,
    PIXELS,
    POSTPONED,
    WHOLE,
    Epilogue,
    Pixels,
    Rows,
    Weights,
    Window,
    taps_tiles,
)
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
    zeros,
)
from tinyonnx.kernels.conv import inside, interior
from tinyonnx.kernels.elementwise import activate
from tinyonnx.ops.conv import ConvAttributes, conv, conv_windows
from tinyonnx.ops.fused import Activation, fused_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

STRIP = 2 * PIXELS
"""Pixels per strip: all channels of a strip are computed before the next strip starts."""


@jit(inline=True)
def convolve_unrolled(
    columns: Static, stride: Static, distance: Static, lanes: Static, x: Rows, taps: Window, w: Weights, out: Pixels,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    """Convolve at least FEW_PIXELS pixels, `stride` taps apart, with kernel rows of `columns` taps.

    Taps are `distance` elements apart; 0 if that is not a constant. With a constant distance the compiler folds the
    addresses into the instructions, which saves a third of the time. `lanes` is WHOLE or NARROW.
    """
    column = distance if distance > 0 else taps.column_step
    rows = Rows(x.data, x.start, stride * column)
    near = Window(taps.rows, taps.row_step, columns, column, columns * LANES, taps.wrap_at, taps.wrap)
    if out.pixels >= PIXELS:
        taps_tiles(PIXELS, columns, stride, lanes, rows, near, w, out, epilogue)
    else:
        taps_tiles(FEW_PIXELS, columns, stride, lanes, rows, near, w, out, epilogue)


@jit
def convolve_looped(x: Rows, taps: Window, w: Weights, out: Pixels, epilogue: Epilogue) -> None:
    """Convolve any number of pixels with any number of taps."""
    if out.lanes < LANES:
        if out.pixels >= PIXELS:
            taps_tiles(PIXELS, 0, 1, MASKED, x, taps, w, out, epilogue)
        else:
            taps_tiles(1, 0, 1, MASKED, x, taps, w, out, epilogue)
    elif out.pixels >= PIXELS:
        taps_tiles(PIXELS, 0, 1, WHOLE, x, taps, w, out, epilogue)
    elif out.pixels >= FEW_PIXELS:
        taps_tiles(FEW_PIXELS, 0, 1, WHOLE, x, taps, w, out, epilogue)
    else:
        taps_tiles(1, 0, 1, WHOLE, x, taps, w, out, epilogue)


@jit(inline=True)
def convolve_pixels(
    distance: Static, stride: int, x: Rows, taps: Window, w: Weights, out: Pixels, epilogue: Epilogue
) -> None:
    """Convolve neighbouring pixels with complete windows for one vector of channels.

    Row i of `x` starts with the first tap of pixel i. Pixels are `stride` taps apart (0: not a whole number of taps),
    and taps are `distance` elements apart (0: any number).
    """
    if out.lanes < LANES or out.pixels < FEW_PIXELS:
        convolve_looped(x, taps, w, out, epilogue)
    elif taps.columns == 3 and stride == 1:
        convolve_unrolled(3, 1, distance, WHOLE, x, taps, w, out, epilogue)
    elif taps.columns == 3 and stride == 2:
        convolve_unrolled(3, 2, distance, WHOLE, x, taps, w, out, epilogue)
    elif taps.columns == 5 and stride == 1:
        convolve_unrolled(5, 1, distance, WHOLE, x, taps, w, out, epilogue)
    elif taps.columns == 5 and stride == 2:
        convolve_unrolled(5, 2, distance, WHOLE, x, taps, w, out, epilogue)
    elif taps.columns == 7 and stride == 1:
        convolve_unrolled(7, 1, distance, WHOLE, x, taps, w, out, epilogue)
    else:
        convolve_looped(x, taps, w, out, epilogue)


@jit(inline=True)
def convolve_narrow(
    distance: Static, stride: int, x: Rows, taps: Window, w: Weights, out: Pixels, epilogue: Epilogue
) -> None:
    """Convolve like `convolve_pixels`, 3 or 5 columns with a stride of 1 or 2, for a vector of which HALF lanes count.

    `out.lanes` is HALF.
    """
    if out.pixels < FEW_PIXELS:
        convolve_looped(x, taps, w, out, epilogue)
    elif taps.columns == 3 and stride == 1:
        convolve_unrolled(3, 1, distance, NARROW, x, taps, w, out, epilogue)
    elif taps.columns == 3:
        convolve_unrolled(3, 2, distance, NARROW, x, taps, w, out, epilogue)
    elif stride == 1:
        convolve_unrolled(5, 1, distance, NARROW, x, taps, w, out, epilogue)
    else:
        convolve_unrolled(5, 2, distance, NARROW, x, taps, w, out, epilogue)


@jit
def pixels_in_vector(channels: int, stride: int) -> int:
    """Return the number of neighbouring pixels whose channels fill a vector.

    Two pixels of 8 channels fill a vector of 16, which is convolved like one pixel with a stride of 2.
    """
    return LANES // channels if channels < LANES and LANES % channels == 0 and stride == 1 else 1


@jit
def depthwise_row(x: Image, layer: Convolution, residual: Array, out: Image, o_line: int, row: int) -> None:
    """Convolve row `row` of `out`, counted through the batch, and write it to out.data[o_line:]."""
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = layer.geometry
    c, width, epilogue = x.channels, x.width, layer.epilogue
    lanes = min(c, LANES)
    group = pixels_in_vector(c, s_w)
    stride = (group if group > 1 else s_w) if d_w == 1 else 0
    strip = STRIP if c > LANES else out.width
    begin, end = interior(k_w, s_w, d_w, p_w, width, out.width)
    item, y = row // out.height, row % out.height
    top = y * s_h - p_h
    i0, i1 = inside(top, d_h, k_h, x.height)
    line = ((item * x.height + top + i0 * d_h) * width - p_w) * c
    # strip by strip, so that memory is accessed almost in order; a pixel whose window is cut is computed alone
    p = 0
    while p < out.width:
        count, j0, j1 = 1, 0, k_w
        if begin <= p < end:
            # a remainder too small for a tile joins the strip before it
            count = min(strip, end - p) if end - p >= strip + PIXELS else end - p
        else:
            j0, j1 = inside(p * s_w - p_w, d_w, k_w, width)
        taps = Window(i1 - i0, d_h * width * c, j1 - j0, d_w * c, k_w * LANES, k_h, 0)
        vectors = count // group if group > 1 else 0
        if vectors > 0:
            count = vectors * group
        for first in range(0, c, LANES):
            channel = min(first, max(c - LANES, 0))
            source = Rows(x.data, line + (p * s_w + j0 * d_w) * c + channel, s_w * c)
            target = Pixels(out.data, residual, o_line + p * c + channel, c, count, lanes, out.data, -1)
            if vectors > 0:
                source = Rows(x.data, line + p * c, group * c)
                target = Pixels(out.data, residual, o_line + p * c, LANES, vectors, LANES, out.data, -1)
            w = Weights(layer.data, (first * k_h + i0 * LANES) * k_w + j0 * LANES, layer.bias, first)
            convolve_pixels(0, stride, source, taps, w, target, epilogue)
        p += count
    if epilogue.activation >= POSTPONED:
        activate(out.data[o_line : o_line + out.width * c], epilogue)


@kernel
def convolve_depthwise(x: Image, layer: Convolution, residual: Array, out: Image, part: int, parts: int) -> None:
    """Convolve each channel with its own filter."""
    first, end = share(out.batch * out.height, part, parts)
    for row in range(first, end):
        depthwise_row(x, layer, residual, out, row * out.width * out.channels, row)


# -- packing ----------------------------------------------------------------------------


def _blocks(c: int) -> list[Array]:
    """Return the channels of each block; a single block of fewer channels than lanes is short."""
    return [np.arange(min(f, max(c - LANES, 0)), min(min(f, max(c - LANES, 0)) + LANES, c)) for f in range(0, c, LANES)]


def _pack(w: Array) -> Array:
    taps = w.reshape(w.shape[0], -1).T
    packed = zeros(len(_blocks(w.shape[0])) * taps.size // w.shape[0] * LANES).reshape(-1, len(taps), LANES)
    for target, channels in zip(packed, _blocks(w.shape[0])):
        # repeat few channels, for the pixels that share a vector
        repeated = np.tile(taps[:, channels], LANES // len(channels))
        target[:, : repeated.shape[1]] = repeated
    return packed.reshape(-1)


def pack_depthwise(pool: ConstantPool, w: Array) -> Array:
    """Pack weights [channels, 1, *kernel] by blocks of channels."""
    return np.asarray(pool.derive("depthwise", _pack, w))


def depthwise_bias(pool: ConstantPool, b: Array | None, channels: int) -> Array:
    """Pack a bias [channels], zeros if absent, by blocks of channels."""
    if b is None:
        return _pack(np.zeros(channels, np.float32))
    return np.asarray(pool.derive("depthwise bias", _pack, b))


def depthwise_layer(
    pool: ConstantPool, w: Array, b: Array | None, epilogue: Epilogue, geometry: Geometry
) -> Convolution:
    """Pack the constants of a depthwise convolution with weights [channels, 1, *kernel]."""
    return Convolution(pack_depthwise(pool, w), depthwise_bias(pool, b, len(w)), epilogue, geometry)


# -- operators --------------------------------------------------------------------------


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
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Bind `convolve_depthwise`."""
    source, target = image(x), image(out)
    numbers = geometry_of(conv_windows(x, w, b, geometry=geometry))
    layer = depthwise_layer(pool, w, b, epilogue_of(activation, residual is not None), numbers)
    return Call(convolve_depthwise, (source, layer, memory_or(residual, target.data), target))
