"""Bind the kernels of a plan to its arena, and run consecutive ones as programs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tinyonnx.errors import ResourceError
from tinyonnx.ir import Array
from tinyonnx.limits import HOW_TO_RAISE_IT
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import Buffer, allocate
from tinyonnx.runtime.branches import decision
from tinyonnx.runtime.budget import Budget
from tinyonnx.runtime.operator_call import node_error
from tinyonnx.runtime.plan import BranchStep, InvalidData, KernelStep, LayoutStep, LoopStep, NumpyStep, Plan, Step
from tinyonnx.runtime.trace import Hook
from tinyonnx.sizes.arrays import is_sized
from tinyonnx.sizes.expressions import SizeError

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel
    from tinyonnx.kernels import BoundKernel

_LONG_RUN = 64 << 20
"""Plans with an arena of at least this many bytes run step by step, so that Ctrl-C is handled between steps."""

Environment = list[Any]
FastStep = KernelStep | LayoutStep | BranchStep | LoopStep


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

        source = step.source.view(arena) if isinstance(step.source, Buffer) else step.source
        return [copy_layout(source, step.target.view(arena))]
    if isinstance(step, BranchStep):
        return [decision(step, arena)]
    if isinstance(step, LoopStep):
        from tinyonnx.runtime.loop_steps import loop_calls

        return loop_calls(step, plan.status, arena)

    def view(buffer: Buffer) -> Array:
        array = buffer.view(arena)
        if items == slice(None):
            return array
        count = items.stop - items.start
        if array.shape[0] != batch:  # tensors that are only used between the steps have memory for one group of items
            return array[:count]
        return cast(Any, array).items(items.start, count) if is_sized(array) else array[items]

    arrays = [view(x) if isinstance(x, Buffer) else x for x in step.inputs]
    outs = [None if b is None else view(b) for b in step.outputs]
    out = outs if step.fast.outputs else outs[0]
    try:
        how: dict[str, Any] = {"rounded": True} if step.rounded else {}
        if step.fast.reports:
            assert plan.status is not None
            how["status"] = plan.status.view(arena)
        found = step.fast.bind(plan.pool, out, *arrays, **step.node.attributes, **how)
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


def scratch_for(plan: Plan, calls: Iterable[Call]) -> Array:
    """Allocate scratch memory for the kernel that needs most; kernels run one at a time and share it."""
    from tinyonnx.runtime.program import shares_for

    return allocate(max((call.scratch for call in calls), default=0) * shares_for(plan.threads) * 4).view(np.float32)


def with_scratch(call: Call, scratch: Array, threads: int) -> BoundKernel:
    """Bind a call to its arguments and the part of the scratch memory that it needs."""
    from tinyonnx.kernels import BoundKernel

    return BoundKernel(call.kernel, arguments(call, scratch, threads))


def arguments(call: Call, scratch: Array, threads: int) -> tuple[Any, ...]:
    """Return the arguments of a call, with the part of the scratch memory that it needs."""
    from tinyonnx.runtime.program import shares_for

    wanted = call.scratch * shares_for(threads)
    return (*call.args, scratch[:wanted]) if wanted else call.args


def kernels_of(plan: Plan) -> list[tuple[Kernel, str]]:
    """Return the kernels that runs of a plan need, with the kinds of their arguments; none is compiled."""
    from tinyonnx.codegen.arguments import kinds_of
    from tinyonnx.runtime.program import run_table, run_table_shared
    from tinyonnx.runtime.size_table import evaluate

    found = [call for calls in kernel_calls(plan, allocate_arena(plan, plan.arena_bytes)) for call in calls]
    scratch, integers = scratch_for(plan, found), [np.empty(0, np.int64)] * 4
    tables = [integers[0], np.empty(0, np.uint8), *integers[1:]]
    pairs: list[tuple[Kernel, Sequence[Any]]]
    pairs = [(call.kernel, arguments(call, scratch, plan.threads)) for call in found]
    pairs += [
        (run_table, tables[:2]) if plan.threads == 1 else (run_table_shared, tables),
        (evaluate, integers),
    ]
    return [(kernel, kinds_of(args)) for kernel, args in pairs]


def reset_status(plan: Plan, arena: Array) -> None:
    """Clear the report of a plan's kernels."""
    if plan.status is not None:
        arena[: plan.status.nbytes] = 0


def has_failed(arena: Array) -> bool:
    """Return whether a kernel has reported invalid data, in the arena of a plan with a status."""
    return bool(arena[0])


class KernelSegment:
    """Consecutive kernel steps, which run as one program."""

    def __init__(self, steps: list[tuple[FastStep, list[BoundKernel]]], arena: Array, threads: int) -> None:
        from tinyonnx.runtime.program import Program

        self.steps, self.arena, self.threads = steps, arena, threads
        self.guards = [step.guard for step, kernels in steps for _ in kernels]
        self.program = Program([bound for _, kernels in steps for bound in kernels], self.guards, arena)
        self.reports = any(isinstance(step, KernelStep) and step.fast.reports for step, _ in steps)
        self.clocked: tuple[Program, Array] | None = None

    def move(self, arena: Array) -> None:
        """Let the kernels run in another arena; their rows are changed elsewhere."""
        from tinyonnx.runtime.program import Program

        self.arena, self.clocked, kept = arena, None, self.program.kept
        if any(self.guards):
            self.program = Program(self.program.steps, self.guards, arena)
            self.program.kept = kept

    def run(self, _: Environment, budget: Budget, hook: Hook | None) -> None:
        """Run the kernels. Raises ResourceError, and InvalidData if a kernel reports it."""
        budget.check()
        if hook is None and not budget.may_end and len(self.arena) < _LONG_RUN:
            self.program.run(self.threads)
            if self.reports and has_failed(self.arena):
                raise InvalidData(None)
            return
        at = 0
        for step, kernels in self.steps:
            self.program.run(self.threads, at, at + len(kernels))
            at += len(kernels)
            budget.check()
            if self.reports and has_failed(self.arena):
                raise InvalidData(cast(KernelStep, step))
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
                guards = [g for step, kernels in self.steps for g in (*[step.guard] * len(kernels), 0)]
                self.clocked = Program([notes[0], *timed], [0, *guards], self.arena), times
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
