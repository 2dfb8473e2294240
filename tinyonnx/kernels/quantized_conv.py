"""Convolutions of bytes as products of gathered pixels with packed weights.

The bytes under the kernel are gathered for a block of pixels, with zero points outside the image, and multiplied by the
packed weights. A 1×1 convolution of stride 1 needs no gathering.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.byte_tiles import (
    BYTES,
    TALL,
    WORD,
    Columns,
    Finish,
    Panel,
    RowSums,
    Target,
    bytes_of,
)
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import Rows
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Geometry,
    Image,
    Product,
    geometry_of,
    image,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.quantized_gemm import (
    BLOCK,
    Factor,
    Scaling,
    block_rows,
    columns_step,
    factor_of,
    multiply_bytes,
    multiply_rows,
    padded,
    prepare_columns,
    quantum_of,
    scratch_of,
    sum_rows,
    take_bytes,
)
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.registry import Call, Info
from tinyonnx.runtime.constants import ConstantPool


class ByteConvolution(NamedTuple):
    """The constants of a convolution: weights, scales, geometry and number of groups."""

    factor: Factor
    scaling: Scaling
    geometry: Geometry
    groups: int


@jit
def fill(out: Array, first: int, end: int, value: Any) -> None:
    """Fill out[first:end] with a value."""
    target = out[first:end]
    for i in range(end - first):
        target[i] = value


@jit
def gather_pixel(
    x: Image, geometry: Geometry, place: tuple[int, int, int], channels: tuple[int, int], sign: int, zero: Any,
    out: Array, at: int,
) -> None:  # fmt: skip
    """Copy the receptive field of output (item, y, z) to out[at:], [k_h, k_w, channels].

    `channels` (first, number) of each pixel are copied, shifted by `sign`; pixels outside the image are `zero`.
    """
    item, y, z = place
    first, count = channels
    k_w, d_w = geometry.k_w, geometry.d_w
    top, left = y * geometry.s_h - geometry.p_h, z * geometry.s_w - geometry.p_w
    j0, j1 = inside(left, d_w, k_w, x.width)
    for i in range(geometry.k_h):
        row = top + i * geometry.d_h
        here = at + i * k_w * count
        if not 0 <= row < x.height:
            fill(out, here, here + k_w * count, zero)
            continue
        fill(out, here, here + j0 * count, zero)
        fill(out, here + j1 * count, here + k_w * count, zero)
        source = ((item * x.height + row) * x.width + left) * x.channels + first
        if d_w == 1 and count == x.channels:
            take_bytes(x.data, source + j0 * count, (j1 - j0) * count, sign, out, here + j0 * count)
        else:
            for j in range(j0, j1):
                take_bytes(x.data, source + j * d_w * x.channels, count, sign, out, here + j * count)


@kernel
def convolve_bytes(
    kind: Static, x: Image, layer: ByteConvolution, out: Image, scratch: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Convolve; scratch holds, for each share, the numbers of all columns, the sums of rows, and a block of pixels."""
    geometry, groups, factor, scaling = layer.geometry, layer.groups, layer.factor, layer.scaling
    count, n = x.channels // groups, out.channels // groups
    k = geometry.k_h * geometry.k_w * count
    depth, step = padded(k), columns_step(n)
    room = scratch.shape[0] // parts * part
    for g in range(groups):
        prepare_columns(kind, k, n, g * n, factor, scaling, Columns(scratch, room + 4 * g * step, step))
    sums = RowSums(scratch, room + 4 * groups * step, factor.weighted)
    memory, start = bytes_of(scratch), (sums.start + BLOCK) * 4
    quantum = quantum_of(scaling)
    zero = np.uint8(np.int64(scaling.x_zero[0]) ^ scaling.x_sign)
    pixels = out.height * out.width
    first, end = share((out.batch * pixels + TALL - 1) // TALL, part, parts)
    first, end = first * TALL, min(end * TALL, out.batch * pixels)
    block = block_rows(k)
    for begin in range(first, end, block):
        rows = min(block, end - begin)
        for g in range(groups):
            for r in range(rows):
                pixel = begin + r
                place = pixel // pixels, pixel % pixels // out.width, pixel % out.width
                gather_pixel(
                    x, geometry, place, (g * count, count), scaling.x_sign, zero, memory, start + r * depth
                )  # fmt: skip
            gathered = Rows(memory, start, depth)
            sum_rows(gathered, rows, k, sums)
            columns = Columns(scratch, room + 4 * g * step, step)
            target = Target(out.data, begin * out.channels + g * n, out.channels, 0)
            multiply_rows(
                kind, gathered, rows, depth // WORD, Panel(factor.data, g * depth * step), n,
                Finish(columns, sums, quantum), target,
            )  # fmt: skip


# -- binding ----------------------------------------------------------------------------


def byte_image(x: Array) -> Image:
    """Describe a channels-last image of bytes."""
    found = image(x)
    return found._replace(data=found.data.view(np.uint8))


class Filters(NamedTuple):
    """Weights and their zero points, scales, int32 and float32 addends, each one number or one for each filter."""

    weights: Array
    zero: Array | None
    scale: Array | None = None
    offset: Array | None = None
    bias: Array | None = None


def bind_convolution(
    pool: ConstantPool, kind: int, out: Array, x: Array, filters: Filters, scaling: Scaling, geometry: ConvAttributes
) -> Call:
    """Bind a convolution that isn't depthwise."""
    w, group = filters.weights, geometry.group
    windows = conv_windows(Info(None, x.shape), Info(None, w.shape), geometry=geometry)
    numbers = geometry_of(windows)

    def pack(w: Array) -> Array:
        return np.moveaxis(w, 1, -1).reshape(group, w.shape[0] // group, -1).transpose(0, 2, 1)

    factor = factor_of(
        pool, f"convolution {group}", pack, w, filters.zero, filters.scale, offset=filters.offset, bias=filters.bias
    )
    source, target = byte_image(x), byte_image(out) if kind == BYTES else image(out)
    k, n = w[0].size, w.shape[0]
    plain = set(windows.kernel + windows.strides) == {1} and not any(windows.begin) and windows.out == x.shape[2:]
    if group == 1 and plain:
        size = Product(source.batch * source.height * source.width, k, n)
        arguments = (Specialised(kind), source.data, factor, scaling, target.data, size)
        return Call(multiply_bytes, arguments, scratch=scratch_of(k, n))
    scratch = 4 * group * columns_step(n // group) + BLOCK + block_rows(k) * padded(k) // 4
    return Call(
        convolve_bytes, (Specialised(kind), source, ByteConvolution(factor, scaling, numbers, group), target),
        scratch=scratch,
    )  # fmt: skip
