"""Convolutions of bytes, whose windows are read where they lie.

A part of the image is copied with its margins of zero points, row by row; the tiles read the rows under the kernel in
it. Without dilation along a row the bytes under a row of the kernel are next to each other: a run of whole words, the
last bytes of which meet weights that are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.byte_tiles import (
    BYTES,
    SHORT,
    TALL,
    WORD,
    Columns,
    Finish,
    Line,
    Panel,
    RowSums,
    Runs,
    Target,
    byte_rows_tile,
    bytes_of,
)
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, Rows
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Geometry, Image, geometry_of, image
from tinyonnx.kernels.quantized_conv import ByteConvolution, Filters, bind_convolution, byte_image, fill
from tinyonnx.kernels.quantized_gemm import (
    PANEL,
    Scaling,
    columns_step,
    factor_of,
    padded,
    prepare_columns,
    quantum_of,
    take_bytes,
)
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.registry import Call, Info
from tinyonnx.runtime.constants import ConstantPool

_NEAR = 1 << 15
"""Bytes of a part of the image, so that it stays in the L1 cache."""


@jit
def take_pixels(
    x: Image, first: int, row: int, item: int, count: int, sign: int, zero: Any, out: Array, at: int
) -> None:  # fmt: skip
    """Copy pixels first to first + count of a row of the image to out[at:], those outside it as `zero`."""
    channels = x.channels
    if not 0 <= row < x.height:
        fill(out, at, at + count * channels, zero)
        return
    begin = min(max(-first, 0), count)
    end = max(min(x.width - first, count), begin)
    fill(out, at, at + begin * channels, zero)
    fill(out, at + end * channels, at + count * channels, zero)
    source = ((item * x.height + row) * x.width + first + begin) * channels
    take_bytes(x.data, source, (end - begin) * channels, sign, out, at + begin * channels)


@jit(inline=True)
def multiply_windows(
    rows: Static, vectors: Static, kind: Static, count: int, x: Rows, line: Line, runs: Runs, w: Panel, finish: Finish,
    out: Target,
) -> None:  # fmt: skip
    """Multiply `count` windows, at least as many as a tile has, with a panel; `line.skip` is the step between rows."""
    for i in range(0, count, rows):
        p = min(i, count - rows)
        y, z = p // line.width, p % line.width
        byte_rows_tile(
            rows, vectors, kind, Rows(x.data, x.start + y * line.skip + z * x.step, x.step),
            Line(z, line.width, line.skip - line.width * x.step), runs, w, finish,
            Target(out.data, out.start + p * out.step, out.step, out.lanes),
        )  # fmt: skip


@jit(inline=True)
def multiply_part(
    vectors: Static, kind: Static, count: int, x: Rows, line: Line, runs: Runs, w: Panel, finish: Finish, out: Target
) -> None:
    """Multiply `count` windows with a panel in the highest tiles that they fill."""
    if count >= TALL:
        multiply_windows(TALL, vectors, kind, count, x, line, runs, w, finish, out)
    elif count >= SHORT:
        multiply_windows(SHORT, vectors, kind, count, x, line, runs, w, finish, out)
    else:
        multiply_windows(1, vectors, kind, count, x, line, runs, w, finish, out)


@jit
def part_size(geometry: Geometry, channels: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the results that are computed from one part of the image.

    Several rows are as wide as the image: only then the results are next to each other in memory.
    """
    span = (geometry.k_h - 1) * geometry.d_h + 1
    wide = max((_NEAR // (span * channels) - geometry.k_w) // geometry.s_w + 1, TALL)
    wide = min(wide, width)
    line = ((wide - 1) * geometry.s_w + geometry.k_w) * channels
    high = max((_NEAR // line - span) // geometry.s_h + 1, 1)
    return (high if wide == width else 1), wide


@kernel
def convolve_windows(
    kind: Static, x: Image, layer: ByteConvolution, out: Image, scratch: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Convolve without groups. Scratch holds, for each share, the numbers of all columns and a part of the image."""
    geometry, factor, scaling, c, n = layer.geometry, layer.factor, layer.scaling, x.channels, out.channels
    k_h, k_w, s_h, s_w, d_h, _, p_h, p_w = geometry
    step, run = columns_step(n), padded(k_w * c)
    room = scratch.shape[0] // parts * part
    columns = Columns(scratch, room, step)
    prepare_columns(kind, k_h * k_w * c, n, 0, factor, scaling, columns)
    memory, start = bytes_of(scratch), (room + 4 * step) * 4
    quantum = quantum_of(scaling)
    zero = np.uint8(np.int64(scaling.x_zero[0]) ^ scaling.x_sign)
    high, wide = part_size(geometry, c, out.width)
    lines = out.batch * out.height
    first, end, left, right = 0, lines, 0, out.width
    if lines >= parts:
        first, end = share(lines, part, parts)
    else:
        left, right = share(out.width, part, parts)
        high = 1
    row = first
    while row < end:
        item, y = row // out.height, row % out.height
        rows = min(high, end - row, out.height - y)
        for z in range(left, right, wide):
            width = min(wide, right - z)
            pixels = (width - 1) * s_w + k_w
            line = pixels * c
            for i in range((rows - 1) * s_h + (k_h - 1) * d_h + 1):
                take_pixels(
                    x, z * s_w - p_w, y * s_h - p_h + i, item, pixels, scaling.x_sign, zero, memory, start + i * line
                )  # fmt: skip
            source, places = Rows(memory, start, s_w * c), Line(0, width, s_h * line)
            runs = Runs(k_h, run // WORD, d_h * line)
            for column in range(0, n, PANEL):
                finish = Finish(Columns(scratch, room + column, step), RowSums(scratch, 0, 0), quantum)
                panel = Panel(factor.data, column * k_h * run)
                place, lanes = (row * out.width + z) * n + column, n - column
                if lanes > LANES:
                    target = Target(out.data, place, n, min(lanes - LANES, LANES))
                    multiply_part(2, kind, rows * width, source, places, runs, panel, finish, target)
                else:
                    target = Target(out.data, place, n, lanes)
                    multiply_part(1, kind, rows * width, source, places, runs, panel, finish, target)
        row += rows


# -- binding ----------------------------------------------------------------------------


def bind_windows(
    pool: ConstantPool, kind: int, out: Array, x: Array, filters: Filters, scaling: Scaling, geometry: ConvAttributes
) -> Call:
    """Bind a convolution that isn't depthwise."""
    w = filters.weights
    windows = conv_windows(Info(None, x.shape), Info(None, w.shape), geometry=geometry)
    numbers = geometry_of(windows)
    if geometry.group > 1 or numbers.d_w > 1 or set(windows.kernel) == set(windows.strides) == {1}:
        return bind_convolution(pool, kind, out, x, filters, scaling, geometry)

    def pack(w: Array) -> Array:
        return np.moveaxis(w, 1, -1).reshape(1, len(w), -1).transpose(0, 2, 1)

    k_h, k_w, channels = numbers.k_h, numbers.k_w, w.shape[1]
    factor = factor_of(
        pool, "windows", pack, w, filters.zero, filters.scale, offset=filters.offset, bias=filters.bias, runs=k_h
    )
    if factor.weighted:
        return bind_convolution(pool, kind, out, x, filters, scaling, geometry)
    source, target = byte_image(x), byte_image(out) if kind == BYTES else image(out)
    span, least = (k_h - 1) * numbers.d_h + 1, (TALL - 1) * numbers.s_w + k_w
    part = max(_NEAR, span * least * channels)
    scratch = 4 * columns_step(len(w)) + (part + 2 * WORD) // WORD
    layer = ByteConvolution(factor, scaling, numbers, 1)
    return Call(convolve_windows, (Specialised(kind), source, layer, target), scratch=scratch)
