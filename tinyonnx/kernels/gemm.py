"""Products with a constant matrix in register tiles: Gemm, FusedGemm, MatMul, Linear.

The constant matrix is packed into panels of 2 vectors of columns (see `panel_width` for the last ones), each
[k, columns]. If the columns don't fill the last vector, it is moved to the left, over columns that are then computed
twice; with registers of 512 bits, its lower half is left out if it contains only such columns. Only results narrower
than one vector need a mask. The last tile of rows is moved up in the same way, so that no element outside the arrays is
read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import (
    FEW_1,
    FEW_2,
    FEW_3,
    HALF,
    LANES,
    LOOPED,
    PAIRS,
    POSTPONED,
    ROWS_1,
    ROWS_2,
    ROWS_3,
    Block,
    Epilogue,
    Lines,
    Rows,
    Taps,
    Weights,
    gemm_tiles,
    round_to_pairs,
)
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    NO_EPILOGUE,
    Layer,
    Product,
    activation_refused,
    epilogue_of,
    flat,
    float32_refused,
    zeros,
)
from tinyonnx.kernels.elementwise import activate
from tinyonnx.ops import fused as ops_fused
from tinyonnx.ops import matmul as ops
from tinyonnx.ops.fused import Activation, fused_gemm
from tinyonnx.ops.matmul import GemmAttributes
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

BLOCK, _LARGEST_BLOCK = 24, 96
"""Rows per block (a multiple of the tile height): each block is multiplied by all panels before the next one starts."""

ROUNDED_BLOCK = 48
"""Rows that are rounded to bfloat16 at a time."""

_NEAR = 4096
"""Maximum number of floats in a block of rows that stays in the L1 cache."""


_MANY, _TALL = 1 << 18, 384
"""Number of weights above which they don't stay in the L2 cache, and rows per block of such products."""

HALVED = HALF if LANES == 16 else 0
"""Number of last columns up to which tiles of half a vector are used: with registers of 512 bits, else 0."""

_GROUP = 8
"""Panels whose results are activated together, while they are in the L1 or L2 cache."""


class Panels(NamedTuple):
    """Packed weights and bias: panels of `depth` rows each, from `start` on.

    The first tap is multiplied by row `first`.
    """

    data: Array
    start: int
    first: int
    depth: int
    bias: Array
    bias_start: int


@jit
def panel_width(vectors: int, n: int) -> int:
    """Return the number of vectors in the next panel when `vectors` of those of `n` columns are left.

    Panels of 2 are as fast as panels of 3 and easier to divide. The last vector has a panel of its own if half of it is
    enough; without halves 3 are left to one panel.
    """
    if HALVED == 0:
        return 3 if vectors == 3 else min(vectors, 2)
    return 1 if vectors == 2 and 0 < n % LANES <= HALVED else min(vectors, 2)


@jit
def panels_of(n: int) -> int:
    """Return the number of panels of `n` columns."""
    return max((n + LANES - 1) // LANES // 2, 1)


@jit
def panel_start(panel: int) -> int:
    """Return the first column of a panel."""
    return panel * 2 * LANES


@jit(inline=True)
def multiply_panel(
    many: Static, few: Static, vectors: Static, run: Static, x: Rows, m: int, taps: Taps, w: Weights, out: Block,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    """Multiply `m` rows with a panel in the highest tiles that they fill; `run` is LOOPED or PAIRS.

    Rows that are left are done in a tile of `few` where that is enough.
    """
    done = 0
    if m >= many:
        done = m if m % many > few else m - m % many
        gemm_tiles(many, vectors, run, 0, x, done, taps, w, out, epilogue)
    if done < m:
        first = min(done, m - few) if m >= few else done
        lines = out.lines
        rest = Rows(x.data, x.start + first * x.step, x.step)
        here = Block(
            Lines(lines.data, lines.residual, lines.start + first * lines.step, lines.step, lines.column),
            out.last, out.lanes,
        )  # fmt: skip
        if m >= few:
            gemm_tiles(few, vectors, run, 0, rest, m - first, taps, w, here, epilogue)
        else:
            gemm_tiles(1, vectors, run, 0, rest, m - first, taps, w, here, epilogue)


@jit(inline=True)
def multiply_panels(
    run: Static, x: Rows, m: int, taps: Taps, w: Panels, n: int, out: Lines, epilogue: Epilogue
) -> None:
    """Multiply like `multiply_rows`, as a function to be inlined; `run` is LOOPED or PAIRS."""
    vectors = (n + LANES - 1) // LANES
    lanes = min(n, LANES)
    column = 0
    panel = w.start
    while vectors > 0:
        width = panel_width(vectors, n)
        columns = width * LANES
        last = (width - 1) * out.column
        if width == vectors and n >= LANES:
            last -= column + columns - n
        weights = Weights(w.data, panel + w.first * columns, w.bias, w.bias_start + column)
        here = Lines(out.data, out.residual, out.start + column // LANES * out.column, out.step, out.column)
        if width == 2:
            multiply_panel(ROWS_2, FEW_2, 2, run, x, m, taps, weights, Block(here, last, lanes), epilogue)
        elif HALVED == 0 and width == 3:
            multiply_panel(ROWS_3, FEW_3, 3, run, x, m, taps, weights, Block(here, last, lanes), epilogue)
        elif HALVED > 0 and vectors == 1 and 0 < n % LANES <= HALVED:
            # the lower half of the last vector repeats columns of the one before
            skip = HALVED if n > LANES else 0
            weights = Weights(w.data, weights.start + skip, w.bias, weights.bias_start + skip)
            block = Block(here, last + skip, min(n, HALVED))
            multiply_panel(ROWS_1, FEW_1, 0, run, x, m, taps, weights, block, epilogue)
        else:
            multiply_panel(ROWS_1, FEW_1, 1, run, x, m, taps, weights, Block(here, last, lanes), epilogue)
        panel += w.depth * columns
        column += columns
        vectors -= width


@jit
def multiply_rows(x: Rows, m: int, taps: Taps, w: Panels, n: int, out: Lines, epilogue: Epilogue) -> None:
    """Compute out[i, :n] = epilogue(Σ taps x[i] · w + bias) for `m` rows, without a postponed activation."""
    multiply_panels(LOOPED, x, m, taps, w, n, out, epilogue)


@jit
def multiply_matrix(x: Rows, m: int, w: Panels, n: int, out: Lines, epilogue: Epilogue) -> None:
    """Multiply like `multiply_rows`, each row being a single run of `w.depth` elements, without loops over taps."""
    multiply_panels(LOOPED, x, m, Taps(1, 0, 1, 0, w.depth, 0), w, n, out, epilogue)


@jit
def multiply_typed(run: Static, x: Rows, m: int, w: Panels, n: int, out: Lines, epilogue: Epilogue) -> None:
    """Multiply like `multiply_matrix`, floats (`run` is LOOPED) or bfloat16 (PAIRS) in rows of `w.depth` pairs."""
    multiply_panels(run, x, m, Taps(1, 0, 1, 0, w.depth, 0), w, n, out, epilogue)


@jit
def round_rows(x: Array, start: int, rows: int, k: int, out: Array, at: int) -> None:
    """Round rows of `k` floats to bfloat16 and store them as rows of (k + 1) // 2 pairs from out[at] on."""
    if k % 2 == 0:
        round_to_pairs(x, start, rows * k, out, at)
    else:
        for row in range(rows):
            round_to_pairs(x, start + row * k, k, out, at + row * (k + 1) // 2)


@jit
def share_columns(n: int, part: int, parts: int) -> tuple[int, int]:
    """Return the columns of a share: whole panels."""
    first, end = share(panels_of(n), part, parts)
    return min(panel_start(first), n), n if part == parts - 1 else min(panel_start(end), n)


@jit
def share_product(m: int, n: int, part: int, parts: int) -> tuple[int, int, int, int]:
    """Return a share of a product [m, n], whole tiles of rows or whole panels: (first row, end, first column, end)."""
    if m >= ROWS_2 * parts:
        row, end = share((m + ROWS_2 - 1) // ROWS_2, part, parts)
        return row * ROWS_2, min(end * ROWS_2, m), 0, n
    column, column_end = share_columns(n, part, parts)
    return 0, m, column, column_end


@jit
def multiply_and_activate(x: Rows, m: int, w: Panels, n: int, out: Lines, epilogue: Epilogue) -> None:
    """Multiply like `multiply_matrix`; a postponed activation is applied to the results of a few panels at a time."""
    panels = panels_of(n)
    for p in range(0, panels, _GROUP):
        column = panel_start(p)
        columns = (n if p + _GROUP >= panels else panel_start(p + _GROUP)) - column
        lines = Lines(out.data, out.residual, out.start + column, out.step, LANES)
        group = Panels(w.data, w.start + column * w.depth, 0, w.depth, w.bias, w.bias_start + column)
        multiply_matrix(x, m, group, columns, lines, epilogue)
        for i in range(m):
            at = lines.start + i * out.step
            activate(out.data[at : at + columns], epilogue)


@kernel
def multiply(x: Array, layer: Layer, residual: Array, out: Array, size: Product, part: int, parts: int) -> None:
    """Compute out[m, n] = epilogue(x[m, k] · w + bias + residual); all arrays flat."""
    m, k, n = size
    row, end, column, column_end = share_product(m, n, part, parts)
    columns = column_end - column
    # larger blocks if rows are short or there is a single panel, because a call costs as much as half a tile,
    block = min(_NEAR // k // BLOCK * BLOCK, _LARGEST_BLOCK) if panels_of(n) > 1 else _LARGEST_BLOCK
    # or if the weights don't stay in the L2 cache, because they are loaded once per block
    block = _TALL if columns * k >= _MANY else max(block, BLOCK)
    w = Panels(layer.data, column * k, 0, k, layer.bias, column)
    for first in range(row, end, block):
        count = min(block, end - first)
        lines = Lines(out, residual, first * n + column, n, LANES)
        if layer.epilogue.activation >= POSTPONED:
            multiply_and_activate(Rows(x, first * k, k), count, w, columns, lines, layer.epilogue)
        else:
            multiply_matrix(Rows(x, first * k, k), count, w, columns, lines, layer.epilogue)


@kernel
def multiply_rounded(
    x: Array, layer: Layer, residual: Array, out: Array, size: Product, scratch: Array, part: int, parts: int
) -> None:
    """Multiply like `multiply`, with operands rounded to bfloat16.

    Scratch holds a block of rounded rows for each share.
    """
    m, k, n = size
    row, end, column, column_end = share_product(m, n, part, parts)
    depth = (k + 1) // 2
    room = scratch.shape[0] // parts * part
    w = Panels(layer.data, column * depth, 0, depth, layer.bias, column)
    for first in range(row, end, ROUNDED_BLOCK):
        count = min(ROUNDED_BLOCK, end - first)
        round_rows(x, first * k, count, k, scratch, room)
        lines = Lines(out, residual, first * n + column, n, LANES)
        multiply_typed(PAIRS, Rows(scratch, room, depth), count, w, column_end - column, lines, layer.epilogue)
        if layer.epilogue.activation >= POSTPONED:
            for i in range(first, first + count):
                activate(out[i * n + column : i * n + column_end], layer.epilogue)


# -- packing ----------------------------------------------------------------------------


def vector_starts(n: int) -> list[int]:
    """Return the first column of each vector; the last vector is moved to the left if it wouldn't be full."""
    starts = list(range(0, n, LANES))
    if n >= LANES:
        starts[-1] = n - LANES
    return starts


def pack_bias(bias: Array) -> Array:
    """Pack a bias of n numbers in the order of the panels' columns."""
    return pack_panels(bias.reshape(1, -1))


def pack_panels(matrix: Array) -> Array:
    """Pack a matrix [k, n] into panels and return them as a flat array."""
    k, n = matrix.shape
    starts = vector_starts(n)
    packed = zeros(k * len(starts) * LANES)
    at = 0
    while starts:
        width = panel_width(len(starts), n)
        panel = packed[at : at + k * width * LANES].reshape(k, width, LANES)
        for v, start in enumerate(starts[:width]):
            panel[:, v, : min(n, LANES)] = matrix[:, start : start + LANES]
        at += panel.size
        starts = starts[width:]
    return packed


def pairs_of(matrix: Array) -> Array:
    """Round a matrix [k, n] to bfloat16 and return it as pairs of rows, [(k + 1) // 2, n]."""
    k, n = matrix.shape
    columns = np.zeros((n, k + k % 2), np.float32)
    columns[:, :k] = matrix.T
    pairs = np.empty(columns.size // 2, np.float32)
    round_to_pairs(columns.reshape(-1), 0, columns.size, pairs, 0)
    return pairs.reshape(n, -1).T


def pack_rounded(matrix: Array) -> Array:
    """Pack a matrix [k, n], rounded to bfloat16, into panels of pairs."""
    return pack_panels(pairs_of(matrix))


# -- operators --------------------------------------------------------------------------


def product_call(x: Array, layer: Layer, residual: Array, out: Array, size: Product, rounded: bool) -> Call:
    """Bind `multiply`, or with `rounded` and a layer packed by `pack_rounded` bind `multiply_rounded`."""
    args = (x, layer, residual, out, size)
    if not rounded:
        return Call(multiply, args)
    return Call(multiply_rounded, args, scratch=ROUNDED_BLOCK * ((size.k + 1) // 2))


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


@fast(ops.gemm, when=_gemm_refused, layout="row_major", rounds=True)
@fast(fused_gemm, when=_gemm_refused, layout="row_major", rounds=True)
def bind_gemm(
    pool: ConstantPool, out: Array, a: Array, b: Array, c: Array | None = None, *, product: GemmAttributes,
    activation: Activation = Activation(), rounded: bool = False,
) -> Call:  # fmt: skip
    """Bind a product; alpha and beta are multiplied into the packed constants."""
    (m, n), alpha, beta, transB = out.shape, product.alpha, product.beta, product.transB
    scale, share = np.float32(alpha), np.float32(beta)

    def pack_matrix(b: Array) -> Array:
        return (pack_rounded if rounded else pack_panels)((b.T if transB else b) * scale)

    def pack_c(c: Array) -> Array:
        return pack_bias(np.broadcast_to(c.reshape(-1) * share, n))

    w = pool.derive(("gemm", alpha, transB, rounded), pack_matrix, b)
    bias = no_bias(n) if c is None or beta == 0 else pool.derive(("gemm bias", beta, n), pack_c, c)
    target = flat(out)
    layer = Layer(w, bias, epilogue_of(activation))
    return product_call(flat(a), layer, target, target, Product(m, a.size // m, n), rounded)


@cache
def no_bias(n: int) -> Array:
    """Return a packed bias of zeros."""
    return pack_bias(np.zeros(n, np.float32))


def bias_panels(pool: ConstantPool, b: Array | None, columns: int) -> Array:
    """Pack a bias, zeros if absent, in the order of the panels' columns."""
    return no_bias(columns) if b is None else np.asarray(pool.derive("bias", pack_bias, b))


def pointwise_layer(
    pool: ConstantPool, w: Array, b: Array | None, epilogue: Epilogue, pack: Callable[[Array], Array] = pack_panels
) -> Layer:
    """Pack the layer of a 1×1 convolution with weights [filters, channels, 1, 1]; `pack_rounded` packs bfloat16."""
    packed = pool.derive(("pointwise", pack.__name__), lambda w: pack(w.reshape(w.shape[:2]).T), w)
    return Layer(packed, bias_panels(pool, b, len(w)), epilogue)


def linear(
    pool: ConstantPool, x: Array, w: Array, b: Array | None, out: Array, epilogue: Epilogue,
    rounded: bool = False, residual: Array | None = None,
) -> Call:  # fmt: skip
    """Bind out[m, n] = epilogue(x[m, k] · w[k, n] + b[n] + residual[m, n]) with flat `x`, `residual` and `out`."""
    k, n = w.shape
    packed = pool.derive(("linear", rounded), pack_rounded if rounded else pack_panels, w)
    layer = Layer(packed, bias_panels(pool, b, n), epilogue)
    other = out if residual is None else residual
    return product_call(x, layer, other, out, Product(out.size // n, k, n), rounded)


def _linear_refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if b is not None and b.value is None:
        return "the bias is not constant"
    if residual is not None and (residual.value is not None or residual.shape != out.shape):
        return "the residual is constant or of another shape"
    return activation_refused(activation) or _matmul_refused(out, x, w) or float32_refused(b, residual)


@fast(ops_fused.linear, when=_linear_refused, layout="row_major", rounds=True)
def bind_linear(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    activation: Activation = Activation(), rounded: bool = False,
) -> Call:  # fmt: skip
    """Bind a product of [..., k] with a constant [k, n], and its epilogue."""
    epilogue = epilogue_of(activation, residual is not None)
    return linear(pool, flat(x), w, b, flat(out), epilogue, rounded, None if residual is None else flat(residual))


def _matmul_refused(out: Info, a: Info | None, b: Info | None) -> str | None:
    if b is not None and b.shape is not None and len(b.shape) != 2:
        return "the right matrix has a batch"
    if a is not None and a.shape is not None and len(a.shape) < 2:
        return "the left operand is a vector"
    return _matrix_refused(out, a, b)


@fast(ops.matmul, when=_matmul_refused, layout="row_major", rounds=True)
def bind_matmul(pool: ConstantPool, out: Array, a: Array, b: Array, *, rounded: bool = False) -> Call:
    """Bind a product of [..., k] with a constant [k, n]."""
    return linear(pool, flat(a), b, None, flat(out), NO_EPILOGUE, rounded)
