"""Reductions over axes that are followed by other axes: over the columns of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels.rows import (
    LENGTH,
    LOG_SUM_EXP,
    MAXIMUM,
    MINIMUM,
    PRODUCT,
    REDUCTIONS,
    SUM_OF_SIZES,
    SUM_OF_SQUARES,
    finish,
    prepare,
    reduced_axes,
)
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

_COLUMNS = 256
"""Columns that are reduced at a time, so that their results stay in the L1 cache."""

_ROWS = 128
"""Rows whose sum is computed before it is added to the total, so that sums of many rows have smaller rounding errors.
"""


@jit
def accumulate(row: Array, results: Array, code: int) -> None:
    """Add a row to the results, or multiply or combine it by maximum or minimum; a result with NaN is NaN."""
    if code == PRODUCT:
        for k in range(results.shape[0]):
            results[k] *= row[k]
    elif code == MAXIMUM:
        for k in range(results.shape[0]):
            a, b = row[k], results[k]
            results[k] = b if b > a or b != b else a
    elif code == MINIMUM:
        for k in range(results.shape[0]):
            a, b = row[k], results[k]
            results[k] = b if b < a or b != b else a
    else:
        for k in range(results.shape[0]):
            results[k] += row[k]


@jit
def copy_row(row: Array, out: Array) -> None:
    """Copy a row."""
    for k in range(out.shape[0]):
        out[k] = row[k]


@kernel
def reduce_columns(
    x: Array, out: Array, n: int, columns: int, code: int, scratch: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Compute out[m, c] = the reduction `code` of x[m, :, c], `n` numbers.

    Scratch holds partial results and, for sums of functions, a row of these.
    """
    blocks = (columns + _COLUMNS - 1) // _COLUMNS
    first, end = share(out.shape[0] // columns * blocks, part, parts)
    room = scratch.shape[0] // parts * part
    mapped = code in (SUM_OF_SIZES, LENGTH, SUM_OF_SQUARES)
    for item in range(first, end):
        matrix, column = item // blocks, item % blocks * _COLUMNS
        count = min(_COLUMNS, columns - column)
        target = out[matrix * columns + column : matrix * columns + column + count]
        partial = scratch[room : room + count]
        start = matrix * n * columns + column
        for row in range(0, n, _ROWS):
            copy_row(x[start + row * columns : start + row * columns + count], partial)
            if mapped:
                prepare(partial, partial, code)
            for r in range(row + 1, min(row + _ROWS, n)):
                here = x[start + r * columns : start + r * columns + count]
                if mapped:
                    numbers = scratch[room + _COLUMNS : room + _COLUMNS + count]
                    prepare(here, numbers, code)
                    accumulate(numbers, partial, code)
                else:
                    accumulate(here, partial, code)
            if row == 0:
                copy_row(partial, target)
            else:
                accumulate(partial, target, code)
        finish(target, n, code)


# -- operators --------------------------------------------------------------------------


def _refused(
    out: Info, x: Info | None, given: Info | None = None, *, axes: Any = None, noop_with_empty_axes: int = 0, **_: Any
) -> str | None:
    axes = reduced_axes(x, given, axes, noop_with_empty_axes)
    if isinstance(axes, str):
        return axes
    if x is None or x.shape is None or x.value is not None:
        return "the input is constant"
    if max(axes, default=0) - min(axes, default=0) + 1 != len(axes) or max(axes) == x.ndim - 1:
        return "the axes are not adjacent, or no other axis follows them"
    return "nothing to reduce" if 0 in x.shape else float32_refused(out, x)


def _bind(code: int) -> Callable[..., Call]:
    def bind(
        pool: ConstantPool, out: Array, x: Array, given: Array | None = None, *, axes: Any = None, **_: Any
    ) -> Call:
        chosen = [int(a) % x.ndim for a in (given.ravel() if given is not None else axes)]
        n, columns = math.prod(x.shape[a] for a in chosen), math.prod(x.shape[max(chosen) + 1 :])
        return Call(reduce_columns, (flat(x), flat(out), n, columns, code), scratch=2 * _COLUMNS)

    return bind


for _name, _code in REDUCTIONS.items():
    if _code == LOG_SUM_EXP:
        continue  # its shift would need another pass over the columns
    for _function in functions(_name):
        fast(_function, when=_refused, layout="row_major")(_bind(_code))
