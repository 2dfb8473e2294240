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
from itertools import groupby
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from tinyonnx.codegen import code_cache
from tinyonnx.codegen.kernel import BoundKernel, Kernel
from tinyonnx.ir import Array
from tinyonnx.runtime.arena import view_of
from tinyonnx.runtime.binding import KernelSegment, allocate_arena, reset_status
from tinyonnx.runtime.budget import Budget, Stoppable, owners
from tinyonnx.runtime.executor import Executable
from tinyonnx.runtime.numpy_call import NumpyCall, constants_of
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


class Variant(NamedTuple):
    """The kernel calls of a plan, and the table that computes all numbers.

    `entries` has the kernels of each step with their kinds and the index of their row in `rows`, where the constant
    numbers are filled in. `code` and `places` are those of `size_table.evaluate`. The numbers that Python needs have
    the indices `wanted` among the values: offsets and shapes of `buffers`, `contents` of shapes, numbers of items
    (`counts`, by step) and the shapes of the outputs of numpy steps (`planned`). `kept` owns the memory that the rows
    refer to.
    """

    entries: list[list[tuple[HasAddress, str, int]]]
    rows: Array
    places: Array
    code: Array
    n_values: int
    bytes_at: int
    largest: int
    wanted: Array
    buffers: list[Visible]
    contents: list[tuple[int, int, np.dtype[Any], tuple[int, ...]]]
    counts: dict[int, int]
    planned: list[list[tuple[int, int, np.dtype[Any]] | None]]
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

    def run(self, values: Values, feeds: Sequence[Any], run_options: Stoppable | None = None) -> list[Any]:
        """Run for these sizes.

        Raises Unfit if the plan doesn't hold for them, InvalidData, and the errors of `executor.execute`.
        """
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
        self.lock = threading.Lock()


class _Row(NamedTuple):
    """A kernel with its arguments, as `Program` needs it."""

    entry_address: int
    row_address: int


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
            self.kernels = [
                [_Row(kernel.address(kinds), start + 8 * at) for kernel, kinds, at in kernels]
                for kernels in variant.entries
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
        """Return the steps to execute, without those of items that a loop doesn't have.

        `numbers` are the visible ones.
        """
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
                segment.reports = plan.status is not None
                calls.append(segment)
        return calls

    def show(self, plan: Plan, arena: Array) -> None:
        """Create the arrays that numpy steps use, and run the steps that depend on sizes alone."""
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
            return  # views are never returned, so they need no protection
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

    def run(self, feeds: Sequence[Any], hook: Hook | None, budget: Budget) -> list[Any]:
        """Run; see `Executable.run`. Raises InvalidData; its cause is found by a plan for these sizes alone."""
        return self._run(feeds, hook, budget)

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
        self.calls, self.template, self.protected = loaded.calls, loaded.template, loaded.protected
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
