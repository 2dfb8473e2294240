"""Run a plan: kernels as programs, everything else by numpy."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tinyonnx.errors import OpError, ResourceError
from tinyonnx.ir import Array, Graph, Node
from tinyonnx.limits import HOW_TO_RAISE_IT, MAX_RANK
from tinyonnx.registry import Call, Info
from tinyonnx.runtime.arena import Buffer, allocate
from tinyonnx.runtime.budget import Budget, RunBytesError, Stoppable, owners
from tinyonnx.runtime.operator_call import (
    VIEWS,
    OpContext,
    check_sizes,
    describe,
    evaluate,
    infer,
    node_error,
)
from tinyonnx.runtime.plan import KernelStep, LayoutStep, NumpyStep, Plan, Step
from tinyonnx.runtime.trace import Hook
from tinyonnx.sizes.arrays import is_sized
from tinyonnx.sizes.expressions import SizeError
from tinyonnx.sizes.integers import is_size

if TYPE_CHECKING:
    from tinyonnx.kernels import BoundKernel

_LONG_RUN = 64 << 20
"""Plans with an arena of at least this many bytes run step by step, so that Ctrl-C is handled between steps."""

Environment = list[Any]
_FastStep = KernelStep | LayoutStep


def execute(
    plan: Plan, feeds: Sequence[Any], hook: Hook | None = None, run_options: Stoppable | None = None
) -> list[Any]:
    """Run a plan on one value per graph input; the results own their memory.

    Safe to call from several threads: each run that overlaps another gets its own arena,
    kept for later runs.

    Raises NodeError, ResourceError.
    """
    try:
        executable = plan.idle.pop()  # atomic
    except IndexError:
        executable = Executable(plan)
    results: list[Any] = executable.run(feeds, hook, Budget(plan.limits, run_options))
    plan.idle.append(executable)  # not after an interrupt: helping threads may still be writing to its arena
    return results


def timed_runs(plan: Plan, feeds: Sequence[Any]) -> Iterator[list[float]]:
    """Yield the seconds of every step of a plan, run after run. Raises the errors of `execute`."""
    executable = Executable(plan)
    while True:
        yield executable.time(feeds)


def kernel_names(plan: Plan) -> list[list[str]]:
    """Return the names of the kernels that each step of a plan calls."""
    try:
        executable = plan.idle.pop()
    except IndexError:
        executable = Executable(plan)
    names: dict[int, list[str]] = {}
    for call in executable.calls:
        for step, kernels in call.steps if isinstance(call, KernelSegment) else []:
            names.setdefault(id(step), [bound.kernel.__name__ for bound in kernels])
    plan.idle.append(executable)
    return [names.get(id(step), []) for step in plan.steps]


class Executable:
    """A plan bound to an arena of its own."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.arena = allocate_arena(plan, plan.arena_bytes)
        self.template: Environment = [None] * plan.n_slots
        for slot, array in plan.constants.items():
            self.template[slot] = array
        for slot, buffer in plan.buffers.items():
            self.template[slot] = buffer.view(self.arena)
        constants = list(constants_of(plan))
        self.protected, self.constants = set(map(id, constants)), owners(constants)
        found = kernel_calls(plan, self.arena)
        scratch = _scratch(plan, (call for calls in found for call in calls))
        self.calls: list[NumpyCall | KernelSegment] = []
        steps = (plan.steps[position] for position, _ in plan.order)
        for is_numpy, run in groupby(zip(steps, found, strict=True), lambda pair: isinstance(pair[0], NumpyStep)):
            if is_numpy:
                self.calls += (NumpyCall(plan, cast(NumpyStep, step), self.arena) for step, _ in run)
            else:
                kernels = [
                    (cast(_FastStep, step), [_bound(call, scratch, plan.threads) for call in calls])
                    for step, calls in run
                ]
                self.calls.append(KernelSegment(kernels, self.arena, plan.threads))

    def run(self, feeds: Sequence[Any], hook: Hook | None, budget: Budget) -> list[Any]:
        """Run on one value per input; return the outputs, which own their memory."""
        plan, environment = self.plan, self._fed(feeds)
        budget.begin(self.arena.nbytes, self.constants, feeds)
        # infinities and NaN are results like any other
        with np.errstate(all="ignore"):
            for call in self.calls:
                call.run(environment, budget, hook)
        taken = self.protected | set(map(id, feeds))
        results = []
        for slot in plan.outputs:
            results.append(_own(environment[slot], taken, budget))
            taken.add(id(results[-1]))
        return results

    def time(self, feeds: Sequence[Any]) -> list[float]:
        """Run and return the seconds of each step."""
        environment, budget = self._fed(feeds), Budget(self.plan.limits)
        return [seconds for call in self.calls for seconds in call.time(environment, budget)]

    def _fed(self, feeds: Sequence[Any]) -> Environment:
        environment = self.template.copy()
        for slot, feed in zip(self.plan.inputs, feeds, strict=True):
            if slot in self.plan.buffers:
                np.copyto(environment[slot], feed)
            else:
                environment[slot] = feed
        return environment


def kernel_calls(plan: Plan, arena: Array) -> list[list[Call]]:
    """Bind the kernels of each entry of `plan.order` to an arena; scratch is not among their arguments.

    There are none for a numpy step. Raises NodeError, ResourceError.
    """
    batches = {position: run.items for run in plan.runs for position in range(run.first, run.end)}
    return [
        step_calls(plan, plan.steps[position], arena, items, batches.get(position, 0)) for position, items in plan.order
    ]


def step_calls(plan: Plan, step: Step, arena: Array, items: slice, batch: int) -> list[Call]:
    """Bind the kernels of a step for some items of a batch. Raises NodeError, ResourceError."""
    if isinstance(step, NumpyStep):
        return []
    if isinstance(step, LayoutStep):
        from tinyonnx.kernels import copy_layout

        return [copy_layout(step.source.view(arena), step.target.view(arena))]

    def view(buffer: Buffer) -> Array:
        array = buffer.view(arena)
        if items == slice(None):
            return array
        count = items.stop - items.start
        if array.shape[0] != batch:  # what only lives from step to step has room for one group of items
            return array[:count]
        return cast(Any, array).items(items.start, count) if is_sized(array) else array[items]

    arrays = [view(x) if isinstance(x, Buffer) else x for x in step.inputs]
    outs = [None if b is None else view(b) for b in step.outputs]
    out = outs if step.fast.outputs else outs[0]
    try:
        found = step.fast.bind(plan.pool, out, *arrays, **step.node.attributes)
    except MemoryError as error:
        raise ResourceError(str(node_error(plan.model, step.node, "out of memory", arrays))) from error
    except SizeError:
        raise
    except Exception as error:
        raise node_error(plan.model, step.node, error, arrays) from error
    return found if isinstance(found, list) else [found]


def allocate_arena(plan: Plan, nbytes: int) -> Array:
    """Allocate the memory of a plan's buffers. Raises ResourceError."""
    if nbytes > plan.limits.max_run_bytes:
        limit = f"the limit max_run_bytes is {plan.limits.max_run_bytes}; {HOW_TO_RAISE_IT}"
        raise ResourceError(f"{plan.model}: the results of its steps take {nbytes} bytes at a time, {limit}")
    try:
        return allocate(nbytes)
    except MemoryError:
        raise ResourceError(f"{plan.model}: no memory for {nbytes} bytes of activations") from None


def _scratch(plan: Plan, calls: Iterable[Call]) -> Array:
    """Allocate scratch memory for the kernel that needs most; kernels run one at a time and share it."""
    from tinyonnx.runtime.program import shares_for

    return allocate(max((call.scratch for call in calls), default=0) * shares_for(plan.threads) * 4).view(np.float32)


def _bound(call: Call, scratch: Array, threads: int) -> BoundKernel:
    from tinyonnx.kernels import BoundKernel
    from tinyonnx.runtime.program import shares_for

    wanted = call.scratch * shares_for(threads)
    return BoundKernel(call.kernel, (*call.args, scratch[:wanted]) if wanted else call.args)


class KernelSegment:
    """Consecutive kernel steps, which run as one program."""

    def __init__(self, steps: list[tuple[_FastStep, list[BoundKernel]]], arena: Array, threads: int) -> None:
        from tinyonnx.runtime.program import Program

        self.steps, self.arena, self.threads = steps, arena, threads
        self.program = Program([bound for _, kernels in steps for bound in kernels])
        self.clocked: tuple[Program, Array] | None = None

    def run(self, _: Environment, budget: Budget, hook: Hook | None) -> None:
        budget.check()
        if hook is None and not budget.may_end and len(self.arena) < _LONG_RUN:
            self.program.run(self.threads)
            return
        at = 0
        for step, kernels in self.steps:
            self.program.run(self.threads, at, at + len(kernels))
            at += len(kernels)
            budget.check()
            if hook is not None and isinstance(step, KernelStep):
                hook(step.node, [None if b is None else b.view(self.arena) for b in step.outputs])

    def time(self, _: Environment, budget: Budget) -> Iterator[float]:
        """Yield the seconds of each step, from a program that stores the time after every step."""
        from tinyonnx.kernels import BoundKernel
        from tinyonnx.runtime.program import HAS_CLOCK, Program, note_time

        if HAS_CLOCK and len(self.arena) < _LONG_RUN:
            if self.clocked is None:
                times = np.zeros(len(self.steps) + 1, np.int64)
                notes = [BoundKernel(note_time, (times, i)) for i in range(len(times))]
                timed = [b for note, (_, kernels) in zip(notes[1:], self.steps) for b in (*kernels, note)]
                self.clocked = Program([notes[0], *timed]), times
            program, times = self.clocked
            budget.check()
            program.run(self.threads)
            yield from self._by_step((np.diff(times) * 1e-9).tolist())
            return
        at, seconds = 0, []
        for _step, kernels in self.steps:
            budget.check()
            begin = time.perf_counter()
            self.program.run(self.threads, at, at + len(kernels))
            seconds.append(time.perf_counter() - begin)
            at += len(kernels)
        yield from self._by_step(seconds)

    def _by_step(self, seconds: list[float]) -> Iterable[float]:
        """Return the time of every step, summed over the groups of items."""
        total: dict[int, float] = {}
        for (step, _), each in zip(self.steps, seconds, strict=True):
            total[id(step)] = total.get(id(step), 0.0) + each
        return total.values()


def _info(value: Any) -> Info | None:
    """Describe a value to a shape rule; its content only if it is small enough to be a shape."""
    if not isinstance(value, np.ndarray):
        return None if value is None else Info(None, None)
    return Info(value.dtype, value.shape, value if value.size <= MAX_RANK else None)


def _own(value: Any, taken: set[int], budget: Budget) -> Any:
    """Copy a result unless the caller may own it: results may alias the arena or the arrays in `taken` (by id)."""
    if not isinstance(value, np.ndarray):
        return value
    if value.base is None and id(value) not in taken and value.flags.c_contiguous:
        return value
    budget.check_room(value.nbytes)
    return np.array(value, order="C")


def _room(node: Node, outputs: Iterable[tuple[Any, Any] | None]) -> int:
    """Bytes of a node's results, as far as their dtypes and shapes are known and they can't be views."""
    if not node.domain and node.op_type in VIEWS:
        return 0
    known = [pair for pair in outputs if pair is not None and None not in pair and not any(map(is_size, pair[1]))]
    return sum(math.prod(shape) * dtype.itemsize for dtype, shape in known)


def constants_of(plan: Plan) -> Iterator[Array]:
    """The constants of a plan and of its subgraphs' plans."""
    yield from plan.constants.values()
    for step in plan.numpy_steps:
        for subplan in step.subplans.values():
            yield from constants_of(subplan)


class NumpyCall:
    """One numpy step."""

    def __init__(self, plan: Plan, step: NumpyStep, arena: Array) -> None:
        self.plan, self.step, self.arena = plan, step, arena
        self.expect([None if v is None else (v.dtype, v.static_shape) for v in step.node.outputs])
        self.unforeseen = any(v is not None and v.static_shape is None for v in step.node.outputs)
        nothing = np.empty(0, np.uint8)  # a subplan has no arena
        self.subcalls = {
            key: [NumpyCall(subplan, inner, nothing) for inner in subplan.numpy_steps]
            for key, subplan in step.subplans.items()
        }

    def expect(self, planned: list[tuple[Any, Any] | None]) -> None:
        """Set the dtype and shape of each output, as far as they are known."""
        self.planned, self.room = planned, _room(self.step.node, planned)

    def run(self, environment: Environment, budget: Budget, hook: Hook | None = None) -> None:
        """Run the step on the values of its inputs. Raises NodeError, ResourceError."""
        step, plan, room = self.step, self.plan, self.room
        budget.check()
        inputs = [environment[slot] if slot >= 0 else None for slot in step.inputs]

        def run_graph(graph: Graph, values: list[Any]) -> list[Any]:
            return self._run_subplan(graph, values, environment, budget, hook)

        ctx = OpContext(step.node, plan.limits, budget, run_graph)
        if self.unforeseen:
            known = infer(step.node, list(map(_info, inputs)), plan.limits)
            check_sizes(plan.model, step.node, known, inputs, plan.limits)
            room = _room(step.node, [None if info is None else (info.dtype, info.shape) for info in known])
        outer = budget.enter() if self.subcalls else None
        try:
            budget.check_room(room)
            results = evaluate(plan.model, step.node, inputs, ctx)
            if self.unforeseen:
                check_sizes(plan.model, step.node, list(map(_info, results)), inputs, plan.limits)
            if outer is not None:
                budget.leave(outer)
            self._store(results, inputs, environment, budget)
        except RunBytesError as error:
            raise ResourceError(str(node_error(plan.model, step.node, error, inputs))) from None
        for slot in step.release:
            budget.release(environment[slot])
            environment[slot] = None
        if hook is not None:
            hook(step.node, results)

    def _store(self, results: list[Any], inputs: list[Any], environment: Environment, budget: Budget) -> None:
        """Put the results into their buffers, or count and keep them."""
        step, plan = self.step, self.plan
        for slot, result, planned in zip(step.outputs, results, self.planned, strict=True):
            if slot < 0:
                continue
            buffer = plan.buffers.get(slot)
            if buffer is not None:
                if not isinstance(result, np.ndarray) or planned != (result.dtype, result.shape):
                    cause = f"gave {describe(result)} where {buffer.dtype}{list(buffer.shape)} was planned"
                    raise node_error(plan.model, step.node, cause, inputs)
                np.copyto(environment[slot], result)
            else:
                environment[slot] = kept = self._detach(result)
                budget.hold(kept)

    def time(self, environment: Environment, budget: Budget) -> Iterator[float]:
        """Run the step: its seconds."""
        begin = time.perf_counter()
        self.run(environment, budget)
        yield time.perf_counter() - begin

    def _detach(self, result: Any) -> Any:
        """Copy results that alias the arena, because a later step would overwrite them."""
        if isinstance(result, np.ndarray):
            return result.copy() if np.may_share_memory(result, self.arena) else result
        if isinstance(result, list):
            return [self._detach(item) for item in result]
        return result

    def _run_subplan(
        self, graph: Graph, values: list[Any], environment: Environment, budget: Budget, hook: Hook | None
    ) -> list[Any]:
        """Run a subgraph: its inputs by position, captured values from the enclosing run."""
        subplan = self.step.subplans[id(graph)]
        inner: Environment = [None] * subplan.n_slots
        for slot, array in subplan.constants.items():
            inner[slot] = array
        for captured, slot in subplan.captures:
            inner[slot] = environment[self.plan.slot_of[id(captured)]]
        if len(values) != len(subplan.inputs):
            raise OpError(f"its body takes {len(subplan.inputs)} inputs, got {len(values)}")
        for slot, value in zip(subplan.inputs, values, strict=True):
            inner[slot] = value
        for call in self.subcalls[id(graph)]:
            call.run(inner, budget, hook)
        return [inner[slot] for slot in subplan.outputs]
