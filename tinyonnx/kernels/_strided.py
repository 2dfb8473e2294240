"""Loops over arrays that lie in memory in different ways: common axes, as few as possible."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat

RANK = 6
"""Axes that kernels loop over; the two last ones are the inner loops."""

Axes = tuple[int, int, int, int, int, int]
"""A size or a step, in elements, for every axis."""


class Walk(NamedTuple):
    """Sizes, and for every array the steps."""

    sizes: Axes
    steps: list[Axes]


def walk(*views: Array) -> Walk:
    """The axes of views of one shape, with at most RANK that aren't 1, in the order of the first one's memory.

    Axes of size 1 vanish, axes that follow each other in all views merge.
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


def position(view: Array, base: Array) -> int:
    """The element of `base`, counted in its memory, at which a view of it starts."""
    return (view.ctypes.data - base.ctypes.data) // base.itemsize


def bits(x: Array) -> Array:
    """The memory of an array of numbers, flat, as unsigned integers of the same size."""
    return flat(x).view(np.dtype(f"u{x.itemsize}"))


def rank_refused(*shapes: tuple[int, ...] | None) -> str | None:
    """Refuse what might need more than RANK axes."""
    largest = max(len(shape or ()) for shape in shapes)
    return None if largest <= RANK else f"{largest} axes"


def movable(dtype: np.dtype[Any] | None) -> bool:
    """Whether elements can be copied as integers."""
    return dtype is not None and dtype.kind in "biuf" and dtype.itemsize in (1, 2, 4, 8)
