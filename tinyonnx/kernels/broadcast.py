"""Arithmetic of two operands of different shapes or in different memory orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels._strided import Axes, Strided, grid_part, grid_parts, rank_refused, row_start, walk
from tinyonnx.kernels.elementwise import ADD, DIVIDE, MULTIPLY, SUBTRACT, combine, combine_scalar, take
from tinyonnx.kernels.unary import CUBE, SQUARE, map_unary
from tinyonnx.ops.activation import prelu
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.arena import channels_innermost
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

MINIMUM, MAXIMUM, POWER, SLOPE = 6, 7, 8, 9
"""Operation codes that continue those of `elementwise`; SLOPE multiplies negative numbers."""

_ZERO = np.float32(0)


@jit
def combine_rare(out: Array, b: Array, step: int, code: int) -> None:
    """Compute out[i] = out[i] ∘ b[i·step]; a minimum or maximum with NaN is NaN."""
    n = out.shape[0]
    if code == MINIMUM:
        for i in range(n):
            u, v = out[i], b[i * step]
            out[i] = u if u < v or u != u else v
    elif code == MAXIMUM:
        for i in range(n):
            u, v = out[i], b[i * step]
            out[i] = u if u > v or u != u else v
    elif code == SLOPE:
        for i in range(n):
            u = out[i]
            out[i] = u * b[i * step] if u < _ZERO else u
    else:
        for i in range(n):
            out[i] = out[i] ** b[i * step]


@jit
def combine_rare_scalar(out: Array, v: Any, code: int) -> None:
    """Compute out[i] = out[i] ∘ v as `combine_rare` does."""
    n = out.shape[0]
    if code == MINIMUM:
        for i in range(n):
            u = out[i]
            out[i] = u if u < v or u != u else v
    elif code == MAXIMUM:
        for i in range(n):
            u = out[i]
            out[i] = u if u > v or u != u else v
    elif code == SLOPE:
        for i in range(n):
            u = out[i]
            out[i] = u * v if u < _ZERO else u
    else:
        for i in range(n):
            out[i] = out[i] ** v


@jit
def take_row(x: Array, start: int, step: int, out: Array) -> None:
    """Copy x[start + i·step] to out[i] for all i."""
    if step == 1:
        take(x[start : start + out.shape[0]], out)
    elif step == 0:
        value = x[start]
        for i in range(out.shape[0]):
            out[i] = value
    else:
        for i in range(out.shape[0]):
            out[i] = x[start + i * step]


@jit
def combine_row(out: Array, b: Array, start: int, step: int, code: int) -> None:
    """Compute out[i] = out[i] ∘ b[start + i·step]."""
    if code >= MINIMUM:
        if step == 1:
            combine_rare(out, b[start : start + out.shape[0]], 1, code)
        elif step == 0:
            combine_rare_scalar(out, b[start], code)
        else:
            combine_rare(out, b[start:], step, code)
    elif step == 1:
        combine(out, b[start : start + out.shape[0]], code)
    elif step == 0:
        combine_scalar(out, b[start], code)
    else:
        for i in range(out.shape[0]):
            combine(out[i : i + 1], b[start + i * step : start + i * step + 1], code)


@kernel
def map_broadcast(a: Strided, b: Strided, out: Strided, sizes: Axes, code: int, part: int, parts: int) -> None:
    """Compute out[i] = a[i] ∘ b[i] for all indices i below `sizes`; `out` may be `a`, and its last step is 1."""
    first, end = share(grid_parts(sizes), part, parts)
    for number in range(first, end):
        item = grid_part(sizes, number)
        for r in range(item.row, item.end):
            at = row_start(out, item, r)
            target = out.data[at : at + item.columns]
            # copied to the result, then combined there while it is in the L1 cache
            take_row(a.data, row_start(a, item, r), a.steps[5], target)
            combine_row(target, b.data, row_start(b, item, r), b.steps[5], code)


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
        a, b = (x if is_dense(x) else np.ascontiguousarray(x) for x in operands)
        sizes, (out_steps, *steps) = walk(out, *(broadcast_to(x, out.shape) for x in (a, b)))
        views = Strided(flat(a), 0, steps[0]), Strided(flat(b), 0, steps[1]), Strided(flat(out), 0, out_steps)
        return Call(map_broadcast, (*views, sizes, code))

    return bind


def is_dense(x: Array) -> bool:
    """Return whether the elements are contiguous, in row-major or channels-last order."""
    return x.flags.c_contiguous or (x.ndim > 2 and channels_innermost(x).flags.c_contiguous)


_POWERS = {2.0: SQUARE, 3.0: CUBE}


def _power_refused(out: Info, x: Info | None, y: Info | None, **_: Any) -> str | None:
    if y is None or y.value is None or y.value.size != 1 or float(y.value.reshape(())) not in _POWERS:
        return "neither a square nor a cube"
    return "the result has another shape" if x is not None and x.shape != out.shape else float32_refused(out, x)


def _bind_power(pool: ConstantPool, out: Array, x: Array, y: Array, **_: Any) -> Call:
    return Call(map_unary, (flat(x), flat(out), _POWERS[float(y.reshape(()))]))


fast(prelu, when=_refused, layout="any", in_place=True)(_bind(SLOPE))
for _function in functions("Pow", since=7):
    fast(_function, when=_power_refused, layout="any", in_place=True)(_bind_power)
for _name, _code in _CODES.items():
    # before opset 7 all of these except Min and Max broadcast by other rules
    for _function in functions(_name, since=1 if _name in ("Min", "Max") else 7):
        fast(_function, when=_refused, layout="any", in_place=True)(_bind(_code))
