"""Run a plan: kernels as programs, all other steps by numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import Error
from tinyonnx.runtime.arena import Buffer
from tinyonnx.runtime.binding import Environment, KernelSegment, allocate_arena, reset_status
from tinyonnx.runtime.budget import Budget, owners
from tinyonnx.runtime.numpy_call import bound_calls, bound_template, constants_of
from tinyonnx.runtime.operator_call import OpContext, evaluate, node_error
from tinyonnx.runtime.plan import InvalidData, KernelStep, Plan
from tinyonnx.runtime.trace import Hook

Use = Callable[[list[Any]], list[Any]]
"""Gets the outputs of a run while its arena is still in use, and returns results that own their memory."""


def execute(
    plan: Plan, feeds: Sequence[Any], budget: Budget | None = None, use: Use | None = None, hook: Hook | None = None
) -> list[Any]:
    """Run a plan on one value per graph input; the results own their memory, or are those of `use`.

    Safe to call from several threads: each run that overlaps another gets its own arena,
    kept for later runs.

    Raises NodeError, ResourceError.
    """
    try:
        executable = plan.idle.pop()  # atomic
    except IndexError:
        executable = Executable(plan)
    results: list[Any] = executable.run(feeds, hook, budget or Budget(plan.limits), use)
    plan.idle.append(executable)  # not after an interrupt, because helper threads may still be writing to its arena
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
        reset_status(plan, self.arena)
        self.template = bound_template(plan, self.arena)
        constants = list(constants_of(plan))
        self.protected, self.constants = set(map(id, constants)), owners(constants)
        self.calls = bound_calls(plan, self.arena)

    def run(self, feeds: Sequence[Any], hook: Hook | None, budget: Budget, use: Use | None = None) -> list[Any]:
        """Run on one value per input; return the outputs, which own their memory. Raises NodeError, ResourceError.

        With `use`, return what it makes of outputs that may be views of the arena, or the inputs or constants.
        Where a kernel reports invalid data, everything runs again step by step, so that the data of its step are still
        there for the operator's own error.
        """
        try:
            return self._run(feeds, hook, budget, use)
        except InvalidData as error:
            if error.step is not None:
                raise self._error_of(error.step) from None
        reset_status(self.plan, self.arena)
        budget.step_by_step = True
        return self.run(feeds, hook, budget, use)

    def _error_of(self, step: KernelStep) -> Error:
        """Return the error that the operator of a step raises, whose kernel has reported invalid data."""
        inputs = [x.view(self.arena) if isinstance(x, Buffer) else x for x in step.inputs]
        try:
            evaluate(self.plan.model, step.node, inputs, OpContext(step.node, self.plan.limits))
        except Error as error:
            return error
        return node_error(self.plan.model, step.node, "its kernel found invalid data", inputs)

    def _run(self, feeds: Sequence[Any], hook: Hook | None, budget: Budget, use: Use | None) -> list[Any]:
        plan, environment = self.plan, self._fed(feeds)
        budget.begin(self.arena.nbytes, self.constants, feeds)
        if plan.numpy_steps:
            # infinities and NaN are valid results
            with np.errstate(all="ignore"):
                for call in self.calls:
                    call.run(environment, budget, hook)
        else:
            for call in self.calls:
                call.run(environment, budget, hook)
        if use is not None:
            return use([environment[slot] for slot in plan.outputs])
        taken: set[int] | None = None
        results = []
        for slot in plan.outputs:
            value = environment[slot]
            if slot in plan.buffers:
                budget.check_room(value.nbytes)
                results.append(value.copy())
                continue
            if taken is None:
                taken = set(_ids(feeds))
            results.append(self._own(value, taken, budget))
        return results

    def _own(self, value: Any, taken: set[int], budget: Budget) -> Any:
        """Copy a result, or the tensors of a sequence, unless the caller may own it; then it is `taken` (by id), too.

        Results may alias the arena, constants, or the arrays in `taken`.
        """
        if isinstance(value, list):
            return [self._own(item, taken, budget) for item in value]
        if not isinstance(value, np.ndarray):
            return value
        key = id(value)
        if value.base is not None or key in taken or key in self.protected or not value.flags.c_contiguous:
            budget.check_room(value.nbytes)
            return value.copy()
        taken.add(key)
        return value

    def time(self, feeds: Sequence[Any]) -> list[float]:
        """Run and return the seconds of each step."""
        environment, budget = self._fed(feeds), Budget(self.plan.limits)
        return [seconds for call in self.calls for seconds in call.time(environment, budget)]

    def _fed(self, feeds: Sequence[Any]) -> Environment:
        environment = self.template.copy()
        for (slot, is_copied), feed in zip(self.plan.fed, feeds, strict=True):
            if is_copied:
                np.copyto(environment[slot], feed)
            else:
                environment[slot] = feed
        return environment


def _ids(values: Sequence[Any]) -> Iterator[int]:
    """Yield the ids of values, and of the items of sequences."""
    for value in values:
        yield id(value)
        if isinstance(value, list):
            yield from _ids(value)
