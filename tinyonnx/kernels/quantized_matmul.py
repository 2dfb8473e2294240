"""MatMulInteger, QLinearMatMul, QGemm and MatMulIntegerToFloat with constant weights."""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.byte_tiles import BYTES, FLOATS, SUMS
from tinyonnx.ir import Array
from tinyonnx.kernels._quantized import (
    bytes_refused,
    exact_refused,
    one_number_refused,
    parameters_refused,
    scales_refused,
)
from tinyonnx.kernels.quantized_gemm import factor_of, product, scaling_of
from tinyonnx.ops.microsoft.matmul import matmul_integer_to_float, qgemm
from tinyonnx.ops.quantized import matmul_integer, qlinear_matmul
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


def _refused(out: Info, a: Info | None, b: Info | None, a_zero: Info | None, b_zero: Info | None) -> str | None:
    if a is None or a.shape is None or len(a.shape) < 2 or b is None or b.shape is None or len(b.shape) != 2:
        return "not a product of rows with one matrix"
    return parameters_refused(a, b, a_zero, b_zero, b.shape[1])


def _only(w: Array) -> Array:
    return w[None]


def _integer_refused(
    out: Info, a: Info | None, b: Info | None, a_zero: Info | None = None, b_zero: Info | None = None
) -> str | None:  # fmt: skip
    return _refused(out, a, b, a_zero, b_zero)


@fast(matmul_integer, when=_integer_refused, layout="row_major")
def bind_integer(
    pool: ConstantPool, out: Array, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
) -> Call:  # fmt: skip
    """Bind a MatMulInteger: sums of products in int32."""
    return product(pool, SUMS, a, out, factor_of(pool, "matmul", _only, b, b_zero), scaling_of(a, a_zero))


def _qlinear_refused(
    out: Info, a: Info | None, a_scale: Info | None, a_zero: Info | None, b: Info | None, b_scale: Info | None,
    b_zero: Info | None, y_scale: Info | None, y_zero: Info | None,
) -> str | None:  # fmt: skip
    reason = _refused(out, a, b, a_zero, b_zero) or bytes_refused(out)
    if reason is not None or a is None or a.shape is None:
        return reason
    scales = scales_refused(out.shape[-1] if out.shape else 0, b_scale, a_scale=a_scale, y_scale=y_scale)
    return scales or one_number_refused(y_zero=y_zero) or exact_refused(a.shape[-1])


@fast(qlinear_matmul, when=_qlinear_refused, layout="row_major")
def bind_qlinear(pool: ConstantPool, out: Array, *operands: Array) -> Call:
    """Bind a QLinearMatMul: sums of products, quantised to the output's type."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = operands
    factor = factor_of(pool, "matmul", _only, b, b_zero, b_scale)
    return product(pool, BYTES, a, out, factor, scaling_of(a, a_zero, a_scale, y_scale, y_zero))


def _float_refused(
    out: Info, a: Info | None, b: Info | None, a_scale: Info | None, b_scale: Info | None, a_zero: Info | None = None,
    b_zero: Info | None = None, bias: Info | None = None,
) -> str | None:  # fmt: skip
    reason = _refused(out, a, b, a_zero, b_zero)
    if reason is not None or a is None or a.shape is None or out.shape is None:
        return reason
    if bias is not None and (bias.dtype != np.float32 or bias.shape != out.shape[-1:]):
        return "the bias is not float32"
    return scales_refused(out.shape[-1], b_scale, a_scale=a_scale) or exact_refused(a.shape[-1])


@fast(matmul_integer_to_float, when=_float_refused, layout="row_major")
def bind_float(
    pool: ConstantPool, out: Array, a: Array, b: Array, a_scale: Array, b_scale: Array, a_zero: Array | None = None,
    b_zero: Array | None = None, bias: Array | None = None,
) -> Call:  # fmt: skip
    """Bind a MatMulIntegerToFloat: sums of products in int32, scaled."""
    factor = factor_of(pool, "matmul", _only, b, b_zero, b_scale, bias=bias)
    return product(pool, FLOATS, a, out, factor, scaling_of(a, a_zero, a_scale))


def _qgemm_refused(
    out: Info, *operands: Info | None, alpha: float = 1.0, transA: int = 0, transB: int = 0
) -> str | None:  # fmt: skip
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = (*operands, None, None, None)[:9]
    if transA:
        return "a is transposed"
    if a is None or a.shape is None or out.shape is None:
        return "shapes are unknown"
    n = out.shape[-1]
    if c is not None and c.shape not in ((), (1,), (n,), (1, n), (1, 1)):
        return "c is a matrix"
    reason = parameters_refused(a, b, a_zero, b_zero, n) or exact_refused(a.shape[-1], c)
    return reason or scales_refused(n, b_scale, a_scale=a_scale, y_scale=y_scale) or one_number_refused(y_zero=y_zero)


@fast(qgemm, when=_qgemm_refused, layout="row_major")
def bind_qgemm(
    pool: ConstantPool, out: Array, *operands: Array | None, alpha: float = 1.0, transA: int = 0, transB: int = 0
) -> Call:
    """Bind a QGemm: sums of products plus c, scaled or requantised."""
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = (*operands, None, None, None)[:9]
    assert a is not None
    assert b is not None
    tag, pack = ("matmul of the transpose", lambda b: b.T[None]) if transB else ("matmul", _only)
    factor = factor_of(pool, tag, pack, b, b_zero, b_scale, offset=c)
    scaling = scaling_of(a, a_zero, a_scale, y_scale, y_zero, alpha)
    return product(pool, FLOATS if y_scale is None else BYTES, a, out, factor, scaling)
