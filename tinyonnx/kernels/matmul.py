"""Products of batches of variable matrices, of which the right ones are packed during the run."""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, LINEAR, Epilogue, Lines, Rows
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Product, flat, float32_refused
from tinyonnx.kernels._strided import Axes, Strided, grid_index, offset, rank_refused, walk
from tinyonnx.kernels.gemm import Panels, multiply_matrix, panel_width
from tinyonnx.ops.matmul import matmul
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

_ROWS = 96
"""Rows of a work item, which is not divided between threads: each share packs the right matrix itself."""

_ZERO = np.float32(0)


@jit
def pack(b: Array, b_at: int, row_step: int, column_step: int, k: int, n: int, out: Array, at: int) -> None:
    """Pack a matrix [k, n] like `gemm.pack_panels`; element (r, c) is at b_at + r·row_step + c·column_step."""
    vectors = (n + LANES - 1) // LANES
    column = 0
    while vectors > 0:
        width = panel_width(vectors, n)
        for v in range(width):
            first = column + v * LANES
            if first + LANES > n:
                first = max(n - LANES, 0)
            count, source, target = min(LANES, n - first), b_at + first * column_step, at + v * LANES
            if column_step == 1:
                for r in range(k):
                    here, there = b[source + r * row_step :], out[target + r * width * LANES :]
                    for c in range(count):
                        there[c] = here[c]
            else:
                for c in range(count):
                    here, there = b[source + c * column_step :], out[target + c :]
                    for r in range(k):
                        there[r * width * LANES] = here[r * row_step]
            for r in range(k):
                for c in range(count, LANES):
                    out[target + r * width * LANES + c] = _ZERO
        at += k * width * LANES
        column += width * LANES
        vectors -= width


@kernel
def multiply_batch(
    a: Strided, b: Strided, out: Array, batch: Axes, size: Product, scratch: Array, part: int, parts: int
) -> None:
    """Compute out[i] = a[i] · b[i], matrices [m, k] and [k, n], for all indices i below `batch`.

    Scratch holds a packed matrix and a packed bias of zeros for each share.
    """
    m, k, n = size
    blocks = (m + _ROWS - 1) // _ROWS
    items = batch[0] * batch[1] * batch[2] * batch[3] * batch[4] * batch[5]
    first, end = share(items * blocks, part, parts)
    room = scratch.shape[0] // parts * part
    columns = (n + LANES - 1) // LANES * LANES
    no_bias = room + k * columns
    for c in range(no_bias, no_bias + columns):
        scratch[c] = _ZERO
    packed = -1
    for item in range(first, end):
        i, row = item // blocks, item % blocks * _ROWS
        i4, i5 = i // batch[5] % batch[4], i % batch[5]
        index = grid_index(i // batch[5] // batch[4], (batch[0], batch[1], batch[2], batch[3]))
        a_start = offset(index, a) + i4 * a.steps[4] + i5 * a.steps[5]
        b_start = offset(index, b) + i4 * b.steps[4] + i5 * b.steps[5]
        if b_start != packed:
            packed = b_start
            pack(b.data, packed, n, 1, k, n, scratch, room)
        multiply_matrix(
            Rows(a.data, a_start + row * k, k), min(_ROWS, m - row), Panels(scratch, room, 0, k, scratch, no_bias), n,
            Lines(out, out, (i * m + row) * n, n, LANES), Epilogue(0, LINEAR, _ZERO, _ZERO),
        )  # fmt: skip


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, a: Info | None, b: Info | None) -> str | None:
    if a is None or b is None or (a.value is not None and b.value is not None):
        return "both operands are constant"
    if a.ndim < 2 or b.ndim < 2:
        return "an operand is a vector"
    return float32_refused(out, a, b) or rank_refused(out.shape)


@fast(matmul, when=_refused, layout="row_major")
def bind_matmul(pool: ConstantPool, out: Array, a: Array, b: Array) -> Call:
    """Bind the product of two batches of matrices, which broadcast."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    a, b = (x if x.flags.c_contiguous else np.ascontiguousarray(x) for x in (a, b))
    items = (broadcast_to(x[..., :1, :1], (*out.shape[:-2], 1, 1)) for x in (out, a, b))
    batch, (_, a_steps, b_steps) = walk(*items)
    arguments = (Strided(flat(a), 0, a_steps), Strided(flat(b), 0, b_steps), flat(out), batch, Product(m, k, n))
    return Call(multiply_batch, arguments, scratch=-(-n // LANES) * LANES * (k + 1))
