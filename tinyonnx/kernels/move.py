"""Operators that only move elements: copies from one strided view of memory to another.

The numpy operator makes the view of the input that is the operator's result, and one kernel
copies it, for all memory orders and element types.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._strided import Axes, Strided, bits, grid_index, movable, offset, position, rank_refused, walk
from tinyonnx.ops.pad import pad
from tinyonnx.ops.shape import expand, transpose
from tinyonnx.ops.tensor import concat, concat_1, slice_, slice_1
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.arena import channels_innermost
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

_BLOCK = 16
"""Rows and columns that are transposed at a time: all of both arrays' cache lines is used while in the L1 cache."""

_ROW = 4096
"""Maximum elements of a row in a work item, so that a single long row is divided between threads, too."""


@kernel
def move(x: Strided, out: Strided, sizes: Axes, part: int, parts: int) -> None:
    """out[i] = x[i] for all indices i below `sizes`."""
    d0, d1, d2, d3, rows, columns = sizes
    x_row, x_column, o_row, o_column = x.steps[4], x.steps[5], out.steps[4], out.steps[5]
    row_blocks = (rows + _BLOCK - 1) // _BLOCK
    column_blocks = (columns + _ROW - 1) // _ROW
    first, end = share(d0 * d1 * d2 * d3 * row_blocks * column_blocks, part, parts)
    for item in range(first, end):
        c0 = item % column_blocks * _ROW
        r0 = item // column_blocks % row_blocks * _BLOCK
        index = grid_index(item // column_blocks // row_blocks, (d0, d1, d2, d3))
        source, target = offset(index, x), offset(index, out)
        r1, c1 = min(r0 + _BLOCK, rows), min(c0 + _ROW, columns)
        if x_column == 1 and o_column == 1:
            for r in range(r0, r1):
                s, t = source + r * x_row + c0, target + r * o_row + c0
                here, there = x.data[s : s + c1 - c0], out.data[t : t + c1 - c0]
                for c in range(c1 - c0):
                    there[c] = here[c]
        else:
            for begin in range(c0, c1, _BLOCK):
                for r in range(r0, r1):
                    for c in range(begin, min(begin + _BLOCK, c1)):
                        out.data[target + r * o_row + c * o_column] = x.data[source + r * x_row + c * x_column]


@kernel
def fill(out: Array, value: Array, part: int, parts: int) -> None:
    """out[i] = value[0]."""
    first, end = share(out.shape[0], part, parts)
    here = out[first:end]
    for i in range(end - first):
        here[i] = value[0]


def move_view(view: Array, x: Array, target: Array, out: Array) -> Call:
    """Copy `view`, a view of `x`, to `target`, a view of `out`, of the same shape."""
    sizes, (out_steps, x_steps) = walk(target, view)
    # rows along the axis with the smallest step in x, so that neither side is accessed in large steps
    nearest = min((i for i in range(5) if sizes[i] > 1), key=lambda i: abs(x_steps[i]) or 1 << 62, default=4)
    if nearest != 4 and abs(x_steps[5]) != 1:
        order = [i for i in range(5) if i != nearest] + [nearest, 5]
        sizes, x_steps, out_steps = (tuple(steps[i] for i in order) for steps in (sizes, x_steps, out_steps))  # type: ignore[assignment]
    source = Strided(bits(x), position(view, x), x_steps)
    return Call(move, (source, Strided(bits(out), position(target, out), out_steps), sizes))


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, x: Info | None, *others: Info | None, **_: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    if any(other is not None and other.value is None for other in others):
        return "the moved region depends on data"
    if not movable(out.dtype) or x.dtype != out.dtype:
        return f"elements of {out.dtype}"
    return rank_refused(out.shape)


@fast(transpose, when=_refused, layout="any")
def bind_transpose(pool: ConstantPool, out: Array, x: Array, **attributes: Any) -> Call:
    """The transposed view."""
    return move_view(transpose(x, **attributes), x, out, out)


@fast(slice_, when=_refused, layout="any")
def bind_slice(pool: ConstantPool, out: Array, x: Array, *bounds: Array) -> Call:
    """The sliced view."""
    return move_view(slice_(x, *bounds), x, out, out)


@fast(slice_1, when=_refused, layout="any")
def bind_slice_1(pool: ConstantPool, out: Array, x: Array, **attributes: Any) -> Call:
    """The sliced view; bounds are attributes before opset 10."""
    return move_view(slice_1(x, **attributes), x, out, out)


def _same_rank_refused(out: Info, x: Info | None, *others: Info | None, **_: Any) -> str | None:
    if x is not None and len(x.shape or ()) != len(out.shape or ()):
        return "axes are added"
    return _refused(out, x, *others)


@fast(expand, when=_same_rank_refused, layout="any")
def bind_expand(pool: ConstantPool, out: Array, x: Array, shape: Array) -> Call:
    """Repeated elements have steps of zero."""
    return move_view(broadcast_to(x, out.shape), x, out, out)


def _concat_refused(out: Info, *inputs: Info | None, **_: Any) -> str | None:
    if any(i is None or i.dtype != out.dtype for i in inputs) or not movable(out.dtype):
        return f"elements of {out.dtype}"
    if all(i is not None and i.value is not None for i in inputs):
        return "the inputs are constant"
    return rank_refused(out.shape)


@fast(concat, when=_concat_refused, layout="any")
@fast(concat_1, when=_concat_refused, layout="any")
def bind_concat(pool: ConstantPool, out: Array, *inputs: Array, axis: int = 1) -> list[Call]:
    """One copy for each input."""
    calls, first = [], 0
    for x in inputs:
        end = first + x.shape[axis]
        where = [slice(None)] * out.ndim
        where[axis] = slice(first, end)
        if not (x.flags.c_contiguous or (x.ndim > 2 and channels_innermost(x).flags.c_contiguous)):
            x = np.ascontiguousarray(x)
        calls.append(move_view(x, x, out[tuple(where)], out))
        first = end
    return calls


def _pad_refused(out: Info, x: Info | None, *others: Info | None, mode: str = "constant") -> str | None:
    if mode != "constant":
        return f"mode {mode}"
    value = others[1] if len(others) > 1 else None
    if value is not None and value.value is not None and value.value.size > 1:
        return f"{value.value.size} constant values"
    return _refused(out, x, *others)


@fast(pad, when=_pad_refused, layout="any")
def bind_pad(
    pool: ConstantPool,
    out: Array,
    x: Array,
    pads: Array,
    value: Array | None = None,
    axes: Array | None = None,
    **_: Any,
) -> list[Call]:
    """Fill everything with the value, then copy; negative pads cut."""
    which = range(x.ndim) if axes is None else [int(a) % x.ndim for a in axes.ravel()]
    before, after = [0] * x.ndim, [0] * x.ndim
    numbers = pads.ravel().tolist()
    for i, axis in enumerate(which):
        before[axis], after[axis] = numbers[i], numbers[i + len(which)]
    inner = tuple(slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(before, after, x.shape))
    outer = tuple(slice(max(b, 0), n - max(a, 0)) for b, a, n in zip(before, after, out.shape))
    filler = np.zeros(1, out.dtype) if value is None or not value.size else value.reshape(1)
    calls = [Call(fill, (bits(out), bits(filler)))]
    if x[inner].size:
        calls.append(move_view(x[inner], x, out[outer], out))
    return calls
