"""ArgMax, ArgMin, TopK and CumSum along one axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, temporary
from tinyonnx.ops.index import top_k, top_k_1
from tinyonnx.ops.math import cum_sum
from tinyonnx.ops.reduce import arg_max, arg_min
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_BLOCK = 64
"""Elements compared with the best one so far in a vectorised loop; few blocks contain a better one."""

_COLUMNS = 256
"""Columns summed up at a time, so that their sums stay in the L1 cache."""

_NUMBERS = (np.float32, np.float64, np.int32, np.int64, np.uint8, np.int8)


@jit
def is_better(a: Any, b: Any, largest: Static) -> bool:
    """Return whether a later element `a` replaces the extreme `b`: it does if it is more extreme, or the first NaN."""
    result: bool = (a > b if largest else a < b) or (a != a and b == b)
    return result


@jit
def precedes(a: Any, i: int, b: Any, j: int, largest: Static) -> bool:
    """Return whether element `a` at index i sorts before `b` at j;

    NaN is the greatest, equal elements keep their order.
    """
    if a == b or (a != a and b != b):
        return i < j
    result: bool = a > b or a != a if largest else a < b or b != b
    return result


@jit
def has_better(row: Array, best: Any, largest: Static) -> bool:
    """Return whether a row has an element beyond `best`, or NaN."""
    found = 0
    for k in range(row.shape[0]):
        v = row[k]
        found |= int(not v <= best) if largest else int(not v >= best)
    return found != 0


@kernel
def find_extremes(
    x: Array, out: Array, n: int, inner: int, largest: Static, backwards: int, part: int, parts: int
) -> None:
    """Store the position of the extreme of x[o, :, i], the first or with `backwards` the last one, in out[o, i]."""
    first, end = share(out.shape[0], part, parts)
    for item in range(first, end):
        start = item // inner * n * inner + item % inner
        if inner == 1 and backwards == 0:
            best, position = x[start], 0
            for begin in range(0, n, _BLOCK):
                row = x[start + begin : start + min(begin + _BLOCK, n)]
                if best == best and has_better(row, best, largest):
                    for k in range(row.shape[0]):
                        if is_better(row[k], best, largest):
                            best, position = row[k], begin + k
            out[item] = position
        else:
            at, step = (n - 1, -1) if backwards != 0 else (0, 1)
            best, position = x[start + at * inner], at
            for _ in range(1, n):
                at += step
                v = x[start + at * inner]
                if is_better(v, best, largest):
                    best, position = v, at
            out[item] = position


@jit
def sift(values: Array, indices: Array, start: int, step: int, root: int, end: int, largest: Static) -> None:
    """Move the element at `root` of a heap of `end` elements down until it precedes none of its children."""
    value, index = values[start + root * step], indices[start + root * step]
    while 2 * root + 1 < end:
        child = 2 * root + 1
        at = start + child * step
        if child + 1 < end and precedes(values[at], indices[at], values[at + step], indices[at + step], largest):
            child, at = child + 1, at + step
        if not precedes(value, index, values[at], indices[at], largest):
            break
        values[start + root * step], indices[start + root * step] = values[at], indices[at]
        root = child
    values[start + root * step], indices[start + root * step] = value, index


@kernel
def select_first(
    x: Array, values: Array, indices: Array, n: int, k: int, inner: int, largest: Static, part: int, parts: int
) -> None:
    """Select the first k elements of x[o, :, i] in descending or ascending order, and their positions, [o, k, i].

    The elements selected so far form a heap whose root is the last of them; the heap is sorted at the end.
    """
    first, end = share(values.shape[0] // k, part, parts)
    for item in range(first, end):
        source, start = item // inner * n * inner + item % inner, item // inner * k * inner + item % inner
        for i in range(k):
            values[start + i * inner], indices[start + i * inner] = x[source + i * inner], i
        for root in range(k // 2 - 1, -1, -1):
            sift(values, indices, start, inner, root, k, largest)
        for i in range(k, n):
            v = x[source + i * inner]
            if precedes(v, i, values[start], indices[start], largest):
                values[start], indices[start] = v, i
                sift(values, indices, start, inner, 0, k, largest)
        for last in range(k - 1, 0, -1):
            at = start + last * inner
            value, index = values[at], indices[at]
            values[at], indices[at] = values[start], indices[start]
            values[start], indices[start] = value, index
            sift(values, indices, start, inner, 0, last, largest)


@kernel
def add_up(x: Array, out: Array, n: int, inner: int, exclusive: int, reverse: int, part: int, parts: int) -> None:
    """Store the sum of x[o, :t+1, i] in out[o, t, i]; exclude x[o, t, i] if `exclusive`, go backwards if `reverse`."""
    blocks = (inner + _COLUMNS - 1) // _COLUMNS
    first, end = share(out.shape[0] // (n * inner) * blocks, part, parts)
    for item in range(first, end):
        column = item % blocks * _COLUMNS
        width = min(_COLUMNS, inner - column)
        at, step = item // blocks * n * inner + column, inner
        if reverse != 0:
            at, step = at + (n - 1) * inner, -inner
        for c in range(width):
            out[at + c] = 0 if exclusive != 0 else x[at + c]
        for _ in range(1, n):
            term = at if exclusive != 0 else at + step
            before, added, after = out[at : at + width], x[term : term + width], out[at + step : at + step + width]
            for c in range(width):
                after[c] = before[c] + added[c]
            at += step


# -- operators --------------------------------------------------------------------------


def _refused(x: Info | None, axis: int) -> str | None:
    if x is None or x.shape is None or x.value is not None:
        return "the input is constant"
    if not -x.ndim <= axis < x.ndim:
        return "the axis is out of range"
    return None if x.dtype in _NUMBERS else f"elements of {x.dtype}"


def _extremes_refused(out: Info, x: Info | None, *, axis: int = 0, **_: Any) -> str | None:
    return _refused(x, axis)


def _inner(x: Array, axis: int) -> int:
    return math.prod(x.shape[axis % x.ndim + 1 :])


def _bind_extremes(out: Array, x: Array, largest: int, axis: int, select_last_index: int) -> Call:
    sizes = x.shape[axis], _inner(x, axis)
    return Call(find_extremes, (flat(x), flat(out), *sizes, Specialised(largest), int(select_last_index != 0)))


@fast(arg_max, when=_extremes_refused, layout="row_major")
def bind_arg_max(
    pool: ConstantPool, out: Array, x: Array, *, axis: int = 0, select_last_index: int = 0, **_: Any
) -> Call:
    """Bind the search for the positions of maxima; `out` may keep the axis or not."""
    return _bind_extremes(out, x, 1, axis, select_last_index)


@fast(arg_min, when=_extremes_refused, layout="row_major")
def bind_arg_min(
    pool: ConstantPool, out: Array, x: Array, *, axis: int = 0, select_last_index: int = 0, **_: Any
) -> Call:
    """Bind the search for the positions of minima; `out` may keep the axis or not."""
    return _bind_extremes(out, x, 0, axis, select_last_index)


def _first_refused(
    out: Info | None, x: Info | None, *_: Info | None, axis: int = -1, k: int = 0, **__: Any
) -> str | None:
    return _refused(x, axis)


def _bind_first(outs: list[Array | None], x: Array, count: Any, axis: int, largest: int) -> Call:
    inner = _inner(x, axis)
    size = math.prod(x.shape[: axis % x.ndim]) * count * inner
    values, indices = outs[0], (*outs, None)[1]
    kept = temporary(size, x.dtype) if values is None else flat(values)
    places = temporary(size, np.int64) if indices is None else flat(indices)
    return Call(select_first, (flat(x), kept, places, x.shape[axis], count, inner, Specialised(largest)))


@fast(top_k, when=_first_refused, layout="row_major", outputs=True)
def bind_top_k(
    pool: ConstantPool, outs: list[Array | None], x: Array, k: Array, *, axis: int = -1, largest: int = 1,
    sorted: int = 1,
) -> Call:  # fmt: skip
    """Bind the selection of values, positions or both, which are sorted in any case."""
    return _bind_first(outs, x, next(out.shape[axis] for out in outs if out is not None), axis, int(largest != 0))


@fast(top_k_1, when=_first_refused, layout="row_major", outputs=True)
def bind_top_k_1(pool: ConstantPool, outs: list[Array | None], x: Array, *, k: int, axis: int = -1) -> Call:
    """Bind the selection of the greatest elements; before opset 10 their number is an attribute."""
    return _bind_first(outs, x, next(out.shape[axis] for out in outs if out is not None), axis, 1)


def _sum_refused(out: Info, x: Info | None, axis: Info | None, **_: Any) -> str | None:
    if axis is None or axis.value is None or axis.value.size != 1:
        return "the axis is not constant"
    return _refused(x, int(axis.value.item()))


@fast(cum_sum, when=_sum_refused, layout="row_major")
def bind_cum_sum(
    pool: ConstantPool, out: Array, x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0
) -> Call:
    """Bind the running sum along a constant axis, added in order."""
    along = int(axis.item())
    flags = int(exclusive != 0), int(reverse != 0)
    return Call(add_up, (flat(x), flat(out), x.shape[along], _inner(x, along), *flags))
