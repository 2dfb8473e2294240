"""com.microsoft: operators on quantised tensors, as ONNX Runtime's quantiser writes them.

Most of them dequantise, apply the operator to real numbers, and quantise. Sums of products are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.activation import leaky_relu, sigmoid, softmax, softmax_1
from tinyonnx.ops.conv import ConvAttributes, conv_shape
from tinyonnx.ops.math import quiet
from tinyonnx.ops.microsoft._common import microsoft, present
from tinyonnx.ops.pool import PoolAttributes, average_pool, max_pool, pool_windows
from tinyonnx.ops.quantize import (
    centered,
    check_type,
    dequantize_linear,
    dequantize_shape,
    quantize_linear,
    quantize_shape,
    saturated,
)
from tinyonnx.ops.quantized import one_number, qlinear_conv
from tinyonnx.ops.tensor import concat, concat_rule
from tinyonnx.registry import Context, Info, broadcast, same_as

microsoft("QuantizeLinear", shape=quantize_shape)(quantize_linear)
microsoft("DequantizeLinear", shape=dequantize_shape)(dequantize_linear)


def _real(x: Array, scale: Array, zero_point: Array | None, name: str = "x") -> Array:
    """Dequantise `x` with one scale and zero point to float32."""
    check_type(x, zero_point, name)
    zero = None if zero_point is None else one_number(f"the zero point of {name}", zero_point)
    return np.asarray(centered(x, zero, np.float32) * one_number(f"the scale of {name}", scale))


def _quantized(
    y: Array, scale: Array, zero_point: Array | None, dtype: np.dtype[Any], shift_first: bool = False
) -> Array:
    """Quantise real numbers to `dtype`, the type of the zero point.

    With `shift_first` the zero point is added before rounding to even, not after, as some operators
    of ONNX Runtime do; results differ for numbers half-way between two integers.
    """
    if zero_point is not None and zero_point.dtype != dtype:
        raise OpError(f"the output is {dtype}, its zero point {zero_point.dtype}")
    zero = None if zero_point is None else one_number("the output's zero point", zero_point)
    y = np.asarray(y / one_number("the output's scale", scale))
    if zero is None or not shift_first:
        return saturated(y, zero, dtype)
    return saturated(np.asarray(y + zero.astype(np.float32)), None, dtype)


# -- elementwise ------------------------------------------------------------------------


def _binary(name: str, function: np.ufunc) -> Callable[..., Array]:
    def shape(a: Info, a_scale: Info, a_zero: Info | None, b: Info, *_: Info | None) -> Info:
        return broadcast()(a, b)

    @microsoft(name, shape=shape)
    @quiet
    def run(
        a: Array, a_scale: Array, a_zero_point: Array | None = None, b: Array | None = None,
        b_scale: Array | None = None, b_zero_point: Array | None = None, c_scale: Array | None = None,
        c_zero_point: Array | None = None,
    ) -> Array:  # fmt: skip
        b, b_scale, c_scale = present(b=b, b_scale=b_scale, c_scale=c_scale)
        if a.dtype != b.dtype:
            raise OpError(f"a is {a.dtype}, b is {b.dtype}")
        reals = _real(a, a_scale, a_zero_point, "a"), _real(b, b_scale, b_zero_point, "b")
        try:
            y = function(*reals)
        except ValueError:
            raise OpError(f"shapes {list(a.shape)} and {list(b.shape)} don't broadcast") from None
        return _quantized(y, c_scale, c_zero_point, a.dtype, shift_first=True)

    return run


qlinear_add = _binary("QLinearAdd", np.add)
qlinear_mul = _binary("QLinearMul", np.multiply)


@microsoft("QLinearSigmoid", shape=same_as())
@quiet
def qlinear_sigmoid(
    x: Array, x_scale: Array, x_zero_point: Array | None = None, y_scale: Array | None = None,
    y_zero_point: Array | None = None,
) -> Array:  # fmt: skip
    (y_scale,) = present(y_scale=y_scale)
    return _quantized(sigmoid(_real(x, x_scale, x_zero_point)), y_scale, y_zero_point, x.dtype)


@microsoft("QLinearLeakyRelu", shape=same_as())
@quiet
def qlinear_leaky_relu(
    x: Array, x_scale: Array, x_zero_point: Array | None = None, y_scale: Array | None = None,
    y_zero_point: Array | None = None, *, alpha: float = 0.01,
) -> Array:  # fmt: skip
    (y_scale,) = present(y_scale=y_scale)
    y = leaky_relu(_real(x, x_scale, x_zero_point), alpha=alpha)
    return _quantized(y, y_scale, y_zero_point, x.dtype)


@microsoft("QLinearSoftmax", shape=same_as())
@quiet
def qlinear_softmax(
    x: Array, x_scale: Array, x_zero_point: Array | None = None, y_scale: Array | None = None,
    y_zero_point: Array | None = None, *, opset: int, axis: int = -1,
) -> Array:  # fmt: skip
    """Compute Softmax of quantised numbers; `opset` selects its version."""
    (y_scale,) = present(y_scale=y_scale)
    function = softmax if opset >= 13 else softmax_1
    return _quantized(function(_real(x, x_scale, x_zero_point), axis=axis), y_scale, y_zero_point, x.dtype)


def _where_shape(condition: Info, x: Info, x_scale: Info, x_zero: Info, y: Info, *_: Info) -> Info:
    return broadcast(dtype_of=1)(condition, x, y)


@microsoft("QLinearWhere", shape=_where_shape)
@quiet
def qlinear_where(
    condition: Array, x: Array, x_scale: Array, x_zero_point: Array, y: Array, y_scale: Array, y_zero_point: Array,
    z_scale: Array, z_zero_point: Array,
) -> Array:  # fmt: skip
    if x.dtype != y.dtype:
        raise OpError(f"x is {x.dtype}, y is {y.dtype}")
    options = [
        _quantized(_real(v, scale, zero, name), z_scale, z_zero_point, x.dtype)
        for name, v, scale, zero in (("x", x, x_scale, x_zero_point), ("y", y, y_scale, y_zero_point))
    ]
    try:
        return np.asarray(np.where(condition, *options))
    except ValueError:
        shapes = ", ".join(str(list(v.shape)) for v in (condition, x, y))
        raise OpError(f"shapes {shapes} don't broadcast") from None


def _concat_shape(y_scale: Info, y_zero_point: Info, *inputs: Info | None, axis: int) -> Info:
    parts = [Info(y_zero_point.dtype, None if x is None else x.shape) for x in inputs[::3]]
    return concat_rule(*parts, axis=axis)


@microsoft("QLinearConcat", shape=_concat_shape)
@quiet
def qlinear_concat(y_scale: Array, y_zero_point: Array, *inputs: Array | None, axis: int) -> Array:
    """Concatenate inputs given as triples: data, scale, zero point."""
    triples = [(*inputs[i : i + 3], None, None)[:3] for i in range(0, len(inputs), 3)]
    parts = []
    for i, (x, scale, zero_point) in enumerate(triples):
        x, scale = present(**{f"x{i}": x, f"x{i}_scale": scale})
        parts.append(_quantized(_real(x, scale, zero_point, f"x{i}"), y_scale, y_zero_point, y_zero_point.dtype))
    return concat(*parts, axis=axis)


# -- windows ----------------------------------------------------------------------------


def _channels_first(x: Array) -> Array:
    if x.ndim < 3:
        raise OpError(f"x has {x.ndim} dimensions, needs at least 3: batch, spatial axes, channels")
    return np.moveaxis(x, -1, 1)


def _first(info: Info) -> Info:
    return info if info.shape is None else Info(info.dtype, (info.shape[0], info.shape[-1], *info.shape[1:-1]))


def _last(info: Info) -> Info:
    return info if info.shape is None else Info(info.dtype, (info.shape[0], *info.shape[2:], info.shape[1]))


def _global_shape(x: Info, *_: Info | None, channels_last: int = 0) -> Info:
    if x.shape is None:
        return x
    ones = (1,) * (x.ndim - 2)
    return Info(x.dtype, (x.shape[0], *ones, x.shape[-1]) if channels_last else (*x.shape[:2], *ones))


@microsoft("QLinearGlobalAveragePool", shape=_global_shape)
@quiet
def qlinear_global_average_pool(
    x: Array, x_scale: Array, x_zero_point: Array, y_scale: Array, y_zero_point: Array, *, channels_last: int = 0
) -> Array:
    axes = tuple(range(1, x.ndim - 1) if channels_last else range(2, x.ndim))
    if x.ndim < 3 or any(x.shape[a] == 0 for a in axes):
        raise OpError(f"x of shape {list(x.shape)} has nothing to pool")
    check_type(x, x_zero_point)
    sums = centered(x, one_number("x_zero_point", x_zero_point), np.int64).sum(axis=axes, keepdims=True)
    size = np.float32(np.prod([x.shape[a] for a in axes]))
    mean = sums.astype(np.float32) * (one_number("x_scale", x_scale) / size)
    return _quantized(mean, y_scale, y_zero_point, x.dtype)


def _pool_shape(
    x: Info, *_: Info | None, geometry: PoolAttributes, channels_last: int = 0, count_include_pad: int = 0
) -> Info:
    if x.shape is None:
        return x
    image = _first(x) if channels_last else x
    assert image.shape is not None
    y = Info(x.dtype, (*image.shape[:2], *pool_windows(image, geometry).out))
    return _last(y) if channels_last else y


@microsoft("QLinearAveragePool", shape=_pool_shape)
@quiet
def qlinear_average_pool(
    ctx: Context, x: Array, x_scale: Array, x_zero_point: Array | None = None, y_scale: Array | None = None,
    y_zero_point: Array | None = None, *, geometry: PoolAttributes, channels_last: int = 0, count_include_pad: int = 0,
) -> Array:  # fmt: skip
    (y_scale,) = present(y_scale=y_scale)
    real = _real(x, x_scale, x_zero_point)
    image = _channels_first(real) if channels_last else real
    y = average_pool(ctx, image, geometry=geometry, count_include_pad=count_include_pad)
    y = np.moveaxis(y, 1, -1) if channels_last else y
    return _quantized(y, y_scale, y_zero_point, x.dtype, shift_first=True)


def _nhwc_pool_shape(x: Info, *, geometry: PoolAttributes) -> Info:
    return _pool_shape(x, geometry=geometry, channels_last=1)


@microsoft("NhwcMaxPool", shape=_nhwc_pool_shape)
def nhwc_max_pool(ctx: Context, x: Array, *, geometry: PoolAttributes) -> Array:
    y = max_pool(ctx, _channels_first(x), geometry=geometry)
    assert isinstance(y, np.ndarray)
    return np.moveaxis(y, 1, -1)


def _conv_shape(
    x: Info, x_scale: Info, x_zero: Info, w: Info, *_: Info | None, geometry: ConvAttributes, channels_last: int = 0
) -> Info:
    image = _first(x) if channels_last else x
    y = conv_shape(image, Info(x.dtype, w.shape), geometry=geometry)
    return _last(y) if channels_last else y


@microsoft("QLinearConv", shape=_conv_shape)
def qlinear_conv_(
    ctx: Context, x: Array, x_scale: Array, x_zero_point: Array, w: Array, w_scale: Array, w_zero_point: Array,
    y_scale: Array, y_zero_point: Array, b: Array | None = None, *, geometry: ConvAttributes = ConvAttributes(),
    channels_last: int = 0,
) -> Array:  # fmt: skip
    """Compute QLinearConv of images that may have their channels last; filters have ONNX's layout."""
    y = qlinear_conv(
        ctx,
        *(_channels_first(x) if channels_last else x, x_scale, x_zero_point, w, w_scale, w_zero_point),
        *(y_scale, y_zero_point, b),
        geometry=geometry,
    )
    return np.moveaxis(y, 1, -1) if channels_last else y
