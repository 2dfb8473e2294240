"""Plans for every size: one set of steps, with rows of numbers that are evaluated for the current sizes.

A `SizedPlan` is a plan whose shapes are expressions, with the conditions under which it is valid. Its steps are bound
to kernels once; if a binder's decision depends on a size, the binder runs again for sizes outside the range of that
decision, and the plan keeps both bindings. A `Variant` is a choice of bindings, compiled to a table that gives every
number in the kernels' rows (`sized_execution`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from tinyonnx.codegen.arguments import cells, kinds_of
from tinyonnx.codegen.kernel import Kernel
from tinyonnx.errors import Error
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Temporary
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import Buffer, aligned
from tinyonnx.runtime.binding import step_calls
from tinyonnx.runtime.plan import Plan, Unfit
from tinyonnx.runtime.program import shares_for
from tinyonnx.runtime.size_table import SizeTable, place
from tinyonnx.runtime.sized_execution import VARIANTS_KEPT, HasAddress, PlanForSizes, Shown, Values, Variant, Visible
from tinyonnx.sizes.arrays import SizedArray, memory
from tinyonnx.sizes.expressions import EQUAL, SYMBOL, Condition, Size, SizeError, Trace
from tinyonnx.sizes.integers import is_size, maximum

_BINDINGS = 16
"""Maximum number of bindings of a step; a step that needs more depends on the sizes in too many ways."""


class EncodedCall(NamedTuple):
    """A kernel, its kinds, its row with 0 for numbers that depend on sizes, and these numbers with their indices."""

    kernel: Kernel
    kinds: str
    row: list[int]
    sizes: list[tuple[int, Size]]


class Binding(NamedTuple):
    """The kernel calls of a step, the conditions that led to them, and the memory that they reserve for themselves.

    `encoded` has the calls for this machine once a variant needs them.
    """

    conditions: list[Condition]
    calls: list[Call]
    temporaries: list[tuple[Size, Any]]
    encoded: list[EncodedCall]


class _Entry(NamedTuple):
    """A step of a plan or of a body's plan, the items that it takes, and how many items its loop has."""

    plan: Plan
    position: int
    items: slice
    batch: Any


class SizedPlan(PlanForSizes):
    """A plan whose sizes are expressions of `symbols`."""

    def __init__(self, plan: Plan, trace: Trace, symbols: Sequence[Size]) -> None:
        super().__init__()
        self.plan, self.trace, self.symbols = plan, trace, list(symbols)
        _check_attributes(plan)
        self.arena = memory(trace, "arena", plan.arena_bytes)
        self.conditions = list(trace.conditions.values())
        trace.close()
        items = {position: run.items for run in plan.runs for position in range(run.first, run.end)}
        self._order = [_Entry(plan, at, taken, items.get(at, 0)) for at, taken in plan.order]
        for body in plan.with_bodies()[1:]:
            self._order += (_Entry(body, at, taken, 0) for at, taken in body.order)
        self._bindings: list[list[Binding]] = [[] for _ in self._order]
        self._variants: OrderedDict[tuple[int, ...], Variant] = OrderedDict()
        self.variant_for(tuple(symbol.value for symbol in symbols))

    @property
    def is_pinned(self) -> bool:
        """Whether the plan is valid for one size only, although it has symbols."""
        conditions = [*self.conditions, *(c for bindings in self._bindings for b in bindings for c in b.conditions)]
        pinned = {_symbol_of(c) for c in conditions if c.kind == EQUAL}
        return bool(self.symbols) and all(symbol.terms[0][0][0] in pinned for symbol in self.symbols)

    def bindings_for(self, values: Values) -> tuple[tuple[int, ...], list[Binding]]:
        """Return the bindings for these sizes, with their indices. Raises Unfit, and the errors of binders."""
        self.trace.set_values(self.symbols, values)
        if not all(condition.holds() for condition in self.conditions):
            raise Unfit
        chosen = tuple(self._binding(position) for position in range(len(self._order)))
        return chosen, [self._bindings[i][number] for i, number in enumerate(chosen)]

    def variants_for(self, values: Values) -> list[Variant]:
        """Return the variants for these sizes. Raises Unfit."""
        return [self.variant_for(values)]

    def variant_for(self, values: Values) -> Variant:
        """Return the variant for these sizes. Raises Unfit."""
        with self.lock:
            try:
                chosen, bindings = self.bindings_for(values)
                variant = self._variants.get(chosen)
                if variant is None:
                    variant = self._variants[chosen] = variant_of(self, bindings)
            except (Error, SizeError) as error:  # planning for this size alone raises the error for the user
                raise Unfit from error
            while len(self._variants) > VARIANTS_KEPT:
                self._variants.popitem(last=False)
            self._variants.move_to_end(chosen)
            if max(values, default=0) > variant.largest:
                raise Unfit
            return variant

    def _binding(self, position: int) -> int:
        """Return the index of the step's binding that is valid for the current sizes."""
        known = self._bindings[position]
        for number, binding in enumerate(known):
            if all(condition.holds() for condition in binding.conditions):
                return number
        if len(known) >= _BINDINGS:
            raise Unfit
        entry = self._order[position]
        first = len(self.trace.temporaries)
        with self.trace.recording() as conditions:
            step = entry.plan.steps[entry.position]
            calls = step_calls(entry.plan, step, cast(Array, self.arena), entry.items, entry.batch)
            owners: dict[int, tuple[Any, Size]] = {}
            calls = [call._replace(args=_in_arena(call.args, self.trace, owners)) for call in calls]
        known.append(Binding(list(conditions.values()), calls, self.trace.temporaries[first:], []))
        return len(known) - 1


class ArgumentRows:
    """The rows of kernel calls, with the table that gives the numbers that depend on sizes.

    Args:
        sized: the plan.
        bindings: one for each of its steps.
        inputs: the first values after the outcome: addresses and symbols.
        shares: number of shares of each kernel's work.
    """

    def __init__(self, sized: SizedPlan, bindings: Sequence[Binding], inputs: Sequence[Size], shares: int) -> None:
        plan, trace = sized.plan, sized.trace
        arena, self._shares = sized.arena.address, shares
        self._scratch = trace.address("scratch")
        wanted = maximum(0, *(call.scratch for binding in bindings for call in binding.calls))
        free = aligned(plan.arena_bytes)
        defined: list[tuple[Size, Any]] = [(self._scratch, arena + free)]
        free = end = free + aligned(wanted * shares * 4)
        for binding in bindings:
            at = free
            for address, nbytes in binding.temporaries:
                defined.append((address, arena + at))
                at = at + aligned(nbytes)
            end = maximum(end, at)
        self.table = SizeTable(trace, inputs, defined)
        self.table.check(sized.conditions)
        for binding in bindings:
            self.table.check(binding.conditions)
        self.bytes_at = self.table.slot(end)

    def arguments(self, call: Call) -> tuple[Any, ...]:
        """Return the arguments of a call, scratch included."""
        if not is_size(call.scratch) and not call.scratch:
            return call.args
        floats = call.scratch * self._shares
        return *call.args, SizedArray(self._scratch, (floats,), np.dtype(np.float32))

    def places(self, sizes: Iterable[tuple[int, Size]], at: int) -> list[int]:
        """Return `place` words for the sizes in a row that begins at index `at`."""
        return [place(at + i, self.table.slot(size)) for i, size in sizes]


def split(row: Sequence[Any]) -> tuple[list[Any], list[tuple[int, Size]]]:
    """Return a row with 0 for numbers that depend on sizes, and these numbers with their indices."""
    sizes = [(i, number) for i, number in enumerate(row) if isinstance(number, Size)]
    numbers = list(row)
    for i, _ in sizes:
        numbers[i] = 0
    return numbers, sizes


def variant_of(sized: SizedPlan, bindings: Sequence[Binding]) -> Variant:
    """Compile a choice of bindings. Raises SizeError."""
    rows = ArgumentRows(sized, bindings, [*sized.symbols, sized.arena.address], shares_for(sized.plan.threads))
    entries: list[list[tuple[HasAddress, str, int]]] = []
    row: list[int] = []
    places: list[int] = []
    for binding in bindings:
        if not binding.encoded:
            for call in binding.calls:
                arguments = rows.arguments(call)
                kinds = kinds_of(arguments)
                binding.encoded.append(EncodedCall(call.kernel, kinds, *split(cells(arguments))))
        kernels: list[tuple[HasAddress, str, int]] = []
        for kernel, kinds, numbers, sizes in binding.encoded:
            kernels.append((kernel, kinds, len(row)))
            places += rows.places(sizes, len(row))
            row += numbers
        entries.append(kernels)
    table, wanted = rows.table, _Wanted(rows.table)
    counts = wanted.counts(sized.plan)
    shown = [wanted.shown(plan) for plan in sized.plan.with_bodies()]
    return Variant(
        entries=entries,
        rows=np.array(row, np.int64),
        places=np.array(places, np.int64),
        code=table.code(),
        n_values=table.count,
        bytes_at=rows.bytes_at,
        largest=table.largest_symbol(),
        wanted=np.array(wanted.slots, np.int64),
        counts=counts,
        shown=shown,
        kept=[call.args for binding in bindings for call in binding.calls],
    )


class _Wanted:
    """Collects the numbers that Python needs; `slots` are their indices among the values of a table."""

    def __init__(self, table: SizeTable) -> None:
        self.slots: list[int] = []
        self._table = table

    def shown(self, plan: Plan) -> Shown:
        """Return all that Python reads or writes of a plan, or of a body's."""
        results: list[Visible | Array] | None = None
        if plan.results is not None:
            results = [
                self._visible(-1, x) if isinstance(x, Buffer) else np.asarray(x, order="C") for x in plan.results
            ]
        size = self._add(plan.arena_bytes)
        return Shown(self._buffers(plan), self._contents(plan), self._planned(plan), results, size)

    def _visible(self, slot: int, buffer: Buffer) -> Visible:
        at = self._add(buffer.root.offset, *buffer.shape)
        return Visible(slot, at, len(buffer.shape), buffer.dtype, buffer.layout)

    def _buffers(self, plan: Plan) -> list[Visible]:
        """Return the buffers of inputs, outputs and numpy steps, with offset and shape."""
        numpy_slots = {slot for step in plan.numpy_steps for slot in (*step.inputs, *step.outputs)}
        numpy_slots.update(slot for step in plan.numpy_steps for slot in plan.captured(step))
        wanted = sorted({*plan.inputs, *plan.outputs, *numpy_slots} & set(plan.buffers))
        return [self._visible(slot, plan.buffers[slot]) for slot in wanted]

    def _contents(self, plan: Plan) -> list[tuple[int, int, np.dtype[Any], tuple[int, ...]]]:
        """Return the slots whose content follows from sizes: slot, index of the first number, dtype, shape."""
        found = []
        for slot, value in plan.sizes.items():
            assert value.sizes is not None
            assert value.dtype is not None
            found.append((slot, self._add(*value.sizes.flat), value.dtype, value.sizes.shape))
        return found

    def counts(self, plan: Plan) -> dict[int, int]:
        """Return the number of items of each step in a loop over items whose number is an expression."""
        found: dict[int, int] = {}
        for run in plan.runs:
            if is_size(run.items):
                found.update(dict.fromkeys(range(run.first, run.end), self._add(run.items)))
        return found

    def _planned(self, plan: Plan) -> list[list[tuple[int, int, np.dtype[Any]] | None]]:
        """Return the known shapes of the outputs of each numpy step: first index, rank, dtype."""
        found = []
        for step in plan.numpy_steps:
            shapes: list[tuple[int, int, np.dtype[Any]] | None] = []
            for output in step.node.outputs:
                shape = None if output is None else output.static_shape
                if shape is None or output is None or output.dtype is None:
                    shapes.append(None)
                else:
                    shapes.append((self._add(*shape), len(shape), output.dtype))
            found.append(shapes)
        return found

    def _add(self, *sizes: Any) -> int:
        self.slots += map(self._table.slot, sizes)
        return len(self.slots) - len(sizes)


def _in_arena(argument: Any, trace: Trace, owners: dict[int, tuple[Any, Size]]) -> Any:
    """Replace temporary arrays in an argument by temporary memory of the arena.

    Executables share the arguments of a binding, but not the arena, because runs may overlap. `owners` has the arrays
    that own memory, by id, with the address that replaces theirs.
    """
    if isinstance(argument, Temporary):
        owner: Any = argument
        while isinstance(owner.base, np.ndarray):  # a view of a view may have either as its base
            owner = owner.base
        if id(owner) not in owners:
            owners[id(owner)] = owner, trace.temporary(owner.nbytes)
        offset = argument.ctypes.data - owner.ctypes.data
        return SizedArray(owners[id(owner)][1] + offset, argument.shape, argument.dtype)
    if isinstance(argument, tuple):
        items = [_in_arena(item, trace, owners) for item in argument]
        return argument._make(items) if hasattr(argument, "_make") else tuple(items)
    return argument


def _symbol_of(condition: Condition) -> int | None:
    """Return the index of the symbol whose value a condition fixes; None if it fixes none."""
    terms = [(monomial, factor) for monomial, factor in condition.size.terms if monomial]
    if len(terms) != 1 or len(terms[0][0]) != 1:
        return None
    number = terms[0][0][0]
    return number if condition.size.trace.atoms[number].kind == SYMBOL else None


def _check_attributes(plan: Plan) -> None:
    """Raise SizeError if an attribute of a numpy step is a size, because numpy would use one value for all runs."""
    for step in plan.numpy_steps:
        for value in step.node.attributes.values():
            if any(is_size(n) for n in (value if isinstance(value, list | tuple) else [value])):
                raise SizeError(f"an attribute of {step.node.label} depends on sizes")
        for subplan in step.subplans.values():
            _check_attributes(subplan)
