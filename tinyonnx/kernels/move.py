"""Operators that only move elements, as copies from one strided view of memory to another.

The numpy operator returns its result as a view of the input, and one kernel copies the view, for all memory orders and
element types.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import Rows, tile_side, transpose_tile
from tinyonnx.ir import Array
from tinyonnx.kernels._strided import Axes, Strided, bits, grid_index, movable, offset, position, rank_refused, walk
from tinyonnx.ops.index import gather
from tinyonnx.ops.pad import pad
from tinyonnx.ops.shape import expand, transpose
from tinyonnx.ops.tensor import concat, concat_1, slice_, slice_1
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.arena import channels_innermost
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to

_BLOCK = 16
"""Rows and columns transposed at a time, so that the cache lines of both arrays are used up while in the L1 cache."""

_LONG = 512
"""Rows at a time if there are few columns, so that one of the loops is long."""

_ROW = 4096
"""Maximum elements of a row in a work item, so that a single long row is divided between threads, too."""


@jit
def move_line(
    x: Strided, out: Strided, source: int, target: int, x_step: int, o_step: int, begin: int, end: int
) -> None:  # fmt: skip
    """Copy the elements from `begin` to `end` along one axis."""
    source, target = source + begin * x_step, target + begin * o_step
    for i in range(end - begin):
        out.data[np.uint64(target + i * o_step)] = x.data[np.uint64(source + i * x_step)]


@jit
def move_rectangle(
    x: Strided, out: Strided, source: int, target: int, r0: int, r1: int, c0: int, c1: int
) -> None:  # fmt: skip
    """Copy rows r0 to r1 of columns c0 to c1 of the last two axes; the longer loop is the inner one."""
    if c1 - c0 > r1 - r0:
        for r in range(r0, r1):
            move_line(x, out, source + r * x.steps[4], target + r * out.steps[4], x.steps[5], out.steps[5], c0, c1)
    else:
        for c in range(c0, c1):
            move_line(x, out, source + c * x.steps[5], target + c * out.steps[5], x.steps[4], out.steps[4], r0, r1)


@kernel
def move(x: Strided, out: Strided, sizes: Axes, part: int, parts: int) -> None:
    """Copy x[i] to out[i] for all indices i below `sizes`."""
    d0, d1, d2, d3, rows, columns = sizes
    x_row, x_column, o_row, o_column = x.steps[4], x.steps[5], out.steps[4], out.steps[5]
    band = _BLOCK if columns >= _BLOCK else _LONG
    row_blocks = (rows + band - 1) // band
    column_blocks = (columns + _ROW - 1) // _ROW
    first, end = share(d0 * d1 * d2 * d3 * row_blocks * column_blocks, part, parts)
    for item in range(first, end):
        c0 = item % column_blocks * _ROW
        r0 = item // column_blocks % row_blocks * band
        index = grid_index(item // column_blocks // row_blocks, (d0, d1, d2, d3))
        source, target = offset(index, x), offset(index, out)
        r1, c1 = min(r0 + band, rows), min(c0 + _ROW, columns)
        if x_column == 1 and o_column == 1:
            for r in range(r0, r1):
                s, t = source + r * x_row + c0, target + r * o_row + c0
                here, there = x.data[s : s + c1 - c0], out.data[t : t + c1 - c0]
                for c in range(c1 - c0):
                    there[c] = here[c]
        elif x_row == 1 and o_column == 1:
            side = tile_side(x.data)
            r2 = r0 + (r1 - r0) // side * side
            c2 = c0 + (c1 - c0) // side * side
            for r in range(r0, r2, side):
                for c in range(c0, c2, side):
                    square = Rows(x.data, source + r + c * x_column, x_column)
                    transpose_tile(square, Rows(out.data, target + r * o_row + c, o_row))
            move_rectangle(x, out, source, target, r0, r2, c2, c1)
            move_rectangle(x, out, source, target, r2, r1, c0, c1)
        else:
            for begin in range(c0, c1, _BLOCK):
                move_rectangle(x, out, source, target, r0, r1, begin, min(begin + _BLOCK, c1))


@kernel
def fill(out: Array, value: Array, part: int, parts: int) -> None:
    """Fill `out` with value[0]."""
    first, end = share(out.shape[0], part, parts)
    here = out[first:end]
    for i in range(end - first):
        here[i] = value[0]


def move_view(view: Array, x: Array, target: Array, out: Array) -> Call:
    """Bind a copy of `view`, a view of `x`, to `target`, a view of `out` of the same shape."""
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
    """Bind a copy of the transposed view."""
    return move_view(transpose(x, **attributes), x, out, out)


@fast(slice_, when=_refused, layout="any")
def bind_slice(pool: ConstantPool, out: Array, x: Array, *bounds: Array) -> Call:
    """Bind a copy of the sliced view."""
    return move_view(slice_(x, *bounds), x, out, out)


@fast(slice_1, when=_refused, layout="any")
def bind_slice_1(pool: ConstantPool, out: Array, x: Array, **attributes: Any) -> Call:
    """Bind a copy of the sliced view; before opset 10 the bounds are attributes."""
    return move_view(slice_1(x, **attributes), x, out, out)


def _same_rank_refused(out: Info, x: Info | None, *others: Info | None, **_: Any) -> str | None:
    if x is not None and len(x.shape or ()) != len(out.shape or ()):
        return "axes are added"
    return _refused(out, x, *others)


@fast(expand, when=_same_rank_refused, layout="any")
def bind_expand(pool: ConstantPool, out: Array, x: Array, shape: Array) -> Call:
    """Bind a copy of the expanded view, in which repeated elements have steps of zero."""
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
    """Bind one copy for each input."""
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


_MODES = ("constant", "reflect", "edge", "wrap")
_PADDED_AXES = 2
"""Maximum number of axes padded with elements of the input; each combination of sides needs a copy of its own."""

Sides = list[tuple[int, int]]
"""Number of elements added before and after each axis; negative if elements are cut off."""


def _sides(rank: int, pads: Array, axes: Array | None) -> Sides:
    which = range(rank) if axes is None else [int(a) % rank for a in axes.ravel()]
    sides = [(0, 0)] * rank
    numbers = pads.ravel().tolist()
    for i, axis in enumerate(which):
        sides[axis] = numbers[i], numbers[i + len(which)]
    return sides


def _cut(x: Array, sides: Sides) -> Array:
    return x[tuple(slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(sides, x.shape))]


def _pad_refused(out: Info, x: Info | None, *others: Info | None, mode: str = "constant") -> str | None:
    if mode not in _MODES:
        return f"mode {mode}"
    refused = _refused(out, x, *others)
    pads, value, axes = (*others, None, None, None)[:3]
    if refused is not None or pads is None or pads.value is None or x is None or x.shape is None:
        return refused or "the pads are absent"
    if value is not None and value.value is not None and value.value.size > 1:
        return f"{value.value.size} constant values"
    if mode == "constant":
        return None
    sides = _sides(len(x.shape), pads.value, None if axes is None else axes.value)
    if sum(max(pair) > 0 for pair in sides) > _PADDED_AXES:
        return f"mode {mode} along more than {_PADDED_AXES} axes"
    for (before, after), size in zip(sides, x.shape):
        present = size - max(-before, 0) - max(-after, 0) - (mode == "reflect")
        if max(before, after) > 0 and (present < 1 or (mode != "edge" and max(before, after) > present)):
            return f"mode {mode} with more elements than the axis has"
    return None


@fast(pad, when=_pad_refused, layout="any")
def bind_pad(
    pool: ConstantPool,
    out: Array,
    x: Array,
    pads: Array,
    value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> list[Call]:
    """Bind a fill with the value and a copy, or a copy for each combination of sides; negative pads remove elements."""
    sides = _sides(x.ndim, pads, axes)
    inner = _cut(x, sides)
    if mode == "constant":
        filler = np.zeros(1, out.dtype) if value is None or not value.size else value.reshape(1)
        outer = tuple(slice(max(b, 0), n - max(a, 0)) for (b, a), n in zip(sides, out.shape))
        calls = [Call(fill, (bits(out), bits(filler)))]
        return [*calls, move_view(inner, x, out[outer], out)] if inner.size else calls
    regions = [(inner, out)]
    for axis, (before, after) in enumerate(sides):
        regions = [each for pair in regions for each in _beside(*pair, axis, max(before, 0), max(after, 0), mode)]
    return [move_view(view, x, target, out) for view, target in regions]


def _beside(x: Array, out: Array, axis: int, before: int, after: int, mode: str) -> list[tuple[Array, Array]]:
    """Return views of an input and the views of the output that they fill, before, over and after it along an axis."""

    def along(array: Array, first: int, end: int, step: int = 1) -> Array:
        cut = slice(first, end) if step > 0 else slice(None, None, -1)
        return array[(*[slice(None)] * axis, cut)]

    def repeated(edge: Array, count: int) -> Array:
        view: Array = broadcast_to(edge, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
        return view

    n, total = x.shape[axis], out.shape[axis]
    if mode == "reflect":
        backwards = along(x, 0, n, -1)
        first, last = along(backwards, n - 1 - before, n - 1), along(backwards, 1, 1 + after)
    elif mode == "wrap":
        first, last = along(x, n - before, n), along(x, 0, after)
    else:
        first, last = repeated(along(x, 0, 1), before), repeated(along(x, n - 1, n), after)
    found = [(x, along(out, before, before + n))]
    if before:
        found.append((first, along(out, 0, before)))
    if after:
        found.append((last, along(out, total - after, total)))
    return found


_MOST_RUNS = 4
"""Maximum number of copies for the constant indices of a Gather."""


def _runs(indices: list[int]) -> list[tuple[int, int, int]]:
    """Divide indices into evenly spaced runs of (first index, number, step); the step is positive."""
    runs: list[tuple[int, int, int]] = []
    for index in indices:
        first, count, step = runs[-1] if runs else (0, 0, 1)
        if count == 1 and index > first:
            runs[-1] = first, 2, index - first
        elif count > 1 and index == first + count * step:
            runs[-1] = first, count + 1, step
        else:
            runs.append((index, 1, 1))
    return runs


def _gather_refused(out: Info, x: Info | None, indices: Info | None, *, axis: int = 0) -> str | None:
    refused = _refused(out, x, indices)
    if refused is not None or x is None or x.shape is None or indices is None or indices.value is None:
        return refused or "an input is absent"
    if not -x.ndim <= axis < x.ndim:
        return "the axis is out of range"
    size = x.shape[axis]
    wanted = indices.value.ravel().tolist()
    if any(not -size <= index < size for index in (min(wanted), max(wanted))):
        return "an index is out of range"
    if len({index < 0 for index in wanted}) > 1 or len(_runs(wanted)) > _MOST_RUNS:
        return "indices are not evenly spaced"
    return rank_refused(x.shape)


@fast(gather, when=_gather_refused, layout="row_major")
def bind_gather(pool: ConstantPool, out: Array, x: Array, indices: Array, *, axis: int = 0) -> list[Call]:
    """Bind one copy for each evenly spaced run of constant indices."""
    axis %= x.ndim
    before = (slice(None),) * axis
    target = out.reshape(*x.shape[:axis], indices.size, *x.shape[axis + 1 :])
    calls, at = [], 0
    for first, count, step in _runs(indices.ravel().tolist()):
        first = first + x.shape[axis] if first < 0 else first
        view = x[(*before, slice(first, first + (count - 1) * step + 1, step))]
        calls.append(move_view(view, x, target[(*before, slice(at, at + count))], out))
        at += count
    return calls
