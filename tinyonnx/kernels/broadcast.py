"""Arithmetic of two operands of different shapes, or in different memory orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels._strided import Axes, rank_refused, walk
from tinyonnx.kernels.elementwise import ADD, DIVIDE, MULTIPLY, SUBTRACT, combine, combine_scalar, take
from tinyonnx.kernels.unary import SQUARE, map_unary
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.arena import channels_innermost
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

MINIMUM, MAXIMUM, POWER = 6, 7, 8
"""After elementwise's codes."""

_BLOCK = 16
"""Rows that are not divided between threads."""

_ROW = 4096
"""Elements of a row that are copied and then worked on in the nearest cache."""


@jit
def combine_rare(out: Array, b: Array, step: int, code: int) -> None:
    """out[i] = out[i] ∘ b[i·step]; of numbers and NaN the extremes are NaN."""
    n = out.shape[0]
    if code == MINIMUM:
        for i in range(n):
            u, v = out[i], b[i * step]
            out[i] = u if u < v or u != u else v
    elif code == MAXIMUM:
        for i in range(n):
            u, v = out[i], b[i * step]
            out[i] = u if u > v or u != u else v
    else:
        for i in range(n):
            out[i] = out[i] ** b[i * step]


@kernel
def map_broadcast(
    a: Array, a_steps: Axes, b: Array, b_steps: Axes, out: Array, out_steps: Axes, sizes: Axes, code: int,
    part: int, parts: int,
) -> None:  # fmt: skip
    """out[Σ i·out_steps] = a[Σ i·a_steps] ∘ b[Σ i·b_steps] for all indices i below `sizes`; `out` may be `a`.

    The last step of `out` is 1.
    """
    d0, d1, d2, d3, rows, columns = sizes
    a0, a1, a2, a3, a_row, a_column = a_steps
    b0, b1, b2, b3, b_row, b_column = b_steps
    o0, o1, o2, o3, o_row, _ = out_steps
    row_blocks = (rows + _BLOCK - 1) // _BLOCK
    column_blocks = (columns + _ROW - 1) // _ROW
    first, end = share(d0 * d1 * d2 * d3 * row_blocks * column_blocks, part, parts)
    for item in range(first, end):
        c0 = item % column_blocks * _ROW
        rest = item // column_blocks
        r0 = rest % row_blocks * _BLOCK
        rest = rest // row_blocks
        i3 = rest % d3
        rest = rest // d3
        i2 = rest % d2
        rest = rest // d2
        i0, i1 = rest // d1, rest % d1
        count = min(_ROW, columns - c0)
        for r in range(r0, min(r0 + _BLOCK, rows)):
            a_at = i0 * a0 + i1 * a1 + i2 * a2 + i3 * a3 + r * a_row + c0 * a_column
            b_at = i0 * b0 + i1 * b1 + i2 * b2 + i3 * b3 + r * b_row + c0 * b_column
            o_at = i0 * o0 + i1 * o1 + i2 * o2 + i3 * o3 + r * o_row + c0
            target = out[o_at : o_at + count]
            if a_column == 1:
                take(a[a_at : a_at + count], target)
            elif a_column == 0:
                value = a[a_at]
                for c in range(count):
                    target[c] = value
            else:
                for c in range(count):
                    target[c] = a[a_at + c * a_column]
            if code >= MINIMUM:
                combine_rare(target, b[b_at:], b_column, code)
            elif b_column == 1:
                combine(target, b[b_at : b_at + count], code)
            elif b_column == 0:
                combine_scalar(target, b[b_at], code)
            else:
                for c in range(count):
                    combine(target[c : c + 1], b[b_at + c * b_column : b_at + c * b_column + 1], code)


# -- operators --------------------------------------------------------------------------

_CODES = {
    "Add": ADD,
    "Sub": SUBTRACT,
    "Mul": MULTIPLY,
    "Div": DIVIDE,
    "Min": MINIMUM,
    "Max": MAXIMUM,
    "Pow": POWER,
}


def _refused(out: Info, *operands: Info | None, **_: Any) -> str | None:
    if len(operands) != 2 or any(i is None for i in operands):
        return f"{len(operands)} operands"
    if all(i is not None and i.value is not None for i in operands):
        return "both operands are constant"
    return float32_refused(out, *operands) or rank_refused(out.shape)


def _bind(code: int) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, *operands: Array, **_: Any) -> Call:
        a, b = (x if _dense(x) else np.ascontiguousarray(x) for x in operands)
        sizes, (out_steps, *steps) = walk(out, *(broadcast_to(x, out.shape) for x in (a, b)))
        return Call(map_broadcast, (flat(a), steps[0], flat(b), steps[1], flat(out), out_steps, sizes, code))

    return bind


def _dense(x: Array) -> bool:
    return x.flags.c_contiguous or (x.ndim > 2 and channels_innermost(x).flags.c_contiguous)


def _square_refused(out: Info, x: Info | None, y: Info | None, **_: Any) -> str | None:
    if y is None or y.value is None or y.value.size != 1 or float(y.value.reshape(())) != 2:
        return "not a square"
    return "the result has another shape" if x is not None and x.shape != out.shape else float32_refused(out, x)


def _bind_square(pool: ConstantPool, out: Array, x: Array, _: Array, **__: Any) -> Call:
    return Call(map_unary, (flat(x), flat(out), SQUARE))


for _function in functions("Pow", since=7):
    fast(_function, when=_square_refused, layout="any", in_place=True)(_bind_square)
for _name, _code in _CODES.items():
    # before opset 7 these operators, but for two, broadcast in another way
    for _function in functions(_name, since=1 if _name in ("Min", "Max") else 7):
        fast(_function, when=_refused, layout="any", in_place=True)(_bind(_code))
