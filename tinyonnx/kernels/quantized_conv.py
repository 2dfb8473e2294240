"""Convolutions of bytes: QLinearConv, ConvInteger, ConvIntegerToFloat.

The bytes under the kernel are gathered for a block of pixels, with zero points where it reaches beyond the image; the
rest is a product with the packed weights. A 1×1 convolution of stride 1 is that product alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.byte_tiles import (
    BYTES,
    FLOATS,
    SUMS,
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
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Geometry,
    Image,
    Product,
    geometry_of,
    geometry_refused,
    image,
    is_depthwise,
)
from tinyonnx.kernels._quantized import (
    bytes_refused,
    exact_refused,
    one_number_refused,
    parameters_refused,
    scales_refused,
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
    scaling_of,
    scratch_of,
    sum_rows,
    take_bytes,
)
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.quantized import conv_integer, conv_integer_to_float, qlinear_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


class ByteConvolution(NamedTuple):
    """The constants of a convolution: weights, scales, geometry, number of groups."""

    factor: Factor
    scaling: Scaling
    geometry: Geometry
    groups: int


@jit
def fill(out: Array, first: int, end: int, value: Any) -> None:
    """out[first:end] = value."""
    target = out[first:end]
    for i in range(end - first):
        target[i] = value


@jit
def gather_pixel(
    x: Image, geometry: Geometry, place: tuple[int, int, int], channels: tuple[int, int], sign: int, zero: Any,
    out: Array, at: int,
) -> None:  # fmt: skip
    """Copy the receptive field of output (item, y, z) to out[at:], [k_h, k_w, channels].

    Of each pixel `channels` (first, number) are copied, shifted by `sign`; pixels outside the image are `zero`.
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
    """Convolve; scratch holds, for each share, the numbers of all columns, sums of rows, and a block of pixels."""
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
    """The record of a channels-last image of bytes."""
    found = image(x)
    return found._replace(data=found.data.view(np.uint8))


class Filters(NamedTuple):
    """Weights, and one number or one for each filter: zero points, scales; int32 and float32 added to the results."""

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


# -- operators --------------------------------------------------------------------------


def convolution_refused(
    out: Info, x: Info | None, w: Info | None, x_zero: Info | None, w_zero: Info | None, geometry: ConvAttributes
) -> str | None:  # fmt: skip
    """Refuse convolutions that no kernel supports."""
    if x is None or w is None or x.shape is None or len(x.shape) not in (3, 4):
        return "not one or two spatial axes"
    try:
        windows = conv_windows(Info(None, x.shape), Info(None, w.shape), geometry=geometry)
    except OpError as error:
        return str(error)
    assert w.shape is not None
    return geometry_refused(windows) or parameters_refused(x, w, x_zero, w_zero, w.shape[0])


def _integer_refused(
    out: Info, x: Info | None, w: Info | None, x_zero: Info | None = None, w_zero: Info | None = None, *,
    geometry: ConvAttributes,
) -> str | None:  # fmt: skip
    if is_depthwise(x, w, geometry.group):
        return "depthwise: has a kernel of its own"
    return convolution_refused(out, x, w, x_zero, w_zero, geometry)


@fast(conv_integer, when=_integer_refused, by_item=True)
def bind_integer(
    pool: ConstantPool, out: Array, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None, *,
    geometry: ConvAttributes,
) -> Call:  # fmt: skip
    """Bind the kernel of a ConvInteger: sums of products in int32."""
    return bind_convolution(pool, SUMS, out, x, Filters(w, w_zero), scaling_of(x, x_zero), geometry)


def scaled_refused(
    out: Info, x: Info | None, w: Info | None, scale: Info | None, x_zero: Info | None = None,
    w_zero: Info | None = None, offset: Info | None = None, bias: Info | None = None, *, geometry: ConvAttributes,
) -> str | None:  # fmt: skip
    """Refuse convolutions that no kernel supports, and scales, offsets and biases of other types and shapes."""
    reason = convolution_refused(out, x, w, x_zero, w_zero, geometry)
    if reason is not None or w is None or w.shape is None:
        return reason
    for number, dtype in ((offset, np.int32), (bias, np.float32)):
        if number is not None and (number.dtype != dtype or np.prod(number.shape or ()) != w.shape[0]):
            return "the offset or the bias is not one number for each filter"
    return scales_refused(1, None, scale=scale)


def _scaled_refused(out: Info, *operands: Info | None, geometry: ConvAttributes) -> str | None:
    if is_depthwise(operands[0], operands[1], geometry.group):
        return "depthwise: has a kernel of its own"
    return scaled_refused(out, *operands, geometry=geometry)


@fast(conv_integer_to_float, when=_scaled_refused)
def bind_scaled(pool: ConstantPool, out: Array, *operands: Array | None, geometry: ConvAttributes) -> Call:
    """Bind the kernel of a ConvIntegerToFloat: sums of products in int32, scaled."""
    x, scaling, filters = scaled_parts(*operands)
    return bind_convolution(pool, FLOATS, out, x, filters, scaling, geometry)


def scaled_parts(
    x: Array | None, w: Array | None, scale: Array | None, x_zero: Array | None = None, w_zero: Array | None = None,
    offset: Array | None = None, bias: Array | None = None,
) -> tuple[Array, Scaling, Filters]:  # fmt: skip
    """The image, the scales and the weights of a ConvIntegerToFloat."""
    assert x is not None
    assert w is not None
    return x, scaling_of(x, x_zero, scale), Filters(w, w_zero, None, offset, bias)


def qlinear_refused(out: Info, *operands: Info | None, geometry: ConvAttributes) -> str | None:
    """Refuse convolutions that no kernel supports, and scales, zero points and biases of other types and shapes."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b = (*operands, None)[:9]
    reason = convolution_refused(out, x, w, x_zero, w_zero, geometry)
    if reason is not None or w is None or w.shape is None:
        return reason
    if b is not None and (b.dtype != np.int32 or b.shape != (w.shape[0],)):
        return "the bias is not int32"
    scales = scales_refused(w.shape[0], w_scale, x_scale=x_scale, y_scale=y_scale)
    reason = scales or one_number_refused(y_zero=y_zero) or bytes_refused(out)
    return reason or exact_refused(int(np.prod(w.shape[1:])), b)


def _qlinear_refused(out: Info, *operands: Info | None, geometry: ConvAttributes) -> str | None:
    if is_depthwise(operands[0], operands[3], geometry.group):
        return "depthwise: has a kernel of its own"
    return qlinear_refused(out, *operands, geometry=geometry)


@fast(qlinear_conv, when=_qlinear_refused, by_item=True)
def bind_qlinear(pool: ConstantPool, out: Array, *operands: Array | None, geometry: ConvAttributes) -> Call:
    """Bind the kernel of a QLinearConv: sums of products, quantised to the output's type."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b = (*operands, None)[:9]
    assert x is not None
    assert w is not None
    scaling = scaling_of(x, x_zero, x_scale, y_scale, y_zero)
    return bind_convolution(pool, BYTES, out, x, Filters(w, w_zero, w_scale, b), scaling, geometry)
