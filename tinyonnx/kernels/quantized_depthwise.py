"""Depthwise convolutions of bytes, with one filter per channel.

The rows under the kernel are kept in a ring. It has zero points where the kernel reaches beyond the image, and channels
are filled up to whole vectors, so that every window is complete. A vector holds neighbouring channels of a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.byte_tiles import (
    BYTES,
    Columns,
    Finish,
    Panel,
    RowSums,
    Target,
    byte_taps_tile,
    bytes_of,
)
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import FEW_PIXELS, LANES, PIXELS, Rows, Window
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Geometry, Image, geometry_of, image
from tinyonnx.kernels.quantized_conv import ByteConvolution, Filters, byte_image, fill
from tinyonnx.kernels.quantized_gemm import (
    Factor,
    Scaling,
    columns_step,
    numbers_of,
    prepare_columns,
    quantum_of,
    take_bytes,
)
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.registry import Call, Info
from tinyonnx.runtime.constants import ConstantPool

_STRIP = 2 * PIXELS
"""Pixels per strip: all channels of a strip are computed before the next strip starts."""


@jit
def ring_rows(geometry: Geometry) -> int:
    """Return the number of rows that the kernel spans."""
    return (geometry.k_h - 1) * geometry.d_h + 1


@jit
def ring_width(geometry: Geometry, width: int) -> int:
    """Return the number of pixels that the kernel passes over in a row of `width` results."""
    return (width - 1) * geometry.s_w + (geometry.k_w - 1) * geometry.d_w + 1


@jit
def take_row(
    x: Image, geometry: Geometry, item: int, row: int, width: int, sign: int, zero: Any, out: Array, at: int
) -> None:  # fmt: skip
    """Copy a row of the image, widened by its pads to `width` pixels of whole vectors of channels, to out[at:]."""
    channels = columns_step(x.channels)
    if not 0 <= row < x.height:
        fill(out, at, at + width * channels, zero)
        return
    begin = min(max(geometry.p_w, 0), width)
    end = max(min(x.width + geometry.p_w, width), begin)
    fill(out, at, at + begin * channels, zero)
    fill(out, at + end * channels, at + width * channels, zero)
    source = ((item * x.height + row) * x.width - geometry.p_w) * x.channels
    if channels == x.channels:
        first = source + begin * channels
        take_bytes(x.data, first, (end - begin) * channels, sign, out, at + begin * channels)
    else:
        for p in range(begin, end):
            take_bytes(x.data, source + p * x.channels, x.channels, sign, out, at + p * channels)
            fill(out, at + p * channels + x.channels, at + (p + 1) * channels, zero)


@jit(inline=True)
def convolve_tiles(
    pixels: Static, unrolled: Static, stride: Static, kind: Static, count: int, x: Rows, taps: Window, w: Panel,
    finish: Finish, out: Target,
) -> None:  # fmt: skip
    """Convolve `count` pixels, at least as many as a tile has, for one vector of channels."""
    for i in range(0, count, pixels):
        p = min(i, count - pixels)
        byte_taps_tile(
            pixels, unrolled, stride, kind, Rows(x.data, x.start + p * x.step, x.step), taps, w, finish,
            Target(out.data, out.start + p * out.step, out.step, out.lanes),
        )  # fmt: skip


@jit
def convolve_pixels(
    kind: Static, stride: int, count: int, x: Rows, taps: Window, w: Panel, finish: Finish, out: Target
) -> None:
    """Convolve `count` neighbouring pixels, `stride` taps apart (0: not whole taps), for one vector of channels."""
    if count < FEW_PIXELS:
        convolve_tiles(1, 0, 1, kind, count, x, taps, w, finish, out)
    elif taps.columns == 3 and stride == 1:
        if count >= PIXELS:
            convolve_tiles(PIXELS, 3, 1, kind, count, x, taps, w, finish, out)
        else:
            convolve_tiles(FEW_PIXELS, 3, 1, kind, count, x, taps, w, finish, out)
    elif taps.columns == 3 and stride == 2:
        convolve_tiles(FEW_PIXELS, 3, 2, kind, count, x, taps, w, finish, out)
    elif taps.columns == 5 and stride == 1:
        if count >= PIXELS:
            convolve_tiles(PIXELS, 5, 1, kind, count, x, taps, w, finish, out)
        else:
            convolve_tiles(FEW_PIXELS, 5, 1, kind, count, x, taps, w, finish, out)
    elif taps.columns == 5 and stride == 2:
        convolve_tiles(FEW_PIXELS, 5, 2, kind, count, x, taps, w, finish, out)
    elif count >= PIXELS:
        convolve_tiles(PIXELS, 0, 1, kind, count, x, taps, w, finish, out)
    else:
        convolve_tiles(FEW_PIXELS, 0, 1, kind, count, x, taps, w, finish, out)


@kernel
def convolve_bytes_depthwise(
    kind: Static, x: Image, layer: ByteConvolution, out: Image, scratch: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Convolve each channel with its own filter.

    Scratch holds, for each share, the numbers of the channels and the ring.
    """
    geometry, factor, scaling, c = layer.geometry, layer.factor, layer.scaling, x.channels
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, _ = geometry
    channels, rows, width = columns_step(c), ring_rows(geometry), ring_width(geometry, out.width)
    room = scratch.shape[0] // parts * part
    prepare_columns(kind, k_h * k_w, c, 0, factor, scaling, Columns(scratch, room, channels))
    memory, ring = bytes_of(scratch), (room + 4 * channels) * 4
    quantum = quantum_of(scaling)
    zero = np.uint8(np.int64(scaling.x_zero[0]) ^ scaling.x_sign)
    line = width * channels
    stride = s_w if d_w == 1 else 0
    loaded, current = 0, -1
    first, end = share(out.batch * out.height, part, parts)
    for row in range(first, end):
        item, y = row // out.height, row % out.height
        top = y * s_h - p_h
        if item != current:
            loaded, current = top, item
        for i in range(max(loaded, top), top + rows):
            take_row(x, geometry, item, i, width, scaling.x_sign, zero, memory, ring + i % rows * line)
        loaded = top + rows
        slot = top % rows
        # tap row i is d_h·i rows after the first one, unless that is beyond the end of the ring
        wrap_at = (rows - slot + d_h - 1) // d_h
        taps = Window(k_h, d_h * line, k_w, d_w * channels, k_w * LANES, wrap_at, rows * line)
        for p in range(0, out.width, _STRIP):
            count = min(_STRIP, out.width - p)
            for ch in range(0, c, LANES):
                source = Rows(memory, ring + slot * line + p * s_w * channels + ch, s_w * channels)
                target = Target(out.data, (row * out.width + p) * c + ch, c, min(c - ch, LANES))
                finish = Finish(Columns(scratch, room + ch, channels), RowSums(scratch, 0, 0), quantum)
                convolve_pixels(kind, stride, count, source, taps, Panel(factor.data, ch * k_h * k_w), finish, target)


# -- packing ----------------------------------------------------------------------------


def _pack(w: Array, zero: Array) -> list[Array]:
    """Pack weights [channels, 1, *kernel] minus zero points, and their sums.

    Weights become int16 [blocks of LANES channels, *kernel, LANES].
    """
    channels = len(w)
    taps = w.reshape(channels, -1).astype(np.int16) - zero.astype(np.int16).reshape(-1, 1)
    filled = np.zeros((columns_step(channels), taps.shape[1]), np.int16)
    filled[:channels] = taps
    packed = np.ascontiguousarray(filled.reshape(-1, LANES, taps.shape[1]).transpose(0, 2, 1)).reshape(-1)
    return [packed, taps.sum(1, dtype=np.int32)]


# -- binding ----------------------------------------------------------------------------


def bind_depthwise(
    pool: ConstantPool, kind: int, out: Array, x: Array, filters: Filters, scaling: Scaling, geometry: ConvAttributes
) -> Call:
    """Bind a depthwise convolution."""
    w, w_zero = filters.weights, filters.zero
    numbers = geometry_of(conv_windows(Info(None, x.shape), Info(None, w.shape), geometry=geometry))
    packed, sums = pool.derive("depthwise bytes", _pack, w, np.zeros(1, w.dtype) if w_zero is None else w_zero)
    added = numbers_of(pool, len(w), filters.scale, filters.offset, filters.bias)
    factor = Factor(packed, sums, np.zeros(len(w), np.int32), *added, 0)
    source, target = byte_image(x), byte_image(out) if kind == BYTES else image(out)
    channels = columns_step(source.channels)
    scratch = 4 * channels + ring_rows(numbers) * ring_width(numbers, target.width) * channels // 4
    layer = ByteConvolution(factor, scaling, numbers, source.channels)
    return Call(convolve_bytes_depthwise, (Specialised(kind), source, layer, target), scratch=scratch)
