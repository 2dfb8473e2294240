"""com.microsoft: products with a quantised operand. Sums of products of integers are exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.matmul import GemmAttributes, gemm_shape
from tinyonnx.ops.microsoft._common import check_dtypes, check_shape, microsoft, present
from tinyonnx.ops.quantize import dynamic_quantize_linear, saturated
from tinyonnx.ops.quantized import exact_product, matmul_integer_shape, one_number
from tinyonnx.registry import Info
from tinyonnx.sizes.integers import broadcasts_to

FLOAT32 = np.dtype(np.float32)

# -- MatMulIntegerToFloat, DynamicQuantizeMatMul ----------------------------------------


def _scaled(sums: Array, scale: Array, bias: Array | None) -> Array:
    """Compute sums · scale + bias in float32; the scale is one number or one per column."""
    y = sums.astype(np.float32) * scale
    if bias is None:
        return np.asarray(y)
    check_shape("the bias", bias, y.shape[-1:])
    return np.asarray(y + widened(bias))


def _columns(name: str, parameter: Array, b: Array) -> Array:
    """Return the scale of `b`, one number or one per column, in float32 and shaped to broadcast."""
    wide = parameter.astype(np.float32)
    if parameter.size == 1:
        return wide.reshape(())
    per_column = b.shape[-1:] if b.ndim > 1 else (1,)
    check_shape(name, parameter, per_column, (*b.shape[:-2], 1, *per_column))
    return wide


@microsoft("MatMulIntegerToFloat", shape=lambda a, b, scale, *_: Info(scale.dtype, matmul_integer_shape(a, b).shape))
@quiet
def matmul_integer_to_float(
    a: Array, b: Array, a_scale: Array, b_scale: Array, a_zero_point: Array | None = None,
    b_zero_point: Array | None = None, bias: Array | None = None,
) -> Array:  # fmt: skip
    check_dtypes(a_scale, b_scale=b_scale, bias=bias)
    scale = one_number("a_scale", a_scale).astype(np.float32) * _columns("b_scale", b_scale, b)
    return _scaled(exact_product(a, b, a_zero_point, b_zero_point), scale, bias).astype(a_scale.dtype, copy=False)


@microsoft("DynamicQuantizeMatMul", shape=lambda a, b, *_: Info(FLOAT32, matmul_integer_shape(a, b).shape))
@quiet
def dynamic_quantize_matmul(
    a: Array, b: Array, b_scale: Array, b_zero_point: Array | None = None, bias: Array | None = None
) -> Array:
    """Return the product of `a`, dynamically quantised to bytes, and `b`."""
    small, scale, zero_point = dynamic_quantize_linear(a)
    return matmul_integer_to_float(small, b, scale, b_scale, zero_point, b_zero_point, bias)


# -- QGemm ------------------------------------------------------------------------------


def _qgemm_shape(
    a: Info, a_scale: Info, a_zero: Info | None, b: Info, *rest: Info | None, transA: int = 0, transB: int = 0, **_: Any
) -> Info:
    y_zero = rest[4] if len(rest) > 4 else None
    product = GemmAttributes(transA=transA, transB=transB)
    shape = gemm_shape(Info(FLOAT32, a.shape), Info(FLOAT32, b.shape), product=product).shape
    return Info(FLOAT32 if y_zero is None else y_zero.dtype, shape)


@microsoft("QGemm", shape=_qgemm_shape)
@quiet
def qgemm(
    a: Array, a_scale: Array, a_zero_point: Array, b: Array, b_scale: Array, b_zero_point: Array,
    c: Array | None = None, y_scale: Array | None = None, y_zero_point: Array | None = None, *, alpha: float = 1.0,
    transA: int = 0, transB: int = 0,
) -> Array:  # fmt: skip
    """Compute alpha · (a b + c) in float32, or quantised if `y_scale` is given; `c` has the scale of the product."""
    for name, operand in (("a", a), ("b", b)):
        if operand.ndim != 2:
            raise OpError(f"{name} has {operand.ndim} dimensions, QGemm takes matrices")
    a, b = (a.T if transA else a), (b.T if transB else b)
    sums = exact_product(a, b, a_zero_point, b_zero_point).astype(np.float64)
    if c is not None:
        if not broadcasts_to(c.shape, sums.shape) or c.dtype != np.int32:
            raise OpError(f"c is {c.dtype} of shape {list(c.shape)}, must be int32 and broadcast to {list(sums.shape)}")
        sums = sums + c
    scale = np.float32(alpha) * one_number("a_scale", a_scale) * _columns("b_scale", b_scale, b)
    if y_scale is None:
        return _scaled(sums, scale, None)
    (y_zero_point,) = present(y_zero_point=y_zero_point)
    y = sums.astype(np.float32) * (scale / one_number("y_scale", y_scale))
    return saturated(y, one_number("y_zero_point", y_zero_point), y_zero_point.dtype)
