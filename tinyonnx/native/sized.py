"""A model for every size of an axis of its input: plans for many sizes, as words of a binary.

The kernels, the rows and the table that fills them are those of a session (`tinyonnx.runtime.sized`). A session
binds again for sizes at which binders decide otherwise; here all variants are found beforehand, by evaluating
the conditions of those that are known for all sizes that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from tinyonnx.codegen.arguments import kinds_of
from tinyonnx.ir import Array
from tinyonnx.kernels import copy_layout
from tinyonnx.kernels.elementwise import copy
from tinyonnx.kernels.move import move_view
from tinyonnx.native.model import CompileError, add_constants, check_steps
from tinyonnx.native.unit import Cell, UnitLayout
from tinyonnx.ort.session import InferenceSession
from tinyonnx.registry import Call
from tinyonnx.runtime.plan import Unfit
from tinyonnx.runtime.sized import ArgumentRows, Binding, SizedPlan, split
from tinyonnx.sizes.arrays import SizedArray
from tinyonnx.sizes.expressions import EQUAL, POSITIVE, SMALLEST, Condition, Size, SizeError, Trace
from tinyonnx.sizes.integers import is_size

_MOST = 64
"""Give up beyond this many variants: the model depends on the size in too many ways."""

_CHUNK = 4096
"""Sizes for which a table is evaluated at a time."""

VARIANT_WORDS = 9
"""Words that describe a variant; see `kernels._find`."""

_VALUES = 2
"""Position among these words of the range of the table's values."""


class SizedModel(NamedTuple):
    """A model in a unit: where among the words its variants are described, how many there are; bytes of its arena."""

    at: int
    variants: int
    arena_bytes: int


def lay_out_sizes(
    layout: UnitLayout,
    plan_for: Callable[[int], SizedPlan],
    first: int,
    last: int,
    swapped: tuple[int, int] | None = None,
) -> SizedModel:
    """Lay out a model of one input and one output for all sizes from `first` to `last`.

    Args:
        layout: takes rows and constants.
        plan_for: makes a plan for a size, and as many others as possible. It has one symbol.
        first: the least size.
        last: the greatest size.
        swapped: two axes of the input that lie in memory the other way round.

    The row-major input and output, and an arena of `arena_bytes` or, for one size, of `kernels.bytes_for` it, are
    passed to `kernels.run_sized`.

    Raises CompileError.
    """
    left = np.arange(first, last + 1)
    plans: list[SizedPlan] = []
    words: list[Cell] = []
    most_values = arena_bytes = 0
    while len(left):
        size = int(left[-1])
        plan, bindings = _bindings_for(plans, plan_for, size)
        (symbol,) = plan.symbols
        within = Condition(POSITIVE, symbol - first), Condition(POSITIVE, last - symbol)
        variant = _Variant(layout, plan, bindings, within, swapped)
        found, good = variant.lay_out(left)
        if not good[-1]:
            raise CompileError(f"can't be compiled for size {size}: the conditions of its plan don't hold for it")
        words += found
        most_values = max(most_values, variant.rows.table.count)
        arena_bytes = max(arena_bytes, variant.arena_bytes)
        left = left[~good]
        if len(words) > _MOST * VARIANT_WORDS:
            raise CompileError("can't be compiled for every size: its steps depend on it in too many ways")
    # one variant is evaluated at a time: they share the room for values
    values = layout.add_words([0] * most_values).offset // 8
    for at in range(0, len(words), VARIANT_WORDS):
        words[at + _VALUES : at + _VALUES + 2] = values, values + most_values
    return SizedModel(layout.add_words(words).offset // 8, len(words) // VARIANT_WORDS, arena_bytes)


def plan_for_size(
    session: InferenceSession, names: Sequence[str], feeds: Mapping[str, Array], input: str, axis: int
) -> SizedPlan:
    """Return a plan for the size that an axis of an input has in `feeds`, and for others if possible.

    Raises CompileError naming nodes without a kernel, and the errors of planning.
    """
    size = feeds[input].shape[axis]
    if size >= SMALLEST:
        try:
            plan = check_steps(session.plan_for_sizes(names, feeds, {input: axis}))
            plan.conditions.append(Condition(POSITIVE, plan.symbols[0] - SMALLEST))
            if not any(is_size(run.items) for run in plan.plan.runs):  # executables have no loops of any length
                return plan
        except (SizeError, Unfit):
            pass
    trace = Trace()
    symbol = trace.symbol("size", SMALLEST)
    plan = SizedPlan(session.native_plan_for(names, feeds), trace, [symbol])
    plan.conditions.append(Condition(EQUAL, symbol - size))
    return check_steps(plan)


def _bindings_for(
    plans: list[SizedPlan], plan_for: Callable[[int], SizedPlan], size: int
) -> tuple[SizedPlan, list[Binding]]:
    for plan in plans:
        try:
            return plan, plan.bindings_for((size,))[1]
        except (SizeError, Unfit):
            continue
    plans.append(plan_for(size))
    return plans[-1], plans[-1].bindings_for((size,))[1]


class _Variant:
    """A choice of bindings whose words are being written."""

    def __init__(
        self,
        layout: UnitLayout,
        plan: SizedPlan,
        bindings: Sequence[Binding],
        within: Sequence[Condition],
        swapped: tuple[int, int] | None,
    ) -> None:
        self.arena_bytes = 0
        self.layout, self.plan = layout, plan
        source_at, target_at = plan.trace.address("source"), plan.trace.address("target")
        self.rows = ArgumentRows(plan, bindings, [*plan.symbols, plan.arena.address, source_at, target_at], shares=1)
        self.rows.table.check(within)
        calls = [call for binding in bindings for call in binding.calls]
        add_constants(layout, plan.plan, plan.arena, calls)
        (entry,), (exit,) = plan.plan.inputs, plan.plan.outputs
        self.calls = [self._edge(entry, source_at, True, swapped), *calls, self._edge(exit, target_at, False)]

    def _edge(self, slot: int, address: Size, is_input: bool, swapped: tuple[int, int] | None = None) -> Call:
        """Return the call that copies the input from, or the output to, row-major memory with axes swapped."""
        buffer = self.plan.plan.buffers.get(slot)
        if buffer is None:
            raise CompileError(f"{self.plan.plan.model}: can't be compiled, its output is computed by no kernel")
        inner: Any = buffer.view(cast(Array, self.plan.arena))
        axes = list(range(len(buffer.shape)))
        if swapped is not None:
            axes[swapped[0]], axes[swapped[1]] = swapped[::-1]
        outer: Any = SizedArray(address, [buffer.shape[axis] for axis in axes], buffer.dtype)
        if swapped is not None:
            return move_view(outer.transpose(axes), outer, inner, inner)
        source, target = (outer, inner) if is_input else (inner, outer)
        if buffer.layout != "row_major" and not buffer.one_order:
            return copy_layout(source, target)
        count = buffer.nbytes // 4
        return Call(copy, tuple(SizedArray(x.address, (count,), np.dtype(np.uint32)) for x in (source, target)))

    def lay_out(self, sizes: Array) -> tuple[list[Cell], Array]:
        """Return the words that describe it, without the place of its values, and for which of the sizes it holds."""
        layout, table = self.layout, self.rows.table
        kernels, starts = [], []
        places: list[int] = []
        for call in self.calls:
            arguments = self.rows.arguments(call)
            kernels.append(layout.kernel(call.kernel, kinds_of(arguments)))
            cells = layout.cells(arguments)
            start = len(layout.unit.words)
            numbers, changing = split(cells)
            starts.append(layout.add_words(numbers))
            places += self.rows.places(changing, start)
        first, last = layout.add_table(kernels, starts)
        code = layout.add_words(table.code().tolist()).offset // 8
        at = layout.add_words(places).offset // 8
        good = np.concatenate([self._holds(sizes[i : i + _CHUNK]) for i in range(0, len(sizes), _CHUNK)])
        words: list[Cell] = [
            code, code + len(table.code()), 0, 0, at, at + len(places), first, last, self.rows.bytes_at,
        ]  # fmt: skip
        return words, good

    def _holds(self, sizes: Array) -> Array:
        """Return for which sizes the variant is valid; `arena_bytes` becomes the memory that these need."""
        good, values = self.rows.table.holds([sizes, 0, 0, 0])
        good = good & (sizes <= self.rows.table.largest_symbol())
        needed = np.where(good, values[self.rows.bytes_at], 0)
        self.arena_bytes = max(self.arena_bytes, int(needed.max(initial=0)))
        return np.asarray(good)
