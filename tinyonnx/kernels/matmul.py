"""Products of batches of matrices of which neither is constant: the right one is packed as it comes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.kernels._common import epilogue_of, flat, float32_refused
from tinyonnx.kernels.gemm import multiply_rows, no_bias, panel_width
from tinyonnx.ops.matmul import matmul
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

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
    a: Array, a_starts: Array, b: Array, b_starts: Array, bias: Array, out: Array, m: int, k: int, n: int,
    epilogue: tuple[int, int, Any, Any], scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """out[i] = a[i] · b[i], matrices [m, k] and [k, n] that start at `a_starts` and `b_starts`."""
    blocks = (m + _ROWS - 1) // _ROWS
    first, end = share(a_starts.shape[0] * blocks, part, parts)
    room = scratch.shape[0] // parts * part
    taps = (1, 0, 1, 0, k, 0)
    packed = -1
    for item in range(first, end):
        i, row = item // blocks, item % blocks * _ROWS
        if b_starts[i] != packed:
            packed = b_starts[i]
            pack(b, packed, k, n, scratch, room)
        multiply_rows(
            a, a_starts[i] + row * k, k, min(_ROWS, m - row), taps, scratch, room, 0, k, bias, 0, n,
            out, (i * m + row) * n, n, LANES, out, epilogue,
        )  # fmt: skip


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, a: Info | None, b: Info | None) -> str | None:
    if a is None or b is None or (a.value is not None and b.value is not None):
        return "both operands are constant"
    if a.ndim < 2 or b.ndim < 2:
        return "an operand is a vector"
    return float32_refused(out, a, b)


def _starts(x: Array, batch: tuple[int, ...]) -> Array:
    """Where in its memory the matrix of each item of the batch starts."""
    items = np.arange(math.prod(x.shape[:-2])).reshape(x.shape[:-2])
    return np.asarray(np.broadcast_to(items, batch).reshape(-1) * (x.shape[-2] * x.shape[-1]))


@fast(matmul, when=_refused, layout="row_major")
def bind_matmul(pool: ConstantPool, out: Array, a: Array, b: Array) -> Call:
    """Batches broadcast."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    a, b = (np.ascontiguousarray(x) for x in (a, b))
    starts = [_starts(x, out.shape[:-2]) for x in (a, b)]
    arguments = (flat(a), starts[0], flat(b), starts[1], no_bias(n), flat(out), m, k, n, epilogue_of(""))
    return Call(multiply_batch, arguments, scratch=-(-n // LANES) * LANES * k)
