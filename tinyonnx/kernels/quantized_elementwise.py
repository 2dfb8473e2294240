"""Functions of bytes: tables of 256 results, sums and products of quantised numbers, means, maxima of windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.byte_tiles import (
    PRODUCT,
    PRODUCT_ROUNDED,
    SUM,
    SUM_ROUNDED,
    ByteLine,
    PairNumbers,
    byte_pairs,
)
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Geometry, Image, flat, geometry_of, image, temporary
from tinyonnx.kernels._quantized import bytes_refused, one_number_refused, scales_refused
from tinyonnx.kernels._strided import Axes, Strided, grid_part, grid_parts, rank_refused, row_start, walk
from tinyonnx.kernels.broadcast import is_dense
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.elementwise import share_lines
from tinyonnx.kernels.pool import windows_refused
from tinyonnx.kernels.quantize import to_byte
from tinyonnx.kernels.quantized_gemm import NO_ZERO, Scaling, raw, scaling_of, sign_of
from tinyonnx.ops.microsoft.quantized import (
    qlinear_add,
    qlinear_global_average_pool,
    qlinear_leaky_relu,
    qlinear_mul,
    qlinear_sigmoid,
)
from tinyonnx.ops.pool import PoolAttributes, max_pool, pool_windows
from tinyonnx.ops.quantized import byte_table
from tinyonnx.registry import FUSED, Call, Info, fast, lookup
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

_LINE = 64
"""Results of a work item, which is not divided between threads: a cache line."""


@kernel
def map_table(x: Array, table: Array, out: Array, part: int, parts: int) -> None:
    """Look up out[i] = table[x[i]]."""
    first, end = share_lines(out.shape[0], part, parts)
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        target[i] = table[source[i]]


@jit
def number_of(zero: Array, sign: int) -> Any:
    """Return the zero point as a float; `sign` is 128 for signed bytes, else 0."""
    return np.float32((np.int64(zero[0]) ^ sign) - sign)


@kernel
def combine_bytes(
    code: Static, a: Strided, b: Strided, out: Strided, sizes: Axes, scales: tuple[Array, Array, Array],
    zeros: tuple[Array, Array, Array], sign: int, part: int, parts: int,
) -> None:  # fmt: skip
    """Compute out[i] = a[i] ∘ b[i], requantised, for indices i below `sizes`.

    Last steps are 0 or 1, that of `out` is 1.
    """
    numbers = PairNumbers(
        scales[0][0], number_of(zeros[0], sign), scales[1][0], number_of(zeros[1], sign), scales[2][0],
        number_of(zeros[2], sign), sign,
    )  # fmt: skip
    first, end = share(grid_parts(sizes), part, parts)
    for number in range(first, end):
        item = grid_part(sizes, number)
        for r in range(item.row, item.end):
            byte_pairs(
                code, item.columns, ByteLine(a.data, row_start(a, item, r), a.steps[5]),
                ByteLine(b.data, row_start(b, item, r), b.steps[5]), ByteLine(out.data, row_start(out, item, r), 1),
                numbers,
            )  # fmt: skip


@kernel
def find_maxima(x: Image, out: Image, geometry: Geometry, sign: int, part: int, parts: int) -> None:
    """Find the maxima of windows of bytes, signed if `sign` is 128, unsigned if it is 0."""
    c = x.channels
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    first_row, end_row = share(out.batch * out.height, part, parts)
    for line in range(first_row, end_row):
        item, y = line // out.height, line % out.height
        top = y * s_h - p_h
        i0, i1 = inside(top, d_h, k_h, x.height)
        for z in range(out.width):
            left = z * s_w - p_w
            j0, j1 = inside(left, d_w, k_w, x.width)
            o = (line * out.width + z) * c
            result = out.data[o : o + c]
            for k in range(c):
                result[k] = sign
            for i in range(i0, i1):
                for j in range(j0, j1):
                    at = ((item * x.height + top + i * d_h) * x.width + left + j * d_w) * c
                    pixel = x.data[at : at + c]
                    if sign != 0:
                        for k in range(c):
                            result[k] = max(pixel[k] ^ 128, result[k] ^ 128) ^ 128
                    else:
                        for k in range(c):
                            result[k] = max(pixel[k], result[k])


@kernel
def find_means(
    x: Array, batch: int, pixels: int, channels: int, scaling: Scaling, totals: Array, out: Array, part: int, parts: int
) -> None:
    """Compute out[batch, channels] = requantised means of the images x[batch, pixels, channels]; sums are exact.

    `totals` has room for a sum for each mean.
    """
    sign, y_sign, n = scaling.x_sign, scaling.y_sign, batch * channels
    factor, scale = scaling.x_scale[0] / np.float32(pixels), scaling.y_scale[0]
    shift = pixels * (np.int64(scaling.x_zero[0]) ^ sign)
    zero = (np.int64(scaling.y_zero[0]) ^ y_sign) - y_sign
    low, high = np.float32(-y_sign - zero), np.float32(255 - y_sign - zero)
    first, end = share((n + _LINE - 1) // _LINE, part, parts)
    i, stop = first * _LINE, min(end * _LINE, n)
    while i < stop:
        count = min(_LINE, channels - i % channels, stop - i)
        at = i // channels * pixels * channels + i % channels
        sums = totals[i : i + count]
        for k in range(count):
            sums[k] = 0
        for p in range(pixels):
            row = x[at + p * channels : at + p * channels + count]
            for k in range(count):
                sums[k] += np.int64(row[k]) ^ sign
        for k in range(count):
            out[i + k] = to_byte(np.float32(sums[k] - shift) * factor / scale, low, high, zero)
        i += count


# -- tables -----------------------------------------------------------------------------


def _table_refused(out: Info, x: Info | None, table: Info | None) -> str | None:
    return "the table is not constant" if table is None or table.value is None else bytes_refused(out, x, table)


@fast(byte_table, when=_table_refused, layout="any", by_item=True)
def bind_table(pool: ConstantPool, out: Array, x: Array, table: Array) -> Call:
    """Bind `map_table`."""
    return Call(map_table, (raw(x), raw(table), raw(out)))


def _function_refused(out: Info, x: Info | None, *parameters: Info | None, **_: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    if any(p is not None and p.value is None for p in parameters):
        return "scales are not constant"
    return bytes_refused(out, x)


def _register_functions() -> None:
    def bind_with(function: Any) -> Any:
        def bind(pool: ConstantPool, out: Array, x: Array, *parameters: Array | None, **attributes: Any) -> Call:
            every = np.arange(256, dtype=np.uint8).view(x.dtype)
            return Call(map_table, (raw(x), raw(function(every, *parameters, **attributes)), raw(out)))

        return bind

    for function in (qlinear_sigmoid, qlinear_leaky_relu):
        fast(function, when=_function_refused, layout="any", by_item=True)(bind_with(function))


_register_functions()


# -- sums and products ------------------------------------------------------------------


def _pair_refused(out: Info, *operands: Info | None) -> str | None:
    a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero = (*operands, None)[:8]
    if a is None or b is None or (a.value is not None and b.value is not None):
        return "both operands are constant"
    if any(i.value is None and i.shape is not None and len(i.shape) not in (0, len(out.shape or ())) for i in (a, b)):
        return "operands differ in rank"
    if any(zero is not None and zero.dtype != out.dtype for zero in (a_zero, b_zero, c_zero)):
        return "a zero point has another type"
    reason = scales_refused(1, None, a=a_scale, b=b_scale, c=c_scale)
    return (
        reason
        or one_number_refused(a=a_zero, b=b_zero, c=c_zero)
        or bytes_refused(out, a, b)
        or rank_refused(out.shape)
    )


def _bind_pair(code: int) -> Any:
    def bind(pool: ConstantPool, out: Array, *operands: Array | None) -> Call:
        a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero = (*operands, None)[:8]
        views = [x if is_dense(x) else np.ascontiguousarray(x) for x in (a, b) if x is not None]
        sizes, (out_steps, *steps) = walk(out, *(broadcast_to(x, out.shape) for x in views))
        for i, last in enumerate(step[5] for step in steps):
            if last not in (0, 1):  # a constant in another memory order
                whole = np.empty_like(out)
                whole[...] = views[i]
                views[i], steps[i] = whole, out_steps
        a_line, b_line = (Strided(raw(x), 0, step) for x, step in zip(views, steps))
        scales = tuple(flat(s) for s in (a_scale, b_scale, c_scale) if s is not None)
        zeros = tuple(NO_ZERO if zero is None else raw(zero) for zero in (a_zero, b_zero, c_zero))
        target = Strided(raw(out), 0, out_steps)
        return Call(
            combine_bytes, (Specialised(code), a_line, b_line, target, sizes, scales, zeros, sign_of(out.dtype))
        )  # fmt: skip

    return bind


fast(qlinear_add, when=_pair_refused, layout="any")(_bind_pair(SUM))
fast(qlinear_mul, when=_pair_refused, layout="any")(_bind_pair(PRODUCT))
for _name, _code in (("QuantizedAdd", SUM_ROUNDED), ("QuantizedMul", PRODUCT_ROUNDED)):
    fast(lookup(FUSED, _name, 1).function, when=_pair_refused, layout="any")(_bind_pair(_code))


# -- means and maxima -------------------------------------------------------------------


def _means_refused(
    out: Info, x: Info | None, x_scale: Info | None, x_zero: Info | None, y_scale: Info | None, y_zero: Info | None, *,
    channels_last: int = 0,
) -> str | None:  # fmt: skip
    if x is None or x.value is not None or x.shape is None or len(x.shape) < 3 or channels_last:
        return "not an image with its channels first"
    if any(z is not None and z.dtype != x.dtype for z in (x_zero, y_zero)):
        return "a zero point has another type"
    reason = scales_refused(1, None, x_scale=x_scale, y_scale=y_scale) or bytes_refused(out, x)
    return reason or one_number_refused(x_zero=x_zero, y_zero=y_zero)


@fast(qlinear_global_average_pool, when=_means_refused, by_item=True)
def bind_means(
    pool: ConstantPool, out: Array, x: Array, x_scale: Array, x_zero: Array, y_scale: Array, y_zero: Array, **_: Any
) -> Call:
    """Bind the means over all spatial axes."""
    batch, channels = x.shape[:2]
    scaling = scaling_of(x, x_zero, x_scale, y_scale, y_zero)
    totals = temporary(batch * channels, np.int64)
    return Call(find_means, (raw(x), batch, x.size // (batch * channels), channels, scaling, totals, raw(out)))


def _maxima_refused(out: Info, x: Info | None, *, geometry: PoolAttributes, storage_order: int = 0) -> str | None:
    return windows_refused(x, geometry, storage_order) or bytes_refused(out, x)


@fast(max_pool, when=_maxima_refused, by_item=True)
def bind_maxima(pool: ConstantPool, out: Array, x: Array, *, geometry: PoolAttributes, storage_order: int = 0) -> Call:
    """Bind maxima without indices."""
    source, target = image(x), image(out)
    images = (source._replace(data=raw(source.data)), target._replace(data=raw(target.data)))
    return Call(find_maxima, (*images, geometry_of(pool_windows(x, geometry)), sign_of(x.dtype)))
