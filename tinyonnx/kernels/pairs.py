"""Arithmetic of integers, comparisons, logic and choices, with broadcasting, in any memory order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat
from tinyonnx.kernels._strided import (
    Axes,
    Strided,
    bits,
    grid_part,
    grid_parts,
    movable,
    rank_refused,
    row_start,
    walk,
)
from tinyonnx.kernels.broadcast import is_dense
from tinyonnx.ops.math import where
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

ADD, SUBTRACT, MULTIPLY, DIVIDE, REMAINDER, MINIMUM, MAXIMUM = range(7)
EQUAL, UNEQUAL, LESS, LESS_OR_EQUAL = range(7, 11)


@jit
def quotient(u: Any, v: Any) -> Any:
    """Return u / v of signed integers, truncated; 0 if v is 0; the lowest integer divided by -1 is itself."""
    if v == 0:
        return 0
    if v == -1:
        return 0 - u
    floor = u // v
    return floor + 1 if floor * v != u and (u < 0) != (v < 0) else floor


@jit
def remainder(u: Any, v: Any) -> Any:
    """Return u - v·⌊u / v⌋ of signed integers, with the sign of v; 0 if v is 0."""
    if v == 0 or v == -1:
        return 0
    return u - u // v * v


@jit(inline=True)
def pair(code: Static, u: Any, v: Any) -> Any:
    """Return u ∘ v of two floats or signed integers; truth values are 0 and 1."""
    if code == ADD:
        return u + v
    elif code == SUBTRACT:
        return u - v
    elif code == MULTIPLY:
        return u * v
    elif code == DIVIDE:
        return quotient(u, v)
    elif code == REMAINDER:
        return remainder(u, v)
    elif code == MINIMUM:
        return u if u < v else v
    elif code == MAXIMUM:
        return u if u > v else v
    elif code == EQUAL:
        return u == v
    elif code == UNEQUAL:
        return u != v
    elif code == LESS:
        return u < v
    else:
        return u <= v


@jit
def pair_row(code: Static, a: Array, a_at: int, a_step: int, b: Array, b_at: int, b_step: int, out: Array) -> None:
    """Compute out[i] = a[a_at + i·a_step] ∘ b[b_at + i·b_step]."""
    n = out.shape[0]
    if a_step == 1 and b_step == 1:
        left, right = a[a_at : a_at + n], b[b_at : b_at + n]
        for i in range(n):
            out[i] = pair(code, left[i], right[i])
    elif a_step == 1 and b_step == 0:
        left, v = a[a_at : a_at + n], b[b_at]
        for i in range(n):
            out[i] = pair(code, left[i], v)
    elif a_step == 0 and b_step == 1:
        u, right = a[a_at], b[b_at : b_at + n]
        for i in range(n):
            out[i] = pair(code, u, right[i])
    else:
        for i in range(n):
            out[i] = pair(code, a[a_at + i * a_step], b[b_at + i * b_step])


@kernel
def map_pairs(code: Static, a: Strided, b: Strided, out: Strided, sizes: Axes, part: int, parts: int) -> None:
    """Compute out[i] = a[i] ∘ b[i] for all indices i below `sizes`; the last step of `out` is 1."""
    first, end = share(grid_parts(sizes), part, parts)
    for number in range(first, end):
        item = grid_part(sizes, number)
        for r in range(item.row, item.end):
            at = row_start(out, item, r)
            pair_row(
                code, a.data, row_start(a, item, r), a.steps[5], b.data, row_start(b, item, r), b.steps[5],
                out.data[at : at + item.columns],
            )  # fmt: skip


@jit
def choose_row(c: Strided, c_at: int, x: Strided, x_at: int, y: Strided, y_at: int, out: Array) -> None:
    """Choose out[i] = x[i] where c[i] is true, else y[i], along the last axis, from the given positions on."""
    n, c_step, x_step, y_step = out.shape[0], c.steps[5], x.steps[5], y.steps[5]
    if c_step == 1 and x_step == 1 and y_step == 1:
        condition, left, right = c.data[c_at : c_at + n], x.data[x_at : x_at + n], y.data[y_at : y_at + n]
        for i in range(n):
            out[i] = left[i] if condition[i] != 0 else right[i]
    elif c_step == 1 and x_step == 0 and y_step == 1:
        condition, u, right = c.data[c_at : c_at + n], x.data[x_at], y.data[y_at : y_at + n]
        for i in range(n):
            out[i] = u if condition[i] != 0 else right[i]
    elif c_step == 1 and x_step == 1 and y_step == 0:
        condition, left, v = c.data[c_at : c_at + n], x.data[x_at : x_at + n], y.data[y_at]
        for i in range(n):
            out[i] = left[i] if condition[i] != 0 else v
    else:
        for i in range(n):
            condition_here = c.data[c_at + i * c_step] != 0
            out[i] = x.data[x_at + i * x_step] if condition_here else y.data[y_at + i * y_step]


@kernel
def choose(c: Strided, x: Strided, y: Strided, out: Strided, sizes: Axes, part: int, parts: int) -> None:
    """Choose out[i] = x[i] where c[i] is true, else y[i], for indices i below `sizes`; the last step of `out` is 1."""
    first, end = share(grid_parts(sizes), part, parts)
    for number in range(first, end):
        item = grid_part(sizes, number)
        for r in range(item.row, item.end):
            at = row_start(out, item, r)
            target = out.data[at : at + item.columns]
            choose_row(c, row_start(c, item, r), x, row_start(x, item, r), y, row_start(y, item, r), target)


# -- operators --------------------------------------------------------------------------

_SIGNED = frozenset(map(np.dtype, "bhiq"))
_WHOLE = _SIGNED | frozenset(map(np.dtype, "BHIQ"))
_FLOATS = frozenset(map(np.dtype, "fd"))
_TRUTHS = frozenset([np.dtype(bool)])

_CODES = {
    # unsigned integers have the same bits as signed ones
    "Add": (ADD, _WHOLE),
    "Sub": (SUBTRACT, _WHOLE),
    "Mul": (MULTIPLY, _WHOLE),
    "Div": (DIVIDE, _SIGNED),
    "Mod": (REMAINDER, _SIGNED),
    "Min": (MINIMUM, _SIGNED),
    "Max": (MAXIMUM, _SIGNED),
    "Equal": (EQUAL, _WHOLE | _FLOATS | _TRUTHS),
    "Less": (LESS, _SIGNED | _FLOATS),
    "LessOrEqual": (LESS_OR_EQUAL, _SIGNED | _FLOATS),
    "And": (MINIMUM, _TRUTHS),
    "Or": (MAXIMUM, _TRUTHS),
    "Xor": (UNEQUAL, _TRUTHS),
}
_REVERSED = {"Greater": "Less", "GreaterOrEqual": "LessOrEqual"}


def _refused(types: frozenset[np.dtype[Any]]) -> Callable[..., str | None]:
    def refused(out: Info, *operands: Info | None, fmod: int = 0, **_: Any) -> str | None:
        present = [i for i in operands if i is not None]
        if len(operands) != 2 or len(present) != 2:
            return f"{len(operands)} operands"
        if all(i.value is not None for i in present):
            return "both operands are constant"
        if fmod:
            return "the remainder has the sign of the dividend"
        if present[0].dtype not in types or present[1].dtype != present[0].dtype:
            return " and ".join(sorted({str(i.dtype) for i in present}))
        return rank_refused(out.shape)

    return refused


def _signed(x: Array) -> Array:
    """Return the memory of an array as a 1-D array; unsigned integers and bools as signed integers."""
    memory = flat(x)
    return memory.view(np.dtype(f"i{x.itemsize}")) if x.dtype.kind in "bu" else memory


def _views(out: Array, *operands: Array) -> tuple[Axes, list[Axes], list[Array]]:
    """Return the common axes of operands broadcast to `out`, the steps of `out` and the operands, dense operands."""
    dense = [x if is_dense(x) else np.ascontiguousarray(x) for x in operands]
    sizes, steps = walk(out, *(broadcast_to(x, out.shape) for x in dense))
    return sizes, steps, dense


def _bind(code: int, reverse: bool) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, *operands: Array, **_: Any) -> Call:
        sizes, steps, dense = _views(out, *(operands[::-1] if reverse else operands))
        o, a, b = (Strided(_signed(x), 0, step) for x, step in zip([out, *dense], steps, strict=True))
        return Call(map_pairs, (Specialised(code), a, b, o, sizes))

    return bind


def _where_refused(out: Info, condition: Info | None, x: Info | None, y: Info | None) -> str | None:
    if condition is None or x is None or y is None or all(i.value is not None for i in (condition, x, y)):
        return "all inputs are constant"
    if condition.dtype != np.bool_:
        return f"the condition is {condition.dtype}"
    if not movable(x.dtype) or y.dtype != x.dtype:
        return f"{x.dtype} and {y.dtype}"
    return rank_refused(out.shape)


@fast(where, when=_where_refused, layout="any")
def bind_where(pool: ConstantPool, out: Array, *operands: Array) -> Call:
    """Bind the choice between the elements of two arrays."""
    sizes, steps, dense = _views(out, *operands)
    o, c, x, y = (Strided(bits(x), 0, step) for x, step in zip([out, *dense], steps, strict=True))
    return Call(choose, (c, x, y, o, sizes))


def _register() -> None:
    for name in (*_CODES, *_REVERSED):
        code, types = _CODES[_REVERSED.get(name, name)]
        # before opset 7 all of these except Min and Max broadcast by other rules
        for function in functions(name, since=1 if name in ("Min", "Max") else 7):
            fast(function, when=_refused(types), layout="any")(_bind(code, name in _REVERSED))


_register()
