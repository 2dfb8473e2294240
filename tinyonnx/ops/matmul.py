"""Products of matrices."""

from __future__ import annotations

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Attributes, Info, op
from tinyonnx.sizes.integers import broadcast_shapes


def _product(a: Array, b: Array) -> Array:
    """Return `a @ b`; half precision is computed in float32, and the result is float32."""
    if a.dtype.itemsize < 4 and a.dtype.kind not in "iu":
        a, b = a.astype(np.float32), b.astype(np.float32)
    with np.errstate(all="ignore"):
        return np.asarray(np.matmul(a, b))


def _check_dtypes(a: Array | Info, b: Array | Info) -> None:
    if a.dtype is not None and b.dtype is not None and a.dtype != b.dtype:
        raise OpError(f"a is {a.dtype}, b is {b.dtype}")


# -- MatMul -----------------------------------------------------------------------------


def _matmul_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if not a or not b:
        raise OpError(f"can't multiply shapes {list(a)} and {list(b)}: scalars aren't allowed")
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        raise OpError(f"can't multiply shapes {list(a)} and {list(b)}: {a[-1]} columns meet {inner} rows")
    try:
        batch = broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise OpError(f"can't multiply shapes {list(a)} and {list(b)}: batches don't broadcast") from None
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def matmul_shape(a: Info, b: Info) -> Info:
    """Infer the output shape of MatMul."""
    _check_dtypes(a, b)
    return Info(a.dtype, None if a.shape is None or b.shape is None else _matmul_shape(a.shape, b.shape))


@op("MatMul", since=1, shape=matmul_shape)
def matmul(a: Array, b: Array) -> Array:
    _check_dtypes(a, b)
    _matmul_shape(a.shape, b.shape)
    return _product(a, b).astype(a.dtype, copy=False)


# -- Gemm -------------------------------------------------------------------------------


class GemmAttributes(Attributes):
    """The attributes of Gemm."""

    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0
    transB: int = 0


def _gemm_dims(a: Array | Info, b: Array | Info, c: Array | Info | None, product: GemmAttributes) -> tuple[int, int]:
    """Return the shape of the result. Raises OpError where operands don't fit together."""
    _check_dtypes(a, b)
    assert a.shape is not None
    assert b.shape is not None
    for name, operand in (("a", a), ("b", b)):
        if operand.ndim != 2:
            raise OpError(f"{name} has {operand.ndim} dimensions, Gemm takes matrices")
    m, k = a.shape[::-1] if product.transA else a.shape
    inner, n = b.shape[::-1] if product.transB else b.shape
    if k != inner:
        raise OpError(f"can't multiply [{m}, {k}] and [{inner}, {n}]: {k} columns meet {inner} rows")
    if c is not None:
        if c.dtype is not None and a.dtype is not None and c.dtype != a.dtype:
            raise OpError(f"a is {a.dtype}, c is {c.dtype}")
        if c.shape is not None:
            _check_broadcast(c.shape, (m, n))
    return m, n


def _check_broadcast(c: tuple[int, ...], result: tuple[int, int]) -> None:
    if len(c) > 2 or any(size not in (1, full) for size, full in zip(c[::-1], result[::-1])):
        raise OpError(f"c of shape {list(c)} doesn't broadcast to {list(result)}")


def gemm_shape(a: Info, b: Info, c: Info | None = None, *, product: GemmAttributes) -> Info:
    """Infer the output shape of Gemm."""
    if a.shape is None or b.shape is None:
        return Info(a.dtype, None)
    return Info(a.dtype, _gemm_dims(a, b, c, product))


@op("Gemm", since=7, shape=gemm_shape)
def gemm(a: Array, b: Array, c: Array | None = None, *, product: GemmAttributes = GemmAttributes()) -> Array:
    _gemm_dims(a, b, c, product)
    alpha, beta = product.alpha, product.beta
    y = _product(a.T if product.transA else a, b.T if product.transB else b)
    with np.errstate(all="ignore"):
        if alpha != 1:
            y = (y * alpha).astype(y.dtype, copy=False)
        if c is not None and beta != 0:
            addend = c.astype(y.dtype, copy=False)
            y = (y + (addend if beta == 1 else addend * beta)).astype(y.dtype, copy=False)
        return y.astype(a.dtype, copy=False)


def gemm_shape_1(a: Info, b: Info, c: Info, *, product: GemmAttributes, broadcast: int = 0) -> Info:
    """Infer the output shape of Gemm before opset 7."""
    info = gemm_shape(a, b, c, product=product)
    if info.shape is not None and c.shape is not None:
        _check_same(c.shape, info.shape, broadcast)
    return info


def _check_same(c: tuple[int, ...], result: tuple[int, ...], broadcast: int) -> None:
    if not broadcast and c != result:
        raise OpError(f"c has shape {list(c)}, not {list(result)}, and broadcast is 0")


@op("Gemm", since=1, shape=gemm_shape_1)
def gemm_1(a: Array, b: Array, c: Array, *, product: GemmAttributes = GemmAttributes(), broadcast: int = 0) -> Array:
    _check_same(c.shape, _gemm_dims(a, b, c, product), broadcast)
    return gemm(a, b, c, product=product)
