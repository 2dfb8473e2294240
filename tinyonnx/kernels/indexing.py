"""Gathering and scattering of elements by computed indices, and OneHot.

An index may be out of range. Kernels then use index 0 in its place and set the status of the run, so that the operator
itself raises the error; see `tinyonnx.registry.Fast.reports`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat
from tinyonnx.kernels._strided import RANK, Axes, bits, movable, rank_refused
from tinyonnx.kernels.move import bind_gather as _bind_gather_of_constant_indices  # noqa: F401  is registered before
from tinyonnx.ops.fused import table_rows
from tinyonnx.ops.index import gather, gather_elements, gather_nd, one_hot, scatter, scatter_elements, scatter_nd
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.integers import is_size

REPLACE, ADD, MULTIPLY, MAXIMUM, MINIMUM = range(5)

_REDUCTIONS = {"none": REPLACE, "add": ADD, "mul": MULTIPLY, "max": MAXIMUM, "min": MINIMUM}

_INDICES = (np.int32, np.int64)


class IndexLines(NamedTuple):
    """Lines along the last axis of an index array, and where they start in an array of other strides."""

    sizes: Axes
    steps: Axes
    axis_step: int
    axis_size: int


class Coordinates(NamedTuple):
    """Tuples of `depth` indices along axes of these sizes and steps; each selects `size` elements.

    There are `per_batch` tuples in each batch, which are `batch_step` elements apart.
    """

    depth: int
    sizes: Axes
    steps: Axes
    per_batch: int
    batch_step: int
    size: int


@jit
def checked(index: int, length: int, status: Array) -> int:
    """Return an index, counted from the end if negative; if it is out of range, set the status and return 0."""
    if index < 0:
        index += length
    if index < 0 or index >= length:
        status[0] = 1
        return 0
    return index


@jit
def combine(old: Any, new: Any, reduction: Static) -> Any:
    """Return the result of updating an element; a maximum or minimum with NaN is NaN."""
    if reduction == ADD:
        return old + new
    if reduction == MULTIPLY:
        return old * new
    if reduction == MAXIMUM:
        return old if old > new or old != old else new
    if reduction == MINIMUM:
        return old if old < new or old != old else new
    return new


@jit
def line_start(line: int, lines: IndexLines) -> int:
    """Return the element at which a line starts, without the axis of the indices."""
    at, rest = 0, line
    for axis in range(RANK - 2, -1, -1):
        if lines.sizes[axis] > 1:
            at += rest % lines.sizes[axis] * lines.steps[axis]
            rest //= lines.sizes[axis]
    return at


@jit
def tuple_start(item: int, indices: Array, where: Coordinates, status: Array) -> int:
    """Return the position of the first element that a tuple of indices selects."""
    at = item // where.per_batch * where.batch_step
    for k in range(where.depth):
        at += checked(indices[item * where.depth + k], where.sizes[k], status) * where.steps[k]
    return at


@kernel
def gather_rows(
    x: Array, indices: Array, out: Array, rows: int, size: int, status: Array, part: int, parts: int
) -> None:
    """Copy x[b, indices[i]] to out[b, i], in blocks of `rows` rows of `size` elements."""
    count = indices.shape[0]
    first, end = share(out.shape[0] // size, part, parts)
    for item in range(first, end):
        source = (item // count * rows + checked(indices[item % count], rows, status)) * size
        if size == 1:
            out[item] = x[source]
        else:
            here, there = x[source : source + size], out[item * size : (item + 1) * size]
            for k in range(size):
                there[k] = here[k]


@kernel
def pick_rows(
    table: Array, numbers: Array, out: Array, rows: int, size: int, status: Array, part: int, parts: int
) -> None:
    """Copy the rows of a table with these numbers, which count from its start only."""
    first, end = share(numbers.shape[0], part, parts)
    for item in range(first, end):
        number = numbers[item]
        source = checked(number if number >= 0 else rows, rows, status) * size
        here, there = table[source : source + size], out[item * size : (item + 1) * size]
        for k in range(size):
            there[k] = here[k]


@kernel
def gather_along(x: Array, indices: Array, out: Array, lines: IndexLines, status: Array, part: int, parts: int) -> None:
    """Copy x[j] to out[i], line by line, where j is i with index `indices[i]` along the axis."""
    width, step = lines.sizes[RANK - 1], lines.steps[RANK - 1]
    first, end = share(out.shape[0] // width, part, parts)
    for line in range(first, end):
        start, at = line_start(line, lines), line * width
        for k in range(width):
            index = checked(indices[at + k], lines.axis_size, status)
            out[at + k] = x[start + k * step + index * lines.axis_step]


@kernel
def gather_tuples(
    x: Array, indices: Array, out: Array, where: Coordinates, status: Array, part: int, parts: int
) -> None:
    """Copy the elements x[indices[i]] that a tuple of indices selects to out[i]."""
    size = where.size
    first, end = share(out.shape[0] // size, part, parts)
    for item in range(first, end):
        source = tuple_start(item, indices, where, status)
        here, there = x[source : source + size], out[item * size : (item + 1) * size]
        for k in range(size):
            there[k] = here[k]


@kernel
def scatter_along(
    x: Array, indices: Array, updates: Array, out: Array, lines: IndexLines, block: int, reduction: Static,
    status: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Copy x to out and update out[j], where j is i with index `indices[i]` along the axis.

    A share writes to whole blocks of elements of `out` and applies all updates that fall into them.
    """
    first, end = share(out.shape[0] // block, part, parts)
    first, end = first * block, end * block
    for k in range(first, end):
        out[k] = x[k]
    width, step = lines.sizes[RANK - 1], lines.steps[RANK - 1]
    for line in range(indices.shape[0] // width):
        start, at = line_start(line, lines), line * width
        for k in range(width):
            target = start + k * step + checked(indices[at + k], lines.axis_size, status) * lines.axis_step
            if first <= target < end:
                out[target] = combine(out[target], updates[at + k], reduction)


@kernel
def scatter_tuples(
    x: Array, indices: Array, updates: Array, out: Array, where: Coordinates, reduction: Static, status: Array,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Copy x to out and update the elements that tuples of indices select; a share writes to elements of its own."""
    size = where.size
    first, end = share(out.shape[0] // size, part, parts)
    first, end = first * size, end * size
    for k in range(first, end):
        out[k] = x[k]
    for item in range(updates.shape[0] // size):
        target = tuple_start(item, indices, where, status)
        if first <= target < end:
            here, there = updates[item * size : (item + 1) * size], out[target : target + size]
            for k in range(size):
                there[k] = combine(there[k], here[k], reduction)


@kernel
def select_one(indices: Array, values: Array, out: Array, depth: int, inner: int, part: int, parts: int) -> None:
    """Set out[o, d, i] to values[1] if d is indices[o, i], counted from the end if negative; else to values[0]."""
    first, end = share(out.shape[0] // inner, part, parts)
    for row in range(first, end):
        source, d = row // depth * inner, row % depth
        for i in range(inner):
            index = indices[source + i]
            out[row * inner + i] = values[1] if index == d or index == d - depth else values[0]


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, x: Info | None, indices: Info | None, *others: Info | None, **_: Any) -> str | None:
    if x is None or indices is None or None in others:
        return "an input is absent"
    if not movable(out.dtype) or x.dtype != out.dtype:
        return f"elements of {out.dtype}"
    if indices.dtype not in _INDICES:
        return f"indices of {indices.dtype}"
    return rank_refused(out.shape, x.shape, indices.shape)


def _axes(numbers: Any, padding: int, behind: bool = False) -> Axes:
    """Pad numbers to RANK, in front or behind."""
    missing = [padding] * (RANK - len(numbers))
    return (*numbers, *missing) if behind else (*missing, *numbers)


def _strides(shape: tuple[int, ...]) -> list[int]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _memory(x: Array) -> Array:
    """Return the elements in row-major order as a 1-D array; constants in another order are copied."""
    return bits(x if x.flags.c_contiguous else np.ascontiguousarray(x))


@fast(gather, when=_refused, layout="row_major", reports=True)
def bind_gather(pool: ConstantPool, out: Array, x: Array, indices: Array, *, axis: int = 0, status: Array) -> Call:
    """Bind the gathering of rows, which consist of all axes after `axis`."""
    axis %= x.ndim
    size = math.prod(x.shape[axis + 1 :])
    return Call(gather_rows, (_memory(x), flat(indices), bits(out), x.shape[axis], size, status))


@fast(table_rows, when=_refused, layout="row_major", reports=True)
def bind_table_rows(pool: ConstantPool, out: Array, table: Array, ids: Array, *, status: Array) -> Call:
    """Bind the copying of rows."""
    size = math.prod(table.shape[1:])
    return Call(pick_rows, (_memory(table), flat(ids), bits(out), table.shape[0], size, status))


def _along_refused(
    out: Info, x: Info | None, indices: Info | None, *others: Info | None, axis: int = 0, **_: Any
) -> str | None:
    refused = _refused(out, x, indices, *others)
    if refused is not None or x is None or x.shape is None or indices is None or indices.shape is None:
        return refused or "an input is absent"
    if len(x.shape) != len(indices.shape) or not -x.ndim <= axis < x.ndim:
        return "ranks differ, or the axis is out of range"
    if any(i != axis % x.ndim and n > d for i, (n, d) in enumerate(zip(indices.shape, x.shape))):
        return "the indices have a longer axis than the data"
    return None


def _lines(x: Array, indices: Array, axis: int) -> IndexLines:
    steps = _strides(x.shape)
    others = [0 if i == axis else step for i, step in enumerate(steps)]
    return IndexLines(_axes(indices.shape, 1), _axes(others, 0), steps[axis], x.shape[axis])


@fast(gather_elements, when=_along_refused, layout="row_major", reports=True)
def bind_gather_elements(
    pool: ConstantPool, out: Array, x: Array, indices: Array, *, axis: int = 0, status: Array
) -> Call:
    """Bind the gathering of elements, line by line along the last axis of the indices."""
    lines = _lines(x, indices, axis % x.ndim)
    return Call(gather_along, (_memory(x), flat(indices), bits(out), lines, status))


def _tuples_refused(
    out: Info, x: Info | None, indices: Info | None, *others: Info | None, batch_dims: int = 0, **_: Any
) -> str | None:
    refused = _refused(out, x, indices, *others)
    if refused is not None or x is None or x.shape is None or indices is None or indices.shape is None:
        return refused or "an input is absent"
    depth = indices.shape[-1] if indices.shape else 0
    if is_size(depth):
        return "the number of indices varies"
    if depth < 1 or batch_dims < 0 or batch_dims + depth > len(x.shape):
        return "the indices don't fit the data"
    return None if x.shape[:batch_dims] == indices.shape[:batch_dims] else "the batches differ"


def _coordinates(x: Array, indices: Array, batch_dims: int) -> Coordinates:
    depth = indices.shape[-1]
    axes = slice(batch_dims, batch_dims + depth)
    per_batch = math.prod(indices.shape[batch_dims:-1])
    sizes, steps = _axes(x.shape[axes], 1, True), _axes(_strides(x.shape)[axes], 0, True)
    batch_step = math.prod(x.shape[batch_dims:])
    return Coordinates(depth, sizes, steps, per_batch, batch_step, math.prod(x.shape[batch_dims + depth :]))


@fast(gather_nd, when=_tuples_refused, layout="row_major", reports=True)
def bind_gather_nd(
    pool: ConstantPool, out: Array, x: Array, indices: Array, *, batch_dims: int = 0, status: Array
) -> Call:
    """Bind the copying of the elements that each tuple selects."""
    where = _coordinates(x, indices, batch_dims)
    return Call(gather_tuples, (_memory(x), flat(indices), bits(out), where, status))


def _updates_refused(
    out: Info, x: Info | None, updates: Info | None, wanted: tuple[int, ...], reduction: str
) -> str | None:
    if updates is None or updates.dtype != out.dtype or updates.shape != wanted:
        return "the updates have the wrong shape or type"
    if reduction not in _REDUCTIONS:
        return f"reduction {reduction!r}"
    if reduction != "none" and (out.dtype is None or out.dtype.kind not in "fiu" or out.dtype == np.float16):
        return f"{reduction} of {out.dtype}"
    return None


def _scatter_along_refused(
    out: Info, x: Info | None, indices: Info | None, updates: Info | None, *, axis: int = 0, reduction: str = "none"
) -> str | None:
    refused = _along_refused(out, x, indices, updates, axis=axis)
    if refused is not None or indices is None or indices.shape is None:
        return refused or "an input is absent"
    return _updates_refused(out, x, updates, indices.shape, reduction)


def _elements(x: Array, reduction: str) -> Array:
    """Return the elements as a 1-D array, as unsigned integers if they are only copied."""
    return _memory(x) if reduction == "none" else flat(x if x.flags.c_contiguous else np.ascontiguousarray(x))


@fast(scatter_elements, when=_scatter_along_refused, layout="row_major", in_place=True, reports=True)
@fast(scatter, when=_scatter_along_refused, layout="row_major", in_place=True, reports=True)
def bind_scatter_elements(
    pool: ConstantPool, out: Array, x: Array, indices: Array, updates: Array, *, axis: int = 0,
    reduction: str = "none", status: Array,
) -> Call:  # fmt: skip
    """Bind the scattering of lines of updates; no two shares write to the same part of the axis."""
    lines, arrays = _lines(x, indices, axis % x.ndim), [_elements(a, reduction) for a in (x, updates, out)]
    block = math.prod(x.shape[axis % x.ndim :])
    code = Specialised(_REDUCTIONS[reduction])
    return Call(scatter_along, (arrays[0], flat(indices), *arrays[1:], lines, block, code, status))


def _scatter_tuples_refused(
    out: Info, x: Info | None, indices: Info | None, updates: Info | None, *, reduction: str = "none"
) -> str | None:
    refused = _tuples_refused(out, x, indices, updates)
    if refused is not None or x is None or x.shape is None or indices is None or indices.shape is None:
        return refused or "an input is absent"
    wanted = (*indices.shape[:-1], *x.shape[indices.shape[-1] :])
    return _updates_refused(out, x, updates, wanted, reduction)


@fast(scatter_nd, when=_scatter_tuples_refused, layout="row_major", in_place=True, reports=True)
def bind_scatter_nd(
    pool: ConstantPool, out: Array, x: Array, indices: Array, updates: Array, *, reduction: str = "none",
    status: Array,
) -> Call:  # fmt: skip
    """Bind the updates of the elements that tuples select, in the order of the tuples."""
    arrays = [_elements(a, reduction) for a in (x, updates, out)]
    where, code = _coordinates(x, indices, 0), Specialised(_REDUCTIONS[reduction])
    return Call(scatter_tuples, (arrays[0], flat(indices), *arrays[1:], where, code, status))


def _one_hot_refused(
    out: Info, indices: Info | None, depth: Info | None, values: Info | None, *, axis: int = -1
) -> str | None:
    if indices is None or values is None or indices.value is not None:
        return "the indices are constant"
    if indices.dtype not in _INDICES:
        return f"indices of {indices.dtype}"
    if values.shape != (2,) or not movable(out.dtype) or values.dtype != out.dtype:
        return f"values of {values.dtype}"
    return None


@fast(one_hot, when=_one_hot_refused, layout="row_major")
def bind_one_hot(
    pool: ConstantPool, out: Array, indices: Array, depth: Array, values: Array, *, axis: int = -1
) -> Call:
    """Bind the expansion of indices to rows, which consist of all axes after the new one."""
    inner = math.prod(out.shape[axis % out.ndim + 1 :])
    return Call(select_one, (flat(indices), _memory(values), bits(out), out.shape[axis % out.ndim], inner))
