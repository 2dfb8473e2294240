"""com.microsoft: products with a quantised operand. Sums of products of integers are exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._microsoft import check_dtypes, check_shape, microsoft, present
from tinyonnx.ops.integer import exact_product, matmul_integer_shape, one_number
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.matmul import gemm_shape
from tinyonnx.ops.quantize import dynamic_quantize_linear, saturated
from tinyonnx.registry import Context, Info

FLOAT32 = np.dtype(np.float32)

# -- MatMulIntegerToFloat, DynamicQuantizeMatMul ----------------------------------------


def _scaled(sums: Array, scale: Array, bias: Array | None) -> Array:
    """Sums of integers times the scale, one number or one per column, plus the bias, in float32."""
    y = sums.astype(np.float32) * scale
    if bias is None:
        return np.asarray(y)
    check_shape("the bias", bias, y.shape[-1:])
    return np.asarray(y + widened(bias))


def _columns(name: str, parameter: Array, b: Array) -> Array:
    """The scale of `b`, one number or one per column, so that it broadcasts; in float32."""
    wide = parameter.astype(np.float32)
    if parameter.size == 1:
        return wide.reshape(())
    per_column = b.shape[-1:] if b.ndim > 1 else (1,)
    check_shape(name, parameter, per_column, (*b.shape[:-2], 1, *per_column))
    return wide


@microsoft("MatMulIntegerToFloat", shape=lambda a, b, scale, *_: Info(scale.dtype, matmul_integer_shape(a, b).shape))
@quiet
def matmul_integer_to_float(
    a: Array,
    b: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero_point: Array | None = None,
    b_zero_point: Array | None = None,
    bias: Array | None = None,
) -> Array:
    check_dtypes(a_scale, b_scale=b_scale, bias=bias)
    scale = one_number("a_scale", a_scale).astype(np.float32) * _columns("b_scale", b_scale, b)
    return _scaled(exact_product(a, b, a_zero_point, b_zero_point), scale, bias).astype(a_scale.dtype, copy=False)


@microsoft("DynamicQuantizeMatMul", shape=lambda a, b, *_: Info(FLOAT32, matmul_integer_shape(a, b).shape))
@quiet
def dynamic_quantize_matmul(
    a: Array, b: Array, b_scale: Array, b_zero_point: Array | None = None, bias: Array | None = None
) -> Array:
    """The product of `a`, quantised to bytes by its own range, with `b`."""
    small, scale, zero_point = dynamic_quantize_linear(a)
    return matmul_integer_to_float(small, b, scale, b_scale, zero_point, b_zero_point, bias)


# -- QGemm ------------------------------------------------------------------------------


def _qgemm_shape(
    a: Info,
    a_scale: Info,
    a_zero: Info | None,
    b: Info,
    *rest: Info | None,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Info:
    y_zero = rest[4] if len(rest) > 4 else None
    shape = gemm_shape(Info(FLOAT32, a.shape), Info(FLOAT32, b.shape), transA=transA, transB=transB).shape
    return Info(FLOAT32 if y_zero is None else y_zero.dtype, shape)


@microsoft("QGemm", shape=_qgemm_shape)
@quiet
def qgemm(
    a: Array,
    a_scale: Array,
    a_zero_point: Array,
    b: Array,
    b_scale: Array,
    b_zero_point: Array,
    c: Array | None = None,
    y_scale: Array | None = None,
    y_zero_point: Array | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """alpha · (a b + c) as float32, or quantised if there is a scale for it; `c` has the scale of the product."""
    for name, operand in (("a", a), ("b", b)):
        if operand.ndim != 2:
            raise OpError(f"{name} has {operand.ndim} dimensions, QGemm takes matrices")
    a, b = (a.T if transA else a), (b.T if transB else b)
    sums = exact_product(a, b, a_zero_point, b_zero_point).astype(np.float64)
    if c is not None:
        try:
            fits = np.broadcast_shapes(c.shape, sums.shape) == sums.shape
        except ValueError:
            fits = False
        if not fits or c.dtype != np.int32:
            raise OpError(f"c is {c.dtype} of shape {list(c.shape)}, must be int32 and broadcast to {list(sums.shape)}")
        sums = sums + c
    scale = np.float32(alpha) * one_number("a_scale", a_scale) * _columns("b_scale", b_scale, b)
    if y_scale is None:
        return _scaled(sums, scale, None)
    (y_zero_point,) = present(y_zero_point=y_zero_point)
    y = sums.astype(np.float32) * (scale / one_number("y_scale", y_scale))
    return saturated(y, one_number("y_zero_point", y_zero_point), y_zero_point.dtype)


# -- MatMulNBits ------------------------------------------------------------------------


def _unpacked(packed: Array, bits: int, count: int) -> Array:
    """The first `count` numbers of `bits` bits each along the last axis of bytes, lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return numbers.reshape(*packed.shape[:-1], -1)[..., :count]


def _n_bits_shape(a: Info, *_: Info | None, K: int, N: int, **__: Any) -> Info:
    return Info(a.dtype, None if a.shape is None else (*a.shape[:-1], N))


@microsoft("MatMulNBits", shape=_n_bits_shape)
@quiet
def matmul_n_bits(
    ctx: Context,
    a: Array,
    b: Array,
    scales: Array,
    zero_points: Array | None = None,
    g_idx: Array | None = None,
    bias: Array | None = None,
    *,
    K: int,
    N: int,
    block_size: int,
    accuracy_level: int = 0,
    bits: int = 4,
    weight_prepacked: int = 0,
) -> Array:
    """`a` [..., K] times the transpose of weights [N, K] that come in blocks along K.

    `b` is [N, blocks, block_size · bits / 8] bytes. Of each block there is a scale and perhaps
    a zero point (packed like the weights, or a number of the type of `a`); `g_idx` tells each
    of the K columns its block. Computed in float32, whatever `accuracy_level` allows.
    """
    if bits not in (2, 4, 8):
        raise OpError(f"bits is {bits}, must be 2, 4 or 8")
    if min(K, N) < 1 or block_size < 16 or block_size & (block_size - 1):
        raise OpError(f"K is {K}, N is {N}, block_size is {block_size}: must be positive, a power of two from 16 on")
    if weight_prepacked:
        raise OpError("prepacked weights are not supported")
    if a.ndim < 1 or a.shape[-1] != K:
        raise OpError(f"A has shape {list(a.shape)}, its last axis should be {K}")
    check_dtypes(a, scales=scales, bias=bias)
    blocks = -(-K // block_size)
    check_shape("B", b, (N, blocks, block_size * bits // 8))
    check_shape("scales", scales, (N, blocks), (N * blocks,))
    check_shape("bias", bias, (N,))
    ctx.check_size((N, blocks * block_size), np.float32)
    ctx.check_size((*a.shape[:-1], N), np.float32)
    which = _blocks_of(g_idx, K, block_size, blocks)
    weights = _unpacked(b.reshape(N, -1), bits, K).astype(np.float32)
    weights -= _zero_points(zero_points, a.dtype, bits, N, blocks)[:, which]
    weights *= widened(scales).reshape(N, blocks)[:, which]
    y = widened(a) @ weights.T
    return np.asarray(y if bias is None else y + widened(bias)).astype(a.dtype, copy=False)


def _blocks_of(g_idx: Array | None, K: int, block_size: int, blocks: int) -> Array:
    if g_idx is None:
        return np.arange(K) // block_size
    if g_idx.ndim != 1 or len(g_idx) < K:
        raise OpError(f"g_idx has shape {list(g_idx.shape)}, needs {K} numbers")
    which = g_idx[:K].astype(np.int64)
    if which.min() < 0 or which.max() >= blocks:
        raise OpError(f"g_idx is {which.min()} to {which.max()}, there are {blocks} blocks")
    return which


def _zero_points(zero_points: Array | None, dtype: np.dtype[Any], bits: int, rows: int, blocks: int) -> Array:
    """[rows, blocks] in float32; the middle of the range if absent."""
    if zero_points is None:
        return np.full((rows, blocks), 1 << (bits - 1), np.float32)
    if zero_points.dtype != np.uint8:
        check_dtypes(Info(dtype, None), zero_points=zero_points)
        check_shape("zero_points", zero_points, (rows, blocks), (rows * blocks,))
        return widened(zero_points).reshape(rows, blocks)
    packed = -(-blocks * bits // 8)
    check_shape("zero_points", zero_points, (rows, packed), (rows * packed,))
    return _unpacked(zero_points.reshape(rows, packed), bits, blocks).astype(np.float32)
