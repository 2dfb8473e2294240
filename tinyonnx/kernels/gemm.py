"""Products with a constant matrix, in register tiles; Gemm, FusedGemm, MatMul.

The constant is packed into panels of 2 vectors of columns (1 to 3 at the end), each [k, columns].
Where the columns don't fill the last panel, its last vector is moved to the left over
columns that are computed twice; only results narrower than one vector need a mask. Rows
are treated alike, so nothing is ever read or written beside the arrays.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import FEW_1, FEW_2, FEW_3, LANES, POSTPONED, ROWS_1, ROWS_2, ROWS_3, gemm_tile
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    NO_EPILOGUE,
    Epilogue,
    Taps,
    activation_refused,
    epilogue_of,
    flat,
    float32_refused,
    zeros,
)
from tinyonnx.kernels.elementwise import activate
from tinyonnx.ops import matmul as ops
from tinyonnx.ops.fused import Activation, fused_gemm
from tinyonnx.ops.matmul import GemmAttributes
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

BLOCK, _LARGEST_BLOCK = 24, 96
"""Rows that visit all panels before the next rows come: whole tiles."""

_NEAR = 4096
"""Floats of such rows: few enough to stay in the nearest cache."""


@jit
def panel_width(vectors: int) -> int:
    """Vectors in the next panel when `vectors` are left: 2, as fast as 3 and easier to divide."""
    return 3 if vectors == 3 else min(vectors, 2)


@jit
def panels_of(n: int) -> int:
    """How many panels `n` columns have."""
    return max((n + LANES - 1) // LANES // 2, 1)


@jit
def panel_start(panel: int) -> int:
    """The first column of a panel."""
    return panel * 2 * LANES


@jit
def tile_rows(m: int, width: int) -> int:
    """Rows of the tiles that cover `m` rows: a last tile is moved up where it would end below them."""
    many, few = (ROWS_3, FEW_3) if width == 3 else (ROWS_2, FEW_2) if width == 2 else (ROWS_1, FEW_1)
    return many if m >= many else few if m >= few else 1


@jit
def multiply_rows(
    x: Array, x_at: int, x_step: int, m: int, taps: Taps, w: Array, w_at: int, w_first: int, depth: int,
    bias: Array, b_at: int, n: int, out: Array, o_at: int, o_step: int, o_column: int, residual: Array,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    """out[i, :n] = epilogue(Σ taps x[i] · w + bias) for `m` rows.

    Row i starts at x_at + i·x_step and is gathered in runs of consecutive elements: `taps` is
    (outer count, outer step, inner count, inner step, run length, rows of w per outer tap).
    The panels of w start at `w_at` and have `depth` rows each; the first tap meets row
    `w_first`. Result rows start at o_at + i·o_step, and vector v of a row
    v·o_column further; the residual is laid out like `out`.
    """
    outer, outer_step, inner, inner_step, run, w_outer = taps
    vectors = (n + LANES - 1) // LANES
    lanes = min(n, LANES)
    column = 0
    panel = w_at
    while vectors > 0:
        width = panel_width(vectors)
        columns = width * LANES
        last = (width - 1) * o_column
        if width == vectors and n >= LANES:
            last -= column + columns - n
        here = (outer, outer_step, inner, inner_step, run, w_outer * columns)
        at = panel + w_first * columns
        b = b_at + column
        o = o_at + column // LANES * o_column
        rows = tile_rows(m, width)
        i = 0
        # the intrinsics take their tile as literals, hence a loop for each
        if width == 2 and rows == ROWS_2:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    ROWS_2, 2, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 2 and rows == FEW_2:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    FEW_2, 2, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 2:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    1, 2, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 3 and rows == ROWS_3:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    ROWS_3, 3, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 3 and rows == FEW_3:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    FEW_3, 3, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 3:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    1, 3, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 1 and rows == ROWS_1:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    ROWS_1, 1, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 1 and rows == FEW_1:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    FEW_1, 1, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        elif width == 1:
            while i < m:
                r = min(i, m - rows)
                gemm_tile(
                    1, 1, x, x_at + r * x_step, x_step, here, w, at, bias, b,
                    out, o + r * o_step, o_step, o_column, last, lanes, residual, epilogue,
                )  # fmt: skip
                i += rows
        panel += depth * columns
        column += columns
        vectors -= width


@jit
def share_columns(n: int, part: int, parts: int) -> tuple[int, int]:
    """The columns of a share: whole panels."""
    first, end = share(panels_of(n), part, parts)
    return min(panel_start(first), n), n if part == parts - 1 else min(panel_start(end), n)


@jit
def share_product(m: int, n: int, part: int, parts: int) -> tuple[int, int, int, int]:
    """First row, last, first column and last of a share of a product [m, n]: whole tiles of rows, or whole panels."""
    if m >= ROWS_2 * parts:
        row, end = share((m + ROWS_2 - 1) // ROWS_2, part, parts)
        return row * ROWS_2, min(end * ROWS_2, m), 0, n
    column, column_end = share_columns(n, part, parts)
    return 0, m, column, column_end


@kernel
def multiply(
    x: Array, w: Array, bias: Array, residual: Array, out: Array, m: int, k: int, n: int, epilogue: Epilogue,
    part: int, parts: int,
) -> None:  # fmt: skip
    """out[m, n] = epilogue(x[m, k] · w + bias + residual); all arrays flat, `w` and `bias` packed."""
    taps = (1, 0, 1, 0, k, 0)
    row, end, column, column_end = share_product(m, n, part, parts)
    columns = column_end - column
    # more rows where they are short, or have a single panel to visit: a call costs as much as half a tile
    block = min(_NEAR // k // BLOCK * BLOCK, _LARGEST_BLOCK) if panels_of(n) > 1 else _LARGEST_BLOCK
    block = max(block, BLOCK)
    for first in range(row, end, block):
        count = min(block, end - first)
        multiply_rows(
            x, first * k, k, count, taps, w, column * k, 0, k, bias, column, columns,
            out, first * n + column, n, LANES, residual, epilogue,
        )  # fmt: skip
        if epilogue[1] >= POSTPONED:
            for i in range(first, first + count):
                activate(out[i * n + column : i * n + column_end], epilogue[1], epilogue[2], epilogue[3])


# -- packing ----------------------------------------------------------------------------


def _starts(n: int) -> list[int]:
    """The first column of each vector: the last one is moved to the left where it wouldn't be full."""
    starts = list(range(0, n, LANES))
    if n >= LANES:
        starts[-1] = n - LANES
    return starts


def pack_bias(bias: Array) -> Array:
    """A bias of n numbers in the order of the panels' columns."""
    return pack_panels(bias.reshape(1, -1))


def pack_panels(matrix: Array) -> Array:
    """A matrix [k, n] as panels, flat."""
    k, n = matrix.shape
    starts = _starts(n)
    packed = zeros(k * len(starts) * LANES)
    at = 0
    while starts:
        width = panel_width(len(starts))
        panel = packed[at : at + k * width * LANES].reshape(k, width, LANES)
        for v, start in enumerate(starts[:width]):
            panel[:, v, : min(n, LANES)] = matrix[:, start : start + LANES]
        at += panel.size
        starts = starts[width:]
    return packed


# -- operators --------------------------------------------------------------------------


def _matrix_refused(out: Info, a: Info | None, b: Info | None, *others: Info | None) -> str | None:
    if b is None or b.value is None:
        return "the right matrix is not constant"
    if a is None or a.value is not None:
        return "the left matrix is constant"
    return float32_refused(out, a, b, *others)


def _gemm_refused(
    out: Info, a: Info | None, b: Info | None, c: Info | None = None, *, product: GemmAttributes,
    activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if product.transA and a is not None and a.shape is not None and a.shape[0] != 1 and a.shape[1] != 1:
        return "a is transposed"
    if c is not None:
        if c.value is None:
            return "c is not constant"
        if c.shape not in ((), (1,), (out.shape or (0, 0))[1:], (1, 1), (1, (out.shape or (0, 0))[-1])):
            return "c differs from row to row"
    return activation_refused(activation) or _matrix_refused(out, a, b, c)


@fast(ops.gemm, when=_gemm_refused, layout="row_major")
@fast(fused_gemm, when=_gemm_refused, layout="row_major")
def bind_gemm(
    pool: ConstantPool, out: Array, a: Array, b: Array, c: Array | None = None, *, product: GemmAttributes,
    activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """alpha and beta disappear into the packed constants."""
    (m, n), alpha, beta, transB = out.shape, product.alpha, product.beta, product.transB
    scale, share = np.float32(alpha), np.float32(beta)

    def pack_matrix(b: Array) -> Array:
        return pack_panels((b.T if transB else b) * scale)

    def pack_c(c: Array) -> Array:
        return pack_bias(np.broadcast_to(c.reshape(-1) * share, n))

    w = pool.derive(("gemm", alpha, transB), pack_matrix, b)
    bias = no_bias(n) if c is None or beta == 0 else pool.derive(("gemm bias", beta, n), pack_c, c)
    target = flat(out)
    epilogue = epilogue_of(activation)
    return Call(multiply, (flat(a), w, bias, target, target, m, a.size // m, n, epilogue))


@cache
def no_bias(n: int) -> Array:
    """A packed bias of zeros."""
    return pack_bias(np.zeros(n, np.float32))


def bias_panels(pool: ConstantPool, b: Array | None, columns: int) -> Array:
    """A bias, zeros if absent, in the order of the panels."""
    return no_bias(columns) if b is None else np.asarray(pool.derive("bias", pack_bias, b))


def linear(pool: ConstantPool, x: Array, w: Array, b: Array | None, out: Array, epilogue: Epilogue) -> Call:
    """out[m, n] = epilogue(x[m, k] · w[k, n] + b[n]) with flat `x` and `out`."""
    k, n = w.shape
    packed = pool.derive("linear", pack_panels, w)
    return Call(multiply, (x, packed, bias_panels(pool, b, n), out, out, out.size // n, k, n, epilogue))


def _matmul_refused(out: Info, a: Info | None, b: Info | None) -> str | None:
    if b is not None and b.shape is not None and len(b.shape) != 2:
        return "the right matrix has a batch"
    if a is not None and a.shape is not None and len(a.shape) < 2:
        return "the left operand is a vector"
    return _matrix_refused(out, a, b)


@fast(ops.matmul, when=_matmul_refused, layout="row_major")
def bind_matmul(pool: ConstantPool, out: Array, a: Array, b: Array) -> Call:
    """A product of [..., k] with a constant [k, n]."""
    return linear(pool, flat(a), b, None, flat(out), NO_EPILOGUE)
