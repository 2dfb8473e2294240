"""Loops over arrays of different memory orders: their common axes, merged as far as possible."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.kernel import jit
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat

RANK = 6
"""Number of axes that kernels loop over; the last two are the inner loops."""

Axes = tuple[int, int, int, int, int, int]
"""The size of every axis, or its step in elements."""


class Strided(NamedTuple):
    """A view of an array: element (i, …) is at start + Σ i·step."""

    data: Array
    start: int
    steps: Axes


class Walk(NamedTuple):
    """The sizes of common axes, and the steps of every array."""

    sizes: Axes
    steps: list[Axes]


def walk(*views: Array) -> Walk:
    """The common axes of views of one shape, at most RANK of them larger than 1, in the memory order of the first view.

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
    """The indices of an item of four axes, counted in row-major order."""
    i3 = item % sizes[3]
    rest = item // sizes[3]
    i2 = rest % sizes[2]
    rest = rest // sizes[2]
    return rest // sizes[1], rest % sizes[1], i2, i3


@jit
def offset(index: tuple[int, int, int, int], view: Strided) -> int:
    """The element of a view at an index of its first four axes."""
    s, i = view.steps, index
    return view.start + i[0] * s[0] + i[1] * s[1] + i[2] * s[2] + i[3] * s[3]


def position(view: Array, base: Array) -> int:
    """The index, in the memory of `base`, of the first element of a view of it."""
    return (view.ctypes.data - base.ctypes.data) // base.itemsize


def bits(x: Array) -> Array:
    """The memory of an array, flat, as unsigned integers of the size of its elements."""
    return flat(x).view(np.dtype(f"u{x.itemsize}"))


def rank_refused(*shapes: tuple[int, ...] | None) -> str | None:
    """Refuse shapes of more than RANK axes."""
    largest = max(len(shape or ()) for shape in shapes)
    return None if largest <= RANK else f"{largest} axes"


def movable(dtype: np.dtype[Any] | None) -> bool:
    """Whether elements can be copied as integers."""
    return dtype is not None and dtype.kind in "biuf" and dtype.itemsize in (1, 2, 4, 8)
