"""Loops over arrays of different memory orders, whose common axes are merged as far as possible."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.kernel import jit
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat

RANK = 6
"""Number of axes that kernels loop over; the last two are the inner loops."""

_BLOCK = 16
"""Rows of a work item, which is not divided between threads."""

_ROW = 4096
"""Elements of a row in a work item: they stay in the L1 cache, and a single long row is divided between threads."""

Axes = tuple[int, int, int, int, int, int]
"""Sizes of the axes, or steps along them in elements."""


class Strided(NamedTuple):
    """A view of an array: the element of index (i, …) is at start + Σ i·step."""

    data: Array
    start: int
    steps: Axes


class Walk(NamedTuple):
    """The sizes of common axes, and the steps of each array."""

    sizes: Axes
    steps: list[Axes]


class GridPart(NamedTuple):
    """A part of a grid: an index of the outer four axes, rows `row` to `end`, `columns` columns from `column` on."""

    outer: tuple[int, int, int, int]
    row: int
    end: int
    column: int
    columns: int


def walk(*views: Array) -> Walk:
    """Return the common axes of views of one shape, at most RANK larger than 1, in the memory order of the first view.

    Axes of size 1 are dropped; neighbouring axes that are contiguous in all views are merged.
    """
    shape = views[0].shape
    order = sorted((a for a in range(len(shape)) if shape[a] > 1), key=lambda a: -abs(views[0].strides[a]))
    sizes: list[int] = []
    steps: list[list[int]] = []
    for axis in order:
        here = [view.strides[axis] // view.itemsize for view in views]
        if sizes and all(outer == inner * shape[axis] for outer, inner in zip(steps[-1], here)):
            sizes[-1], steps[-1] = sizes[-1] * shape[axis], here
        else:
            sizes.append(shape[axis])
            steps.append(here)
    assert len(sizes) <= RANK, "too many axes"
    missing = RANK - len(sizes)
    padded = [[0] * len(views)] * missing + steps
    return Walk(_axes([1] * missing + sizes), [_axes([step[i] for step in padded]) for i in range(len(views))])


def _axes(numbers: list[int]) -> Axes:
    return tuple(numbers)  # type: ignore[return-value]


@jit
def grid_index(item: int, sizes: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return the indices of an item of four axes, counted in row-major order."""
    i3 = item % sizes[3]
    rest = item // sizes[3]
    i2 = rest % sizes[2]
    rest = rest // sizes[2]
    return rest // sizes[1], rest % sizes[1], i2, i3


@jit
def offset(index: tuple[int, int, int, int], view: Strided) -> int:
    """Return the position of a view's element of these indices of the first four axes, and 0 along the other two."""
    s, i = view.steps, index
    return view.start + i[0] * s[0] + i[1] * s[1] + i[2] * s[2] + i[3] * s[3]


@jit
def grid_parts(sizes: Axes) -> int:
    """Return the number of parts of a grid."""
    d0, d1, d2, d3, rows, columns = sizes
    return d0 * d1 * d2 * d3 * ((rows + _BLOCK - 1) // _BLOCK) * ((columns + _ROW - 1) // _ROW)


@jit
def grid_part(sizes: Axes, number: int) -> GridPart:
    """Return the part of this number, counted in row-major order."""
    d0, d1, d2, d3, rows, columns = sizes
    row_blocks, column_blocks = (rows + _BLOCK - 1) // _BLOCK, (columns + _ROW - 1) // _ROW
    column, row = number % column_blocks * _ROW, number // column_blocks % row_blocks * _BLOCK
    outer = grid_index(number // column_blocks // row_blocks, (d0, d1, d2, d3))
    return GridPart(outer, row, min(row + _BLOCK, rows), column, min(_ROW, columns - column))


@jit
def row_start(view: Strided, at: GridPart, row: int) -> int:
    """Return the position at which a row of a part starts in a view."""
    return offset(at.outer, view) + row * view.steps[4] + at.column * view.steps[5]


def position(view: Array, base: Array) -> int:
    """Return the index, in the memory of `base`, of the first element of a view of it."""
    return (view.ctypes.data - base.ctypes.data) // base.itemsize


def bits(x: Array) -> Array:
    """Return the memory of an array as a 1-D array of unsigned integers of the size of its elements."""
    return flat(x).view(np.dtype(f"u{x.itemsize}"))


def rank_refused(*shapes: tuple[int, ...] | None) -> str | None:
    """Refuse shapes of more than RANK axes."""
    largest = max(len(shape or ()) for shape in shapes)
    return None if largest <= RANK else f"{largest} axes"


def movable(dtype: np.dtype[Any] | None) -> bool:
    """Return whether elements of this type can be copied as integers."""
    return dtype is not None and dtype.kind in "biuf" and dtype.itemsize in (1, 2, 4, 8)
