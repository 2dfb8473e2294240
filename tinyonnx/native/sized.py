"""A model's calls for every size of an axis: rows whose integers are functions of the size.

Between two sizes at which a plan has the same kernels, in buffers that live from the same step
to the same step, only numbers change: widths, counts, lengths. Each is a + b·⌊(size + c) / s⌋,
as sizes of convolutions are; a, b, c and s are found from the plans of some sizes, and of more until
no two functions are left that differ. Buffers lie
where the plan of the greatest size has them. Where the kernels change, or a number is another
function, another range of sizes begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.kernels.elementwise import copy
from tinyonnx.native.model import Bound, CompileError, Step, bind, virtual
from tinyonnx.native.unit import Cell, Layout, Place
from tinyonnx.runtime.plan import Plan

_MOST = 40
"""So many ranges say that the sizes of a model are none of these functions."""

_LARGEST_DIVISOR = 64
"""Of strides, multiplied with each other."""

_GRID = 4 * _LARGEST_DIVISOR
"""Sizes at both ends of a range at which functions that agree are taken for the same."""


class _Term(NamedTuple):
    """A cell that depends on the size: `base` is the cell at a function value of zero."""

    row: int
    cell: int
    base: Cell
    factor: int
    shift: int
    divisor: int


class _Range(NamedTuple):
    """Sizes from `first` to `last`, and the calls for them."""

    first: int
    last: int
    steps: list[Step]
    terms: list[_Term]


def lay_out_sizes(
    layout: Layout, plan_for: Callable[[int], Plan], bounds: Sequence[int], source: Array, target: Array
) -> tuple[int, int]:
    """Lay out a model of one input and one output for all sizes from bounds[0] to bounds[-1].

    The bounds between them divide the sizes, for plans that fit them better. The kernels copy the
    input from the start of `source` and the output to that of `target`, which are mapped.
    Returns what `kernels.run_sized` takes: where in the words the ranges are, and how many.

    Raises CompileError.
    """
    found: list[_Range] = []
    binder = _Binder(layout, plan_for, source, target)
    for first, last in pairwise(bounds):
        _cover(binder, first if not found else first + 1, last, found)
    rows: list[Cell] = []
    for part in found:
        words = [layout.add_words(step.cells) for step in part.steps]
        first, last = layout.add_table([layout.kernel(s.kernel, s.kinds) for s in part.steps], words)
        terms = layout.add_words(
            number
            for t in part.terms
            for number in (words[t.row].offset // 8 + t.cell, t.base, t.factor, t.shift, t.divisor)
        )
        at = terms.offset // 8
        rows += (part.first, part.last, first, last, at, at + 5 * len(part.terms))
    return layout.add_words(rows).offset // 8, len(found)


class _Binder:
    """Binds the plans of any size."""

    def __init__(self, layout: Layout, plan_for: Callable[[int], Plan], source: Array, target: Array) -> None:
        self.layout, self.plan_for, self.source, self.target = layout, plan_for, source, target

    def largest(self, size: int) -> tuple[Plan, Array, list[Step]]:
        plan = self.plan_for(size)
        arena = virtual(plan.arena_bytes)
        return plan, arena, self._steps(bind(self.layout, plan, arena))

    def like(self, largest: tuple[Plan, Array, list[Step]], size: int) -> list[Step] | None:
        """The calls for a size in the buffers of another one; None if they are of another kind."""
        model, arena, steps = largest
        plan = self.plan_for(size)
        if not _alike(plan, model):
            return None
        with _offsets_of(model, plan):
            found = self._steps(bind(self.layout, plan, arena, number=False))
        return found if [(s.kernel, s.kinds) for s in found] == [(s.kernel, s.kinds) for s in steps] else None

    def _steps(self, bound: Bound) -> list[Step]:
        (entry, n), (exit, m) = bound.inputs[0], bound.outputs[0]
        source, target = self.layout.place(self.source), self.layout.place(self.target)
        return [
            Step(copy, "<u4 <u4", [source, n // 4, entry, n // 4], False),
            *bound.steps,
            Step(copy, "<u4 <u4", [exit, m // 4, target, m // 4], False),
        ]


def _alike(plan: Plan, model: Plan) -> bool:
    """Whether a plan's buffers would do where another plan's are."""
    return len(plan.all_buffers) == len(model.all_buffers) and all(
        (own.layout, own.dtype, own.start, own.end) == (other.layout, other.dtype, other.start, other.end)
        and own.nbytes <= other.nbytes
        and (own.shares is None) == (other.shares is None)
        for own, other in zip(plan.all_buffers, model.all_buffers)
    )


@contextmanager
def _offsets_of(model: Plan, plan: Plan) -> Iterator[None]:
    """Put a plan's buffers where another plan's are."""
    before = [buffer.offset for buffer in plan.all_buffers]
    for own, other in zip(plan.all_buffers, model.all_buffers):
        own.offset = other.offset
    yield
    for own, offset in zip(plan.all_buffers, before):
        own.offset = offset


def _cover(binder: _Binder, first: int, last: int, found: list[_Range]) -> None:
    """Append ranges for all sizes from `first` to `last`, in order."""
    largest = binder.largest(last)
    begin, end = first, last
    if binder.like(largest, first) is None:
        while end - begin > 1:
            middle = (begin + end) // 2
            begin, end = (begin, middle) if binder.like(largest, middle) is not None else (middle, end)
        _cover(binder, first, end - 1, found)
        first = end
    merged = _merge(binder, largest, first, last)
    if merged is None:
        middle = (first + last) // 2
        _cover(binder, first, middle, found)
        _cover(binder, middle + 1, last, found)
    else:
        found.append(merged)
    if len(found) > _MOST:
        raise CompileError("can't be compiled for every size: its steps depend on it in too many ways")


def _merge(binder: _Binder, largest: tuple[Plan, Array, list[Step]], first: int, last: int) -> _Range | None:
    """The calls for a range of sizes, None if a number is no function of the kind."""
    samples: dict[int, list[Step]] = {}
    doubtful = {first, last, (first + last) // 2}
    grid = np.unique(np.clip([np.arange(first, first + _GRID), np.arange(last - _GRID, last) + 1], first, last))
    while doubtful:
        for size in doubtful:
            steps = binder.like(largest, size)
            if steps is None:
                return None
            samples[size] = steps
        doubtful = set()
        terms = []
        sizes = sorted(samples)
        for place, values in _changing(largest[2], [samples[size] for size in sizes]):
            numbers = tuple(_number(value, values[0]) for value in values)
            found = [] if None in numbers else _functions(tuple(sizes), numbers)
            if not found:
                return None
            a, b, c, s = found[0]
            terms.append(_Term(*place, values[0]._replace(offset=a) if isinstance(values[0], Place) else a, b, c, s))
            doubtful |= _doubtful(tuple(found), tuple(grid.tolist()))
    return _Range(first, last, largest[2], terms)


def _changing(steps: list[Step], samples: list[list[Step]]) -> Iterator[tuple[tuple[int, int], list[Cell]]]:
    """Row and cell of what isn't the same in all samples, with its values."""
    for row, step in enumerate(steps):
        # scratch of the greatest size is enough for the others
        for cell in range(len(step.cells) - step.scratch):
            values = [sample[row].cells[cell] for sample in samples]
            if any(value != values[0] for value in values):
                yield (row, cell), values


def _number(cell: Cell | None, like: Cell) -> int | None:
    """What may change of a cell: a number, or the offset of a place."""
    if isinstance(cell, Place) and isinstance(like, Place):
        return cell.offset if cell._replace(offset=like.offset) == like else None
    return cell if isinstance(cell, int) and isinstance(like, int) else None


@cache
def _functions(sizes: tuple[int, ...], values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """All (a, b, c, s) with a + b·⌊(size + c) / s⌋ = value everywhere."""
    shifts, divisors, steps = _steps_of(sizes)
    rise, run = np.array(values) - values[0], steps - steps[:, :1]
    usable = (run[:, -1] != 0) & (rise[-1] % np.maximum(run[:, -1], 1) == 0)
    factors = np.where(usable, rise[-1] // np.maximum(run[:, -1], 1), 0)
    fits = np.flatnonzero(usable & (factors[:, None] * run == rise).all(axis=1))
    starts = values[0] - factors * steps[:, 0]
    return [(int(starts[i]), int(factors[i]), int(shifts[i]), int(divisors[i])) for i in fits]


@cache
def _steps_of(sizes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """c, s, and ⌊(size + c) / s⌋ for each size, for all c and s."""
    pairs = [(shift, divisor) for divisor in range(1, _LARGEST_DIVISOR + 1) for shift in range(divisor)]
    shifts, divisors = np.array(pairs).T
    return shifts, divisors, (np.array(sizes) + shifts[:, None]) // divisors[:, None]


@cache
def _doubtful(functions: tuple[tuple[int, int, int, int], ...], grid: tuple[int, ...]) -> set[int]:
    """A size at which the functions differ, if there is one."""
    sizes = np.array(grid, np.int64)
    predicted = np.array([a + b * ((sizes + c) // s) for a, b, c, s in functions])
    different = np.flatnonzero((predicted != predicted[0]).any(axis=0))
    return set(sizes[different[len(different) // 2 :][:1]].tolist())
