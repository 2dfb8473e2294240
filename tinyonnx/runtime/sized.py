"""Plans for every size: one set of steps, rows of numbers that are evaluated for the sizes at hand.

A `SizedPlan` is a plan whose shapes are expressions, with the conditions under which it holds. Its steps are
bound to kernels once; where a binder's decision depends on a size, it runs again for sizes outside the range of
that decision, and the plan keeps both bindings. A `Variant` is a choice of bindings, compiled to a table that gives
every number in the kernels' rows. An executable follows the sizes of its feeds: for others than those of the
last run it evaluates the table, which takes microseconds, and lets its arena grow where it has to.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import numpy as np

from tinyonnx.codegen.arguments import cells, kinds_of
from tinyonnx.codegen.kernel import BoundKernel, Kernel
from tinyonnx.errors import Error
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Temporary
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import aligned, view_of
from tinyonnx.runtime.binding import KernelSegment, allocate_arena, step_calls
from tinyonnx.runtime.budget import Budget, Stoppable, owners
from tinyonnx.runtime.executor import Executable
from tinyonnx.runtime.numpy_call import NumpyCall, constants_of
from tinyonnx.runtime.plan import NumpyStep, Plan, Unfit
from tinyonnx.runtime.program import shares_for
from tinyonnx.runtime.size_table import SizeTable, evaluate, place
from tinyonnx.sizes.arrays import SizedArray, memory
from tinyonnx.sizes.expressions import EQUAL, SYMBOL, Condition, Size, SizeError, Trace
from tinyonnx.sizes.integers import is_size, maximum

_BINDINGS = 16
"""Bindings of a step that are kept: a step that needs more depends on the sizes in too many ways."""

_VARIANTS = 32
"""Choices of bindings that are kept."""

_GROWTH = 1.25
"""Factor by which an arena that grows again exceeds the size needed, so that slowly rising sizes rarely move it."""

Values = tuple[int, ...]
"""The values of a plan's symbols."""


class EncodedCall(NamedTuple):
    """A kernel, its kinds, its row with 0 for numbers that depend on sizes, and these with their indices."""

    kernel: Kernel
    kinds: str
    row: list[int]
    sizes: list[tuple[int, Size]]


class Binding(NamedTuple):
    """The kernel calls of a step, the conditions that led to them, and the memory that they use for themselves.

    `encoded` has the calls for this machine as soon as a variant needs them.
    """

    conditions: list[Condition]
    calls: list[Call]
    temporaries: list[tuple[Size, Any]]
    encoded: list[EncodedCall]


class Row(NamedTuple):
    """A kernel with its arguments, as `Program` needs it."""

    entry_address: int
    row_address: int


class Visible(NamedTuple):
    """A buffer that numpy steps use: index of its offset in the table of visible numbers; its shape follows."""

    slot: int
    at: int
    rank: int
    dtype: np.dtype[Any]
    layout: str


class SizedPlan:
    """A plan whose sizes are expressions of `symbols`."""

    def __init__(self, plan: Plan, trace: Trace, symbols: Sequence[Size]) -> None:
        self.plan, self.trace, self.symbols = plan, trace, list(symbols)
        _check_attributes(plan)
        self.arena = memory(trace, "arena", plan.arena_bytes)
        self.conditions = list(trace.conditions.values())
        trace.close()
        self.idle: list[SizedExecutable] = []
        self._order = plan.order
        self._items = {position: run.items for run in plan.runs for position in range(run.first, run.end)}
        self._bindings: list[list[Binding]] = [[] for _ in self._order]
        self._variants: OrderedDict[tuple[int, ...], Variant] = OrderedDict()
        self._lock = threading.Lock()
        self.variant_for(tuple(symbol.value for symbol in symbols))

    @property
    def is_pinned(self) -> bool:
        """Whether it holds for one size alone."""
        conditions = [*self.conditions, *(c for bindings in self._bindings for b in bindings for c in b.conditions)]
        pinned = {_symbol_of(c) for c in conditions if c.kind == EQUAL}
        return all(symbol.terms[0][0][0] in pinned for symbol in self.symbols)

    def run(self, feeds: Sequence[Any], values: Values, run_options: Stoppable | None = None) -> list[Any]:
        """Run for these sizes. Raises Unfit if the plan doesn't hold for them, and the errors of `executor.execute`."""
        try:
            executable = self.idle.pop()  # atomic
        except IndexError:
            executable = SizedExecutable(self)
        executable.resize(values)
        results = executable.run(feeds, None, Budget(self.plan.limits, run_options))
        self.idle.append(executable)
        return results

    def unlock(self) -> None:
        """Replace locks in a forked child, where the thread that held one does not exist."""
        self._lock = threading.Lock()

    def bindings_for(self, values: Values) -> tuple[tuple[int, ...], list[Binding]]:
        """The bindings for these sizes, with their numbers. Raises Unfit, and the errors of binders."""
        self.trace.set_values(self.symbols, values)
        if not all(condition.holds() for condition in self.conditions):
            raise Unfit
        chosen = tuple(self._binding(position) for position in range(len(self._order)))
        return chosen, [self._bindings[i][number] for i, number in enumerate(chosen)]

    def variant_for(self, values: Values) -> Variant:
        """The variant for these sizes. Raises Unfit."""
        with self._lock:
            try:
                chosen, bindings = self.bindings_for(values)
                variant = self._variants.get(chosen)
                if variant is None:
                    variant = self._variants[chosen] = Variant(self, bindings)
            except (Error, SizeError) as error:  # planning for this size alone raises the error for the user
                raise Unfit from error
            while len(self._variants) > _VARIANTS:
                self._variants.popitem(last=False)
            self._variants.move_to_end(chosen)
            if max(values) > variant.largest:
                raise Unfit
            return variant

    def _binding(self, position: int) -> int:
        """The number of the step's binding that holds for the sizes at hand."""
        known = self._bindings[position]
        for number, binding in enumerate(known):
            if all(condition.holds() for condition in binding.conditions):
                return number
        if len(known) >= _BINDINGS:
            raise Unfit
        at, items = self._order[position]
        first = len(self.trace.temporaries)
        with self.trace.recording() as conditions:
            calls = step_calls(self.plan, self.plan.steps[at], cast(Array, self.arena), items, self._items.get(at, 0))
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
        """The arguments of a call, scratch included."""
        if not is_size(call.scratch) and not call.scratch:
            return call.args
        floats = call.scratch * self._shares
        return *call.args, SizedArray(self._scratch, (floats,), np.dtype(np.float32))

    def places(self, sizes: Iterable[tuple[int, Size]], at: int) -> list[int]:
        """Return `place` words for the sizes in a row that begins at index `at`."""
        return [place(at + i, self.table.slot(size)) for i, size in sizes]


def split(row: Sequence[Any]) -> tuple[list[Any], list[tuple[int, Size]]]:
    """Return a row with 0 for numbers that depend on sizes, and these with their indices."""
    sizes = [(i, number) for i, number in enumerate(row) if isinstance(number, Size)]
    numbers = list(row)
    for i, _ in sizes:
        numbers[i] = 0
    return numbers, sizes


class Variant:
    """A compiled choice of bindings: the table that computes all numbers, and rows with the constant ones filled in."""

    def __init__(self, sized: SizedPlan, bindings: Sequence[Binding]) -> None:
        rows = ArgumentRows(sized, bindings, [*sized.symbols, sized.arena.address], shares_for(sized.plan.threads))
        self.entries: list[list[tuple[Kernel, str, int]]] = []
        self.kept = [call.args for binding in bindings for call in binding.calls]
        row: list[int] = []
        places: list[int] = []
        for binding in bindings:
            if not binding.encoded:
                for call in binding.calls:
                    arguments = rows.arguments(call)
                    kinds = kinds_of(arguments)
                    binding.encoded.append(EncodedCall(call.kernel, kinds, *split(cells(arguments))))
            kernels = []
            for kernel, kinds, numbers, sizes in binding.encoded:
                kernels.append((kernel, kinds, len(row)))
                places += rows.places(sizes, len(row))
                row += numbers
            self.entries.append(kernels)
        self._see(sized, rows.table)
        self.rows, self.places, self.code = (np.array(x, np.int64) for x in (row, places, rows.table.code()))
        self.n_values, self.bytes_at = rows.table.count, rows.bytes_at
        self.largest = rows.table.largest_symbol()

    def _see(self, sized: SizedPlan, table: SizeTable) -> None:
        """The numbers that Python needs: places and shapes of buffers, contents of shapes."""
        plan = sized.plan
        numpy_slots = {slot for step in plan.numpy_steps for slot in (*step.inputs, *step.outputs)}
        numpy_slots.update(slot for step in plan.numpy_steps for slot in plan.captured(step))
        wanted: list[int] = []
        self.buffers: list[Visible] = []
        for slot in sorted({*plan.inputs, *plan.outputs, *numpy_slots} & set(plan.buffers)):
            buffer = plan.buffers[slot]
            self.buffers.append(Visible(slot, len(wanted), len(buffer.shape), buffer.dtype, buffer.layout))
            wanted += map(table.slot, (buffer.root.offset, *buffer.shape))
        self.contents: list[tuple[int, int, np.dtype[Any], tuple[int, ...]]] = []
        for slot, value in plan.sizes.items():
            assert value.sizes is not None
            assert value.dtype is not None
            self.contents.append((slot, len(wanted), value.dtype, value.sizes.shape))
            wanted += map(table.slot, value.sizes.flat)
        self.counts: dict[int, int] = {}
        for run in plan.runs:
            if is_size(run.items):
                self.counts.update(dict.fromkeys(range(run.first, run.end), len(wanted)))
                wanted.append(table.slot(run.items))
        self.planned: list[list[tuple[int, int, np.dtype[Any]] | None]] = []
        for step in plan.numpy_steps:
            shapes: list[tuple[int, int, np.dtype[Any]] | None] = []
            for output in step.node.outputs:
                shape = None if output is None else output.static_shape
                if shape is None or output is None or output.dtype is None:
                    shapes.append(None)
                    continue
                shapes.append((len(wanted), len(shape), output.dtype))
                wanted += map(table.slot, shape)
            self.planned.append(shapes)
        self.wanted = np.array(wanted, np.int64)


class _Loaded:
    """A variant in memory of an executable's own."""

    def __init__(self, variant: Variant, sized: SizedPlan) -> None:
        plan = sized.plan
        self.variant = variant
        self.rows, self.values = variant.rows.copy(), np.zeros(variant.n_values, np.int64)
        self.evaluation = BoundKernel(evaluate, (variant.code, self.values, variant.places, self.rows))
        self.kept: list[Any] = [self.rows, variant.kept, None]
        start = self.rows.ctypes.data
        self.kernels = [
            [Row(kernel.address(kinds), start + 8 * at) for kernel, kinds, at in kernels] for kernels in variant.entries
        ]
        self.arena: Array = np.empty(0, np.uint8)
        self.numpy_calls = [NumpyCall(plan, step, self.arena) for step in plan.numpy_steps]
        self.items: list[int] = []
        self.calls = self._calls(plan, [0] * len(variant.wanted))
        self.by_sizes = [call for call in self.numpy_calls if call.step.by_sizes]
        self.template: list[Any] = [None] * plan.n_slots
        for slot, array in plan.constants.items():
            self.template[slot] = array
        self.protected = set(map(id, constants_of(plan)))

    def _calls(self, plan: Plan, numbers: list[int]) -> list[NumpyCall | KernelSegment]:
        """The steps to execute, without those of items that a loop doesn't have; `numbers` are the visible ones."""
        counts = self.variant.counts
        steps = [
            (plan.steps[at], kernels)
            for (at, items), kernels in zip(plan.order, self.kernels)
            if at not in counts or items.start < numbers[counts[at]]
        ]
        numpy_calls = {id(call.step): call for call in self.numpy_calls}
        calls: list[NumpyCall | KernelSegment] = []
        for is_numpy, run in groupby(steps, lambda pair: isinstance(pair[0], NumpyStep)):
            if is_numpy:
                found = [numpy_calls[id(step)] for step, _ in run]
                calls += (call for call in found if not call.step.by_sizes)
            else:
                segment = KernelSegment(cast(Any, list(run)), self.arena, plan.threads)
                segment.program.kept = self.kept
                calls.append(segment)
        return calls

    def evaluate(self, values: Values, address: int) -> bool:
        """Compute all numbers for these sizes; whether the variant holds for them."""
        if max(values) > self.variant.largest:
            return False
        self.values[1 : len(values) + 2] = *values, address
        self.evaluation.run(0, 1)
        return bool(self.values[0])

    def show(self, plan: Plan, arena: Array) -> None:
        """Make the arrays that numpy steps use, and run the steps that depend on sizes alone."""
        variant, template = self.variant, self.template
        if arena is not self.arena:
            self.arena = self.kept[2] = arena
            for call in (*self.calls, *self.numpy_calls):
                call.arena = arena
        numbers = self.values[variant.wanted].tolist()
        items = [numbers[at] for at in variant.counts.values()]
        if items != self.items:
            self.items, self.calls = items, self._calls(plan, numbers)
        for slot, at, rank, dtype, layout in variant.buffers:
            template[slot] = view_of(arena, numbers[at], numbers[at + 1 : at + 1 + rank], dtype, layout)
        if not self.numpy_calls and not variant.contents:
            return  # views are never returned, so that they need no protection
        for slot, at, dtype, shape in variant.contents:
            template[slot] = np.array(numbers[at : at + math.prod(shape)], dtype).reshape(shape)
        for call, shapes in zip(self.numpy_calls, variant.planned, strict=True):
            call.expect([s if s is None else (s[2], tuple(numbers[s[0] : s[0] + s[1]])) for s in shapes])
        budget = Budget(plan.limits)
        for call in self.by_sizes:
            call.run(template, budget)
        self.protected = {*map(id, constants_of(plan)), *(id(value) for value in template if value is not None)}

    @property
    def nbytes(self) -> int:
        """The memory that is needed."""
        return int(self.values[self.variant.bytes_at])


class SizedExecutable(Executable):
    """A sized plan bound to an arena of its own."""

    def __init__(self, sized: SizedPlan) -> None:
        self.sized, self.plan = sized, sized.plan
        self.sizes: Values = ()
        self.arena, self.address = np.empty(0, np.uint8), 0
        self.known: list[_Loaded] = []
        self.calls = []
        self.template = []
        self.protected, self.constants = set(), owners(constants_of(self.plan))

    def resize(self, values: Values) -> None:
        """Prepare for runs of these sizes. Raises Unfit, and the errors of steps that depend on sizes alone."""
        if values == self.sizes:
            return
        self.sizes = ()
        loaded = self._load(values)
        nbytes = loaded.nbytes
        if nbytes > len(self.arena):
            self._grow(nbytes)
            loaded.evaluate(values, self.address)
        loaded.show(self.plan, self.arena)
        self.calls, self.template, self.protected = loaded.calls, loaded.template, loaded.protected
        self.sizes = values

    def _grow(self, nbytes: int) -> None:
        grown = min(int(nbytes * _GROWTH), self.plan.limits.max_run_bytes) if len(self.arena) else nbytes
        self.arena = allocate_arena(self.plan, max(nbytes, grown))
        self.address = self.arena.ctypes.data

    def _load(self, values: Values) -> _Loaded:
        """Return the variant for these sizes, evaluated, and let it be tried first next time. Raises Unfit."""
        for position, known in enumerate(self.known):
            if known.evaluate(values, self.address):
                if position:
                    self.known.insert(0, self.known.pop(position))
                return known
        variant = self.sized.variant_for(values)
        if any(known.variant is variant for known in self.known):
            raise Unfit
        loaded = _Loaded(variant, self.sized)
        if not loaded.evaluate(values, self.address):
            raise Unfit
        self.known.insert(0, loaded)
        del self.known[_VARIANTS:]
        return loaded


def _in_arena(argument: Any, trace: Trace, owners: dict[int, tuple[Any, Size]]) -> Any:
    """Replace temporary arrays in an argument by temporary memory of the arena.

    Executables share the arguments of a binding, but not the arena: runs may overlap. `owners` has the arrays that
    own memory, by id, with the address that takes their place.
    """
    if isinstance(argument, Temporary):
        owner = argument if argument.base is None else argument.base
        if id(owner) not in owners:
            owners[id(owner)] = owner, trace.temporary(owner.nbytes)
        offset = argument.ctypes.data - owner.ctypes.data
        return SizedArray(owners[id(owner)][1] + offset, argument.shape, argument.dtype)
    if isinstance(argument, tuple):
        items = [_in_arena(item, trace, owners) for item in argument]
        return argument._make(items) if hasattr(argument, "_make") else tuple(items)
    return argument


def _symbol_of(condition: Condition) -> int | None:
    """The number of the symbol whose value a condition fixes; None if it fixes none."""
    terms = [(monomial, factor) for monomial, factor in condition.size.terms if monomial]
    if len(terms) != 1 or len(terms[0][0]) != 1:
        return None
    number = terms[0][0][0]
    return number if condition.size.trace.atoms[number].kind == SYMBOL else None


def _check_attributes(plan: Plan) -> None:
    """Raise SizeError if an attribute of a numpy step is a size: numpy would take the value of one run for all."""
    for step in plan.numpy_steps:
        for value in step.node.attributes.values():
            if any(is_size(n) for n in (value if isinstance(value, list | tuple) else [value])):
                raise SizeError(f"an attribute of {step.node.label} depends on sizes")
        for subplan in step.subplans.values():
            _check_attributes(subplan)
