"""Row-wise operators: softmax, normalisation and reductions over the last axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES
from tinyonnx.codegen.row_tiles import exponentials
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.ops.activation import log_softmax, softmax, softmax_1
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

_ZERO, _ONE = np.float32(0), np.float32(1)
_LARGEST = np.finfo(np.float32).max
PARTIAL = 16
"""Number of partial sums; they vectorise, unlike a single sum, and have smaller rounding errors."""

_STEP = 4 * PARTIAL
"""Numbers that are compared with each other first: loads and stores of partial results take as long as four numbers."""

BLOCK = 256 * PARTIAL
"""Numbers per block: a block is summed in float32, the sums of blocks in float64."""


@jit
def total(row: Array, partial: Array) -> Any:
    """Return the sum of a row; `partial` has room for PARTIAL numbers."""
    n = row.shape[0]
    whole = n // PARTIAL * PARTIAL
    result = 0.0
    for start in range(0, whole, BLOCK):
        for k in range(PARTIAL):
            partial[k] = _ZERO
        for i in range(start, min(start + BLOCK, whole), PARTIAL):
            here = row[i : i + PARTIAL]
            for k in range(PARTIAL):
                partial[k] += here[k]
        for k in range(PARTIAL):
            result += partial[k]
    for i in range(whole, n):
        result += row[i]
    return np.float32(result)


@jit
def greater(a: Any, b: Any) -> Any:
    """Return the greater number, NaN if one of them is NaN."""
    return a if a > b or a != a else b


@jit
def extreme(row: Array, partial: Array, sign: Any) -> Any:
    """Return the maximum of a row, or the minimum if `sign` is -1; NaN if it has a NaN. `partial` as in `total`."""
    n = row.shape[0]
    for k in range(PARTIAL):
        partial[k] = sign * row[0]
    whole, even = n // PARTIAL * PARTIAL, n // _STEP * _STEP
    for i in range(0, even, _STEP):
        here = row[i : i + _STEP]
        for k in range(PARTIAL):
            first = greater(sign * here[k], sign * here[PARTIAL + k])
            second = greater(sign * here[2 * PARTIAL + k], sign * here[3 * PARTIAL + k])
            partial[k] = greater(partial[k], greater(first, second))
    for i in range(even, whole, PARTIAL):
        here = row[i : i + PARTIAL]
        for k in range(PARTIAL):
            partial[k] = greater(partial[k], sign * here[k])
    result = sign * row[0]
    for i in range(whole, n):
        result = greater(result, sign * row[i])
    for k in range(PARTIAL):
        result = greater(result, partial[k])
    return sign * result


_ROOM = PARTIAL + BLOCK + LANES
"""Scratch for partial sums and a block, whose last vector may reach beyond it."""

SUM, MEAN, MAXIMUM, MINIMUM, SUM_OF_SIZES, LENGTH, SUM_OF_SQUARES, LOG_SUM, LOG_SUM_EXP, PRODUCT = range(10)
"""Reductions."""


@jit
def prepare(row: Array, out: Array, code: int) -> None:
    """Compute the numbers that a reduction adds up: sizes, squares, or the elements themselves; `out` may be `row`."""
    n = out.shape[0]
    if code == SUM_OF_SIZES:
        for i in range(n):
            out[i] = abs(row[i])
    elif code in (LENGTH, SUM_OF_SQUARES):
        for i in range(n):
            out[i] = row[i] * row[i]
    else:
        for i in range(n):
            out[i] = row[i]


@jit
def prepared_total(row: Array, code: int, partial: Array, block: Array) -> Any:
    """Return the sum of the numbers that `prepare` computes, a block at a time."""
    result, n = 0.0, row.shape[0]
    for start in range(0, n, BLOCK):
        here = row[start : min(start + BLOCK, n)]
        numbers = block[: here.shape[0]]
        prepare(here, numbers, code)
        result += total(numbers, partial)
    return np.float32(result)


@jit
def exponential_total(row: Array, shift: Any, scratch: Array, room: int, out: Array) -> Any:
    """Return Σ e^(row[i] - shift); store the powers in `out` unless it is empty.

    Scratch holds a number and a block from `room` on.
    """
    result, n = 0.0, row.shape[0]
    first = room + PARTIAL
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        here, block = row[start : start + count], scratch[first : first + count]
        for i in range(count):
            block[i] = here[i]
        exponentials(scratch, first, count, _ONE, shift, scratch, room)
        result += scratch[room]
        if out.shape[0] > 0:
            target = out[start : start + count]
            for i in range(count):
                target[i] = block[i]
    return np.float32(result)


@jit
def product(row: Array, partial: Array) -> Any:
    """Return the product of a row; `partial` as in `total`."""
    n = row.shape[0]
    whole = n // PARTIAL * PARTIAL
    for k in range(PARTIAL):
        partial[k] = _ONE
    for i in range(0, whole, PARTIAL):
        here = row[i : i + PARTIAL]
        for k in range(PARTIAL):
            partial[k] *= here[k]
    result = _ONE
    for k in range(PARTIAL):
        result *= partial[k]
    for i in range(whole, n):
        result *= row[i]
    return result


@kernel
def softmax_rows(x: Array, out: Array, rows: int, n: int, scratch: Array, part: int, parts: int) -> None:
    """Compute out[r] = e^(x[r] - max x[r]) divided by its sum, for rows of `n`; scratch as in `reduce_rows`."""
    first, end = share(rows, part, parts)
    room = scratch.shape[0] // parts * part
    partial = scratch[room : room + PARTIAL]
    for r in range(first, end):
        source, row = x[r * n : r * n + n], out[r * n : r * n + n]
        scale = _ONE / exponential_total(source, extreme(source, partial, _ONE), scratch, room, row)
        for i in range(n):
            row[i] *= scale


@kernel
def log_softmax_rows(x: Array, out: Array, rows: int, n: int, scratch: Array, part: int, parts: int) -> None:
    """Compute out[r] = x[r] - max x[r] - log Σ e^(x[r] - max x[r]), for rows of `n`; scratch as in `reduce_rows`."""
    first, end = share(rows, part, parts)
    room = scratch.shape[0] // parts * part
    partial = scratch[room : room + PARTIAL]
    for r in range(first, end):
        source, row = x[r * n : r * n + n], out[r * n : r * n + n]
        top = extreme(source, partial, _ONE)
        shift = np.log(exponential_total(source, top, scratch, room, row[:0]))
        for i in range(n):
            row[i] = (source[i] - top) - shift


@jit
def reduce_short(row: Array, code: int) -> Any:
    """Return the reduction of a row shorter than a block of partial sums; not LOG_SUM_EXP."""
    result = row[0]
    if code == SUM_OF_SIZES:
        result = abs(result)
    elif code in (LENGTH, SUM_OF_SQUARES):
        result *= result
    for i in range(1, row.shape[0]):
        v = row[i]
        if code == MAXIMUM:
            result = result if result > v or result != result else v
        elif code == MINIMUM:
            result = result if result < v or result != result else v
        elif code == PRODUCT:
            result *= v
        elif code == SUM_OF_SIZES:
            result += abs(v)
        elif code in (LENGTH, SUM_OF_SQUARES):
            result += v * v
        else:
            result += v
    return result


@jit
def reduce_long(row: Array, code: int, scratch: Array, room: int) -> Any:
    """Return the reduction of a row; LENGTH and LOG_SUM without the root and the logarithm."""
    partial = scratch[room : room + PARTIAL]
    if code == MAXIMUM:
        return extreme(row, partial, _ONE)
    if code == MINIMUM:
        return extreme(row, partial, -_ONE)
    if code == PRODUCT:
        return product(row, partial)
    if code in (SUM_OF_SIZES, LENGTH, SUM_OF_SQUARES):
        return prepared_total(row, code, partial, scratch[room + PARTIAL : room + PARTIAL + BLOCK])
    return total(row, partial)


@jit
def finish(results: Array, n: int, code: int) -> None:
    """Turn sums into means, lengths or logarithms."""
    if code == MEAN:
        for i in range(results.shape[0]):
            results[i] /= np.float32(n)
    elif code == LENGTH:
        for i in range(results.shape[0]):
            results[i] = np.sqrt(results[i])
    elif code == LOG_SUM:
        for i in range(results.shape[0]):
            results[i] = np.log(results[i])


@kernel
def reduce_rows(x: Array, out: Array, n: int, code: int, scratch: Array, part: int, parts: int) -> None:
    """Compute out[r] = the reduction `code` of x[r], for rows of `n`; scratch is for partial sums and a block."""
    first, end = share(out.shape[0], part, parts)
    room = scratch.shape[0] // parts * part
    for r in range(first, end):
        row = x[r * n : r * n + n]
        if code == LOG_SUM_EXP:
            top = extreme(row, scratch[room : room + PARTIAL], _ONE)
            # of numbers that are not finite the greatest, or NaN, is the result
            finite = abs(top) <= _LARGEST
            out[r] = np.log(exponential_total(row, top, scratch, room, row[:0])) + top if finite else top
        elif 0 < n < PARTIAL:
            out[r] = reduce_short(row, code)
        else:
            out[r] = reduce_long(row, code, scratch, room)
    results = out[first:end]
    finish(results, n, code)


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, x: Info | None, *others: Info | None) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x, *others)


def _softmax_refused(out: Info, x: Info | None, *, axis: int = -1) -> str | None:
    if x is None or x.shape is None or axis not in (-1, x.ndim - 1):
        return "not over the last axis"
    return _refused(out, x)


@fast(softmax, when=_softmax_refused, layout="row_major")
def bind_softmax(pool: ConstantPool, out: Array, x: Array, **_: Any) -> Call:
    """Bind softmax over the last axis."""
    return _softmax(out, x, x.shape[-1])


@fast(log_softmax, when=_softmax_refused, layout="row_major")
def bind_log_softmax(pool: ConstantPool, out: Array, x: Array, **_: Any) -> Call:
    """Bind the logarithm of softmax over the last axis."""
    n = x.shape[-1]
    return Call(log_softmax_rows, (flat(x), flat(out), x.size // n, n), scratch=_ROOM)


def _softmax_1_refused(out: Info, x: Info | None, *, axis: int = 1) -> str | None:
    if x is None or x.shape is None or not -x.ndim <= axis < x.ndim:
        return "the axis is out of range"
    return _refused(out, x)


@fast(softmax_1, when=_softmax_1_refused, layout="row_major")
def bind_softmax_1(pool: ConstantPool, out: Array, x: Array, *, axis: int = 1) -> Call:
    """Bind softmax as before opset 13: over all axes from `axis` on, taken as one."""
    return _softmax(out, x, math.prod(x.shape[axis % x.ndim :]))


def _softmax(out: Array, x: Array, n: int) -> Call:
    return Call(softmax_rows, (flat(x), flat(out), x.size // n, n), scratch=_ROOM)


REDUCTIONS = {
    "ReduceSum": SUM,
    "ReduceMean": MEAN,
    "ReduceMax": MAXIMUM,
    "ReduceMin": MINIMUM,
    "ReduceL1": SUM_OF_SIZES,
    "ReduceL2": LENGTH,
    "ReduceSumSquare": SUM_OF_SQUARES,
    "ReduceLogSum": LOG_SUM,
    "ReduceLogSumExp": LOG_SUM_EXP,
    "ReduceProd": PRODUCT,
}


def reduced_axes(x: Info | None, given: Info | None, axes: Any, noop_with_empty_axes: int) -> set[int] | str:
    """Return the axes that a reduction reduces, or the reason why they are not known.

    `given` is the input for them, `axes` the attribute.
    """
    if x is None or x.shape is None or (given is not None and given.value is None):
        return "axes are not constant"
    if given is not None and given.value is not None:
        axes = given.value.ravel()
    if axes is not None and len(axes):
        return {int(a) % x.ndim for a in axes}
    return "nothing is reduced" if noop_with_empty_axes else set(range(x.ndim))


def _reduction_refused(
    out: Info, x: Info | None, given: Info | None = None, *, axes: Any = None, noop_with_empty_axes: int = 0, **_: Any
) -> str | None:
    reduced = reduced_axes(x, given, axes, noop_with_empty_axes)
    if isinstance(reduced, str):
        return reduced
    assert x is not None
    if reduced != set(range(x.ndim - len(reduced), x.ndim)):
        return "not the last axes"
    return _refused(out, x)


def _bind_reduction(code: int) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, x: Array, *_: Array | None, **__: Any) -> Call:
        room = PARTIAL if code in (SUM, MEAN, MAXIMUM, MINIMUM, PRODUCT) else _ROOM
        return Call(reduce_rows, (flat(x), flat(out), x.size // out.size, code), scratch=room)

    return bind


for _name, _code in REDUCTIONS.items():
    for _function in functions(_name):
        fast(_function, when=_reduction_refused, layout="row_major")(_bind_reduction(_code))
