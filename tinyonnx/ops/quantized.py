"""Products and convolutions of quantised numbers.

Sums are exact: they are computed in a floating-point type that represents all sums of the products
exactly. The result is then wrapped to int32, or scaled and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.conv import ConvAttributes, conv, conv_shape
from tinyonnx.ops.math import quiet
from tinyonnx.ops.matmul import matmul, matmul_shape
from tinyonnx.ops.quantize import (
    centered,
    check_type,
    dequantize_linear,
    is_integer,
    quantize_linear,
    saturated,
)
from tinyonnx.registry import FUSED, Context, Info, broadcast, op

_FLOAT32_EXACT = 1 << 24
_GREATEST = 255
"""Largest magnitude of a byte minus its zero point."""


def exact_factor(weights: Array, zero_point: Array | None, axis: int | tuple[int, ...]) -> Array:
    """Return weights minus zero point, in a type of floats that holds sums of their products with bytes exactly."""
    whole = centered(weights, zero_point, np.int32)
    greatest = _GREATEST * int(np.abs(whole).sum(axis).max(initial=0))
    return whole.astype(np.float32 if greatest <= _FLOAT32_EXACT else np.float64)


def wrapped(y: Array) -> Array:
    """Convert integral floats to int32, modulo 2**32."""
    return y.astype(np.int64).astype(np.int32)


def one_number(name: str, value: Array) -> Array:
    """Return the scale or zero point of a whole tensor as a scalar. Raises OpError if it isn't exactly one number."""
    if value.size != 1:
        raise OpError(f"{name} has shape {list(value.shape)}, must be one number")
    return value.reshape(())


def _check_bytes(**operands: Array) -> None:
    for name, x in operands.items():
        if x.dtype not in (np.int8, np.uint8):
            raise OpError(f"{name} is {x.dtype}, must be int8 or uint8")


# -- matrices ---------------------------------------------------------------------------


def _per_line(name: str, parameter: Array | None, x: Array, axis: int) -> Array | None:
    """Return the scale or zero point of `x`, shaped to broadcast: one, or one per row (axis -2) or column (-1)."""
    if parameter is None or parameter.size == 1:
        return None if parameter is None else parameter.reshape(())
    lines = x.shape[axis] if x.ndim > 1 else 1
    if parameter.ndim == 1:
        if len(parameter) != lines:
            what = "rows" if axis == -2 else "columns"
            raise OpError(f"{name} has {len(parameter)} numbers, there are {lines} {what}")
        return parameter[:, None] if axis == -2 else parameter
    wanted = list(x.shape)
    wanted[-1 if axis == -2 else -2] = 1
    if list(parameter.shape) != wanted:
        raise OpError(f"{name} has shape {list(parameter.shape)}, should be one number, a vector or {wanted}")
    return parameter


def matmul_integer_shape(a: Info, b: Info, *_: Info | None) -> Info:
    """Infer the output shape of MatMulInteger."""
    whole = np.dtype(np.int32)
    return matmul_shape(Info(whole, a.shape), Info(whole, b.shape))


@op("MatMulInteger", since=10, shape=matmul_integer_shape)
def matmul_integer(a: Array, b: Array, a_zero_point: Array | None = None, b_zero_point: Array | None = None) -> Array:
    _check_bytes(a=a, b=b)
    return wrapped(exact_product(a, b, a_zero_point, b_zero_point))


def exact_product(a: Array, b: Array, a_zero_point: Array | None, b_zero_point: Array | None) -> Array:
    """Return (a - a_zero_point) (b - b_zero_point) as floating-point numbers. Raises OpError."""
    check_type(a, a_zero_point, "a")
    check_type(b, b_zero_point, "b")
    b_zero_point = _per_line("b_zero_point", b_zero_point, b, -1)
    if is_integer(a.dtype) and is_integer(b.dtype):
        factor = exact_factor(b, b_zero_point, -2 if b.ndim > 1 else 0)
    else:
        factor = centered(b, b_zero_point, np.float32)
    return matmul(centered(a, _per_line("a_zero_point", a_zero_point, a, -2), factor.dtype), factor)


def _qlinear_matmul_shape(a: Info, a_scale: Info, a_zero: Info, b: Info, *rest: Info) -> Info:
    return Info(rest[-1].dtype, matmul_integer_shape(a, b).shape)


@op("QLinearMatMul", since=10, shape=_qlinear_matmul_shape)
@quiet
def qlinear_matmul(
    a: Array, a_scale: Array, a_zero_point: Array, b: Array, b_scale: Array, b_zero_point: Array, y_scale: Array,
    y_zero_point: Array,
) -> Array:  # fmt: skip
    sums = exact_product(a, b, a_zero_point, b_zero_point)
    scale = _scale("a_scale", a_scale, a, -2) * _scale("b_scale", b_scale, b, -1)
    y = sums.astype(np.float32) * _squeezed(scale / _scale("y_scale", y_scale, sums, -2), a, b)
    return saturated(y, _per_line("y_zero_point", y_zero_point, sums, -2), y_zero_point.dtype)


def _scale(name: str, scale: Array, x: Array, axis: int) -> Array:
    per_line = _per_line(name, scale, x, axis)
    assert per_line is not None
    return per_line.astype(np.float32)


def _squeezed(scale: Array, a: Array, b: Array) -> Array:
    """Remove the axes that a product with a vector doesn't have."""
    if scale.ndim and b.ndim == 1:
        scale = scale[..., 0]
    return scale[..., 0, :] if scale.ndim > 1 and a.ndim == 1 else scale


# -- convolutions -----------------------------------------------------------------------


def _per_filter(name: str, parameter: Array, w: Array | Info, rank: int) -> Array:
    """Return the scale or zero point of the filters, one number or one per filter, shaped to broadcast at `rank`."""
    assert w.shape is not None
    if parameter.size == 1:
        return parameter.reshape(())
    if w.ndim < 1 or parameter.shape != w.shape[:1]:
        raise OpError(f"{name} has shape {list(parameter.shape)}, should be one number or one per filter of {w.shape}")
    return parameter.reshape(-1, *(1,) * (rank - 1))


def _exact_conv(
    ctx: Context | None, x: Array, w: Array, x_zero_point: Array | None, w_zero_point: Array | None,
    geometry: ConvAttributes,
) -> Array:  # fmt: skip
    _check_bytes(x=x, w=w)
    check_type(x, x_zero_point)
    check_type(w, w_zero_point, "w")
    zero = None if x_zero_point is None else one_number("x_zero_point", x_zero_point)
    zeros = None if w_zero_point is None else _per_filter("w_zero_point", w_zero_point, w, w.ndim)
    filters = exact_factor(w, zeros, tuple(range(1, w.ndim)))
    return conv(ctx, centered(x, zero, filters.dtype), filters, geometry=geometry)


def _conv_integer_shape(x: Info, w: Info, *_: Info | None, geometry: ConvAttributes) -> Info:
    whole = np.dtype(np.int32)
    return conv_shape(Info(whole, x.shape), Info(whole, w.shape), geometry=geometry)


@op("ConvInteger", since=10, shape=_conv_integer_shape)
def conv_integer(
    ctx: Context | None, x: Array, w: Array, x_zero_point: Array | None = None, w_zero_point: Array | None = None, *,
    geometry: ConvAttributes = ConvAttributes(),
) -> Array:  # fmt: skip
    return wrapped(_exact_conv(ctx, x, w, x_zero_point, w_zero_point, geometry))


def _scaled_conv_shape(x: Info, w: Info, *_: Info | None, geometry: ConvAttributes) -> Info:
    return Info(np.dtype(np.float32), _conv_integer_shape(x, w, geometry=geometry).shape)


@op("ConvIntegerToFloat", domain=FUSED, shape=_scaled_conv_shape)
@quiet
def conv_integer_to_float(
    ctx: Context | None, x: Array, w: Array, scale: Array, x_zero_point: Array | None = None,
    w_zero_point: Array | None = None, offset: Array | None = None, bias: Array | None = None, *,
    geometry: ConvAttributes = ConvAttributes(),
) -> Array:  # fmt: skip
    """Compute float32(ConvInteger + offset) · scale + bias.

    The sum with the offset wraps to int32; offset and bias are one number for each filter, the scale is one number.
    """
    sums = conv_integer(ctx, x, w, x_zero_point, w_zero_point, geometry=geometry)
    per_filter = (-1, *(1,) * (x.ndim - 2))
    if offset is not None:
        sums = sums + offset.reshape(per_filter)
    y = sums.astype(np.float32) * one_number("scale", scale)
    return np.asarray(y if bias is None else y + bias.reshape(per_filter))


def _qlinear_conv_shape(
    x: Info, x_scale: Info, x_zero: Info, w: Info, *rest: Info | None, geometry: ConvAttributes
) -> Info:
    assert rest[3] is not None
    return Info(rest[3].dtype, _conv_integer_shape(x, w, geometry=geometry).shape)


@op("QLinearConv", since=10, shape=_qlinear_conv_shape)
@quiet
def qlinear_conv(
    ctx: Context | None, x: Array, x_scale: Array, x_zero_point: Array, w: Array, w_scale: Array, w_zero_point: Array,
    y_scale: Array, y_zero_point: Array, b: Array | None = None, *, geometry: ConvAttributes = ConvAttributes(),
) -> Array:  # fmt: skip
    sums = _exact_conv(ctx, x, w, x_zero_point, w_zero_point, geometry)
    if b is not None:
        if b.dtype != np.int32 or b.shape != w.shape[:1]:
            raise OpError(f"b is {b.dtype} of shape {list(b.shape)}, should be int32 of shape {list(w.shape[:1])}")
        sums = sums + b.reshape(-1, *(1,) * (x.ndim - 2)).astype(np.float64)
    per_filter = _per_filter("w_scale", w_scale, w, x.ndim - 1)
    scale = one_number("x_scale", x_scale) * per_filter / one_number("y_scale", y_scale)
    return saturated(sums.astype(np.float32) * scale, one_number("y_zero_point", y_zero_point), y_zero_point.dtype)


# -- tables -----------------------------------------------------------------------------


@op("ByteTable", domain=FUSED, shape=lambda x, table: Info(table.dtype, x.shape))
def byte_table(x: Array, table: Array) -> Array:
    """Return table[x], by the bits of x: functions of one byte that a pass made from several operators."""
    return table[x.view(np.uint8)]


# -- sums and products of quantised numbers ---------------------------------------------


def _register_pairs() -> None:
    def shape(a: Info, a_scale: Info, a_zero: Info, b: Info, *rest: Info) -> Info:
        return Info(rest[-1].dtype, broadcast()(a, b).shape)

    def make(function: np.ufunc) -> Callable[..., Array]:
        def run(
            a: Array, a_scale: Array, a_zero: Array, b: Array, b_scale: Array, b_zero: Array, y_scale: Array,
            y_zero: Array,
        ) -> Array:  # fmt: skip
            """Dequantise both operands, combine them in float32, and quantise the result."""
            reals = dequantize_linear(a, a_scale, a_zero), dequantize_linear(b, b_scale, b_zero)
            return quantize_linear(function(*reals), y_scale, y_zero)

        return run

    for name, function in (("QuantizedAdd", np.add), ("QuantizedMul", np.multiply)):
        op(name, domain=FUSED, shape=shape)(quiet(make(function)))


_register_pairs()
