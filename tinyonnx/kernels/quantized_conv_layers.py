"""Binders of QLinearConv, ConvInteger and ConvIntegerToFloat, depthwise and others."""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.byte_tiles import BYTES, FLOATS, SUMS
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import geometry_refused, is_depthwise
from tinyonnx.kernels._quantized import (
    bytes_refused,
    exact_refused,
    one_number_refused,
    parameters_refused,
    scales_refused,
)
from tinyonnx.kernels.quantized_conv import Filters
from tinyonnx.kernels.quantized_depthwise import bind_depthwise
from tinyonnx.kernels.quantized_gemm import Scaling, scaling_of
from tinyonnx.kernels.quantized_windows import bind_windows
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.quantized import conv_integer, conv_integer_to_float, qlinear_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


def _refused(
    x: Info | None, w: Info | None, x_zero: Info | None, w_zero: Info | None, geometry: ConvAttributes
) -> str | None:
    if x is None or w is None or x.shape is None or len(x.shape) not in (3, 4):
        return "not one or two spatial axes"
    try:
        windows = conv_windows(Info(None, x.shape), Info(None, w.shape), geometry=geometry)
    except OpError as error:
        return str(error)
    assert w.shape is not None
    return geometry_refused(windows) or parameters_refused(x, w, x_zero, w_zero, w.shape[0])


def _bind(
    pool: ConstantPool, kind: int, out: Array, x: Array, filters: Filters, scaling: Scaling, geometry: ConvAttributes
) -> Call:
    depthwise = is_depthwise(Info(None, x.shape), Info(None, filters.weights.shape), geometry.group)
    return (bind_depthwise if depthwise else bind_windows)(pool, kind, out, x, filters, scaling, geometry)


def _integer_refused(
    out: Info, x: Info | None, w: Info | None, x_zero: Info | None = None, w_zero: Info | None = None, *,
    geometry: ConvAttributes,
) -> str | None:  # fmt: skip
    return _refused(x, w, x_zero, w_zero, geometry)


@fast(conv_integer, when=_integer_refused, by_item=True)
def bind_integer(
    pool: ConstantPool, out: Array, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None, *,
    geometry: ConvAttributes,
) -> Call:  # fmt: skip
    """Bind a ConvInteger: sums of products in int32."""
    return _bind(pool, SUMS, out, x, Filters(w, w_zero), scaling_of(x, x_zero), geometry)


def _scaled_refused(
    out: Info, x: Info | None, w: Info | None, scale: Info | None, x_zero: Info | None = None,
    w_zero: Info | None = None, offset: Info | None = None, bias: Info | None = None, *, geometry: ConvAttributes,
) -> str | None:  # fmt: skip
    reason = _refused(x, w, x_zero, w_zero, geometry)
    if reason is not None or w is None or w.shape is None:
        return reason
    for number, dtype in ((offset, np.int32), (bias, np.float32)):
        if number is not None and (number.dtype != dtype or np.prod(number.shape or ()) != w.shape[0]):
            return "the offset or the bias is not one number for each filter"
    return scales_refused(1, None, scale=scale)


@fast(conv_integer_to_float, when=_scaled_refused)
def bind_scaled(
    pool: ConstantPool, out: Array, x: Array, w: Array, scale: Array | None, x_zero: Array | None = None,
    w_zero: Array | None = None, offset: Array | None = None, bias: Array | None = None, *, geometry: ConvAttributes,
) -> Call:  # fmt: skip
    """Bind a ConvIntegerToFloat: sums of products in int32, scaled."""
    filters = Filters(w, w_zero, None, offset, bias)
    return _bind(pool, FLOATS, out, x, filters, scaling_of(x, x_zero, scale), geometry)


def _qlinear_refused(out: Info, *operands: Info | None, geometry: ConvAttributes) -> str | None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b = (*operands, None)[:9]
    reason = _refused(x, w, x_zero, w_zero, geometry)
    if reason is not None or w is None or w.shape is None:
        return reason
    if b is not None and (b.dtype != np.int32 or b.shape != (w.shape[0],)):
        return "the bias is not int32"
    scales = scales_refused(w.shape[0], w_scale, x_scale=x_scale, y_scale=y_scale)
    reason = scales or one_number_refused(y_zero=y_zero) or bytes_refused(out)
    return reason or exact_refused(int(np.prod(w.shape[1:])), b)


@fast(qlinear_conv, when=_qlinear_refused, by_item=True)
def bind_qlinear(pool: ConstantPool, out: Array, *operands: Array | None, geometry: ConvAttributes) -> Call:
    """Bind a QLinearConv: sums of products, quantised to the output's type."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b = (*operands, None)[:9]
    assert x is not None
    assert w is not None
    scaling = scaling_of(x, x_zero, x_scale, y_scale, y_zero)
    return _bind(pool, BYTES, out, x, Filters(w, w_zero, w_scale, b), scaling, geometry)
