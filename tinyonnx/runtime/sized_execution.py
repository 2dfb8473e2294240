"""Run plans for every size: the numbers of a plan are evaluated for the current sizes.

A `Variant` has the kernel calls of a plan and the table that gives every number in their rows. An executable follows
the sizes of its feeds: if they differ from those of the last run it evaluates the table, which takes microseconds, and
enlarges its arena if necessary.
"""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from tinyonnx.codegen import code_cache
from tinyonnx.codegen.kernel import BoundKernel, Kernel
from tinyonnx.ir import Array
from tinyonnx.runtime.arena import view_of
from tinyonnx.runtime.binding import KernelSegment, allocate_arena, reset_status
from tinyonnx.runtime.budget import Budget, owners
from tinyonnx.runtime.executor import Executable, Use
from tinyonnx.runtime.numpy_call import Body, NumpyCall, constants_of
from tinyonnx.runtime.plan import NumpyStep, Plan, Unfit
from tinyonnx.runtime.size_table import evaluate
from tinyonnx.runtime.trace import Hook

VARIANTS_KEPT = 32
"""Maximum number of variants that a plan, and each of its executables, keeps."""

_GROWTH = 1.25
"""Factor by which an arena that grows again exceeds the size needed, so that slowly rising sizes rarely reallocate it.
"""

Values = tuple[int, ...]
"""The values of a plan's symbols."""


class HasAddress(Protocol):
    """A kernel, as far as a run needs it."""

    def address(self, kinds: str) -> int:
        """Return the address of the machine code for arguments of these kinds."""


class Visible(NamedTuple):
    """A buffer that Python reads or writes: the index of its offset in the table of visible numbers.

    Its shape follows.
    """

    slot: int
    at: int
    rank: int
    dtype: np.dtype[Any]
    layout: str

    def view(self, arena: Array, numbers: list[int]) -> Array:
        """Return the array, given the visible numbers."""
        at = self.at + 1
        return view_of(arena, numbers[self.at], numbers[at : at + self.rank], self.dtype, self.layout)


class Shown(NamedTuple):
    """The values that Python reads or writes of a plan or a body's plan; numbers are indices among the visible ones.

    `contents` of shapes are slot, first index, dtype and shape; `planned` the shapes of the outputs of numpy steps, as
    far as they are known: first index, rank, dtype. `results` are a body's, as in its plan, `nbytes` its arena's size.
    """

    buffers: list[Visible]
    contents: list[tuple[int, int, np.dtype[Any], tuple[int, ...]]]
    planned: list[list[tuple[int, int, np.dtype[Any]] | None]]
    results: list[Visible | Array] | None
    nbytes: int


class Variant(NamedTuple):
    """The kernel calls of a plan, and the table that computes all numbers.

    `entries` has the kernels of each step, those of bodies after all others, with their kinds and the index of their
    row in `rows`, where the constant numbers are filled in. `code` and `places` are those of `size_table.evaluate`. The
    numbers that Python needs have the indices `wanted` among the values: numbers of items (`counts`, by step) and all
    that is `shown` of the plan and of its bodies. `kept` owns the memory that the rows refer to.
    """

    entries: list[list[tuple[HasAddress, str, int]]]
    rows: Array
    places: Array
    code: Array
    n_values: int
    bytes_at: int
    largest: int
    wanted: Array
    counts: dict[int, int]
    shown: list[Shown]
    kept: Any


class PlanForSizes:
    """A plan that is valid for many sizes; it keeps executables that are not running."""

    plan: Plan

    def __init__(self) -> None:
        self.idle: list[SizedExecutable] = []
        self.lock = threading.Lock()

    @abstractmethod
    def variants_for(self, values: Values) -> Iterable[Variant]:
        """Return the variants that may be valid for these sizes. Raises Unfit."""

    def run(self, values: Values, feeds: Sequence[Any], budget: Budget, use: Use | None = None) -> list[Any]:
        """Run for these sizes; see `executor.execute`.

        Raises Unfit if the plan doesn't hold for them, InvalidData, and the errors of `executor.execute`.
        """
        try:
            executable = self.idle.pop()  # atomic
        except IndexError:
            executable = SizedExecutable(self)
        executable.resize(values)
        results = executable.run(feeds, None, budget, use)
        self.idle.append(executable)
        return results

    def unlock(self) -> None:
        """Replace locks in a forked child, where the thread that held one does not exist."""
        self.lock = threading.Lock()


class _Row(NamedTuple):
    """A kernel with its arguments, as `Program` needs it."""

    entry_address: int
    row_address: int


class _Part:
    """The steps of a plan, or of a body's plan, in a variant."""

    def __init__(self, plan: Plan, kernels: list[list[_Row]], numpy_calls: list[NumpyCall]) -> None:
        self.plan, self.kernels, self.numpy_calls = plan, kernels, numpy_calls
        self.calls: list[NumpyCall | KernelSegment] = []
        self.template: list[Any] = [None] * plan.n_slots
        for slot, array in plan.constants.items():
            self.template[slot] = array
        self.body: Body | None = None

    def bound(self, arena: Array, kept: list[Any], numbers: list[int], counts: dict[int, int]) -> None:
        """Set the steps to execute, without those of items that a loop doesn't have; `counts` is `Variant.counts`."""
        plan = self.plan
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
                segment = KernelSegment(cast(Any, list(run)), arena, plan.threads)
                segment.program.kept = kept
                segment.reports = plan.status is not None
                calls.append(segment)
        self.calls = calls

    def show(self, shown: Shown, numbers: list[int], arena: Array) -> None:
        """Make the arrays that numpy steps use."""
        for visible in shown.buffers:
            self.template[visible.slot] = visible.view(arena, numbers)
        for slot, at, dtype, shape in shown.contents:
            self.template[slot] = np.array(numbers[at : at + math.prod(shape)], dtype).reshape(shape)
        for call, shapes in zip(self.numpy_calls, shown.planned, strict=True):
            call.expect([s if s is None else (s[2], tuple(numbers[s[0] : s[0] + s[1]])) for s in shapes])
        if self.body is not None:
            results = shown.results
            if results is not None:
                results = [x.view(arena, numbers) if isinstance(x, Visible) else x for x in results]
            self.body.place(self.template, cast(Any, results), numbers[shown.nbytes])


class _Loaded:
    """A variant in memory that belongs to one executable."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.rows, self.values = variant.rows.copy(), np.zeros(variant.n_values, np.int64)
        self.evaluation = BoundKernel(evaluate, (variant.code, self.values, variant.places, self.rows))

    def evaluate(self, values: Values, address: int) -> bool:
        """Compute all numbers for these sizes; return whether the variant is valid for them."""
        if max(values, default=0) > self.variant.largest:
            return False
        self.values[1 : len(values) + 2] = *values, address
        self.evaluation.run(0, 1)
        return bool(self.values[0])

    def prepare(self, plan: Plan) -> None:
        """Create the objects that runs need. Raises Unfit if a kernel is missing."""
        variant = self.variant
        self.kept: list[Any] = [self.rows, variant.kept, None]
        start = self.rows.ctypes.data
        calls = [call for entry in variant.entries for call in entry]
        with code_cache.expecting(lambda: [(k, kinds) for k, kinds, _ in calls if isinstance(k, Kernel)]):
            kernels = iter(
                [
                    [_Row(kernel.address(kinds), start + 8 * at) for kernel, kinds, at in entry]
                    for entry in variant.entries
                ]
            )
        self.arena: Array = np.empty(0, np.uint8)
        plans = plan.with_bodies()
        rows = [list(islice(kernels, len(each.order))) for each in plans]
        outer = {id(body): each for each in plans for step in each.numpy_steps for body in step.subplans.values()}
        bodies: dict[int, Body] = {}
        self.parts: list[_Part] = []
        for each, own in zip(reversed(plans), reversed(rows)):  # bodies before the steps that run them
            numpy_calls = [
                NumpyCall(each, step, self.arena, {key: bodies[id(body)] for key, body in step.subplans.items()})
                for step in each.numpy_steps
            ]
            part = _Part(each, own, numpy_calls)
            if each is not plan:
                part.bound(self.arena, self.kept, [], {})
                part.body = bodies[id(each)] = Body(outer[id(each)], each, part.calls)
            self.parts.insert(0, part)
        self.items: list[int] = []
        self.main = self.parts[0]
        self.main.bound(self.arena, self.kept, [0] * len(variant.wanted), variant.counts)
        self.by_sizes = [call for call in self.main.numpy_calls if call.step.by_sizes]
        self.protected = set(map(id, constants_of(plan)))

    def show(self, plan: Plan, arena: Array) -> None:
        """Make the arrays that numpy steps use, and run the steps that depend on sizes alone."""
        variant, main = self.variant, self.main
        numbers = self.values[variant.wanted].tolist()
        items = [numbers[at] for at in variant.counts.values()]
        if items != self.items:
            self.items = items
            main.bound(arena, self.kept, numbers, variant.counts)
        if arena is not self.arena:
            self.arena = self.kept[2] = arena
            for part in self.parts:
                for call in part.calls:
                    if isinstance(call, KernelSegment):
                        call.move(arena)
                for numpy_call in part.numpy_calls:
                    numpy_call.arena = arena
        for part, shown in zip(self.parts, variant.shown, strict=True):
            part.show(shown, numbers, arena)
        if not main.numpy_calls and not variant.shown[0].contents:
            return  # views are never returned, so they need no protection
        budget = Budget(plan.limits)
        for numpy_call in self.by_sizes:
            numpy_call.run(main.template, budget)
        for part in self.parts:
            for numpy_call in part.numpy_calls:
                numpy_call.compile_loop()
        values = (value for part in self.parts for value in part.template if value is not None)
        self.protected = {*map(id, constants_of(plan)), *map(id, values)}

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the variant needs."""
        return int(self.values[self.variant.bytes_at])


class SizedExecutable(Executable):
    """A sized plan bound to an arena of its own."""

    def __init__(self, sized: PlanForSizes) -> None:
        self.sized, self.plan = sized, sized.plan
        self.sizes: Values | None = None
        self.arena, self.address = np.empty(0, np.uint8), 0
        self.known: list[_Loaded] = []
        self.calls = []
        self.template = []
        self.protected, self.constants = set(), owners(constants_of(self.plan))

    def run(self, feeds: Sequence[Any], hook: Hook | None, budget: Budget, use: Use | None = None) -> list[Any]:
        """Run; see `Executable.run`. Raises InvalidData; its cause is found by a plan for these sizes alone."""
        return self._run(feeds, hook, budget, use)

    def resize(self, values: Values) -> None:
        """Prepare for runs of these sizes. Raises Unfit, and the errors of steps that depend on sizes alone."""
        if values == self.sizes:
            return
        self.sizes = None
        loaded = self._load(values)
        nbytes = loaded.nbytes
        if nbytes > len(self.arena):
            self._grow(nbytes)
            loaded.evaluate(values, self.address)
        loaded.show(self.plan, self.arena)
        self.calls, self.template, self.protected = loaded.main.calls, loaded.main.template, loaded.protected
        self.sizes = values

    def _grow(self, nbytes: int) -> None:
        grown = min(int(nbytes * _GROWTH), self.plan.limits.max_run_bytes) if len(self.arena) else nbytes
        self.arena = allocate_arena(self.plan, max(nbytes, grown))
        reset_status(self.plan, self.arena)
        self.address = self.arena.ctypes.data

    def _load(self, values: Values) -> _Loaded:
        """Return the evaluated variant for these sizes; it is tried first next time. Raises Unfit."""
        for position, known in enumerate(self.known):
            if known.evaluate(values, self.address):
                if position:
                    self.known.insert(0, self.known.pop(position))
                return known
        for variant in self.sized.variants_for(values):
            if any(known.variant is variant for known in self.known):
                continue
            loaded = _Loaded(variant)
            if loaded.evaluate(values, self.address):
                loaded.prepare(self.plan)
                self.known.insert(0, loaded)
                del self.known[VARIANTS_KEPT:]
                return loaded
        raise Unfit
