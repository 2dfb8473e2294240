"""Products of batches of matrices of which neither is constant: the right one is packed as it comes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.kernels._common import NO_EPILOGUE, flat, float32_refused
from tinyonnx.kernels._strided import Axes, rank_refused, walk
from tinyonnx.kernels.gemm import multiply_rows, panel_width
from tinyonnx.ops.matmul import matmul
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

_ROWS = 96
"""Rows that are not divided between threads: each packs the right matrix by itself."""

_ZERO = np.float32(0)


@jit
def pack(b: Array, b_at: int, k: int, n: int, out: Array, at: int) -> None:
    """A matrix [k, n] as panels, like `gemm.pack_panels`."""
    vectors = (n + LANES - 1) // LANES
    column = 0
    while vectors > 0:
        width = panel_width(vectors)
        for r in range(k):
            for v in range(width):
                first = column + v * LANES
                if first + LANES > n:
                    first = max(n - LANES, 0)
                start = at + (r * width + v) * LANES
                target, source = out[start : start + LANES], b[b_at + r * n + first : b_at + r * n + n]
                for c in range(LANES):
                    target[c] = source[c] if first + c < n else _ZERO
        at += k * width * LANES
        column += width * LANES
        vectors -= width


@kernel
def multiply_batch(
    a: Array, a_steps: Axes, b: Array, b_steps: Axes, out: Array, batch: Axes, m: int, k: int, n: int,
    epilogue: tuple[int, int, Any, Any], scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """out[i] = a[Σ i·a_steps] · b[Σ i·b_steps], matrices [m, k] and [k, n], for all indices i below `batch`."""
    blocks = (m + _ROWS - 1) // _ROWS
    n0, n1, n2, n3, n4, n5 = batch
    a0, a1, a2, a3, a4, a5 = a_steps
    b0, b1, b2, b3, b4, b5 = b_steps
    first, end = share(n0 * n1 * n2 * n3 * n4 * n5 * blocks, part, parts)
    room = scratch.shape[0] // parts * part
    columns = (n + LANES - 1) // LANES * LANES
    no_bias = room + k * columns
    for c in range(no_bias, no_bias + columns):
        scratch[c] = _ZERO
    taps = (1, 0, 1, 0, k, 0)
    packed = -1
    for item in range(first, end):
        i, row = item // blocks, item % blocks * _ROWS
        i5, rest = i % n5, i // n5
        i4, rest = rest % n4, rest // n4
        i3, rest = rest % n3, rest // n3
        i2, rest = rest % n2, rest // n2
        i1, i0 = rest % n1, rest // n1
        a_start = i0 * a0 + i1 * a1 + i2 * a2 + i3 * a3 + i4 * a4 + i5 * a5
        b_start = i0 * b0 + i1 * b1 + i2 * b2 + i3 * b3 + i4 * b4 + i5 * b5
        if b_start != packed:
            packed = b_start
            pack(b, packed, k, n, scratch, room)
        multiply_rows(
            a, a_start + row * k, k, min(_ROWS, m - row), taps, scratch, room, 0, k, scratch, no_bias, n,
            out, (i * m + row) * n, n, LANES, out, epilogue,
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
    """Batches broadcast."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    a, b = (x if x.flags.c_contiguous else np.ascontiguousarray(x) for x in (a, b))
    items = (broadcast_to(x[..., :1, :1], (*out.shape[:-2], 1, 1)) for x in (out, a, b))
    batch, (_, a_steps, b_steps) = walk(*items)
    arguments = (flat(a), a_steps, flat(b), b_steps, flat(out), batch, m, k, n, NO_EPILOGUE)
    return Call(multiply_batch, arguments, scratch=-(-n // LANES) * LANES * (k + 1))
