"""Plans of native code, executed in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import tinyonnx
from tinyonnx.codegen.kernel import BoundKernel
from tinyonnx.native.model import plan_of
from tinyonnx.runtime.binding import allocate_arena, kernel_calls, scratch_for, with_scratch
from tinyonnx.runtime.loop_steps import repeat
from tinyonnx.runtime.plan import LoopEnd, LoopStart, NumpyStep
from tinyonnx.runtime.program import run_table


class NativePlan:
    """The plan that `compile` takes for a model, with its kernels bound to an arena, which is not zeroed."""

    def __init__(self, content: bytes, feeds: Mapping[str, Any]) -> None:
        self.plan = plan = plan_of(tinyonnx.InferenceSession(content), None, feeds)
        self.arena = allocate_arena(plan, plan.arena_bytes)
        self.arena[:] = 0xA5
        found = kernel_calls(plan, self.arena)
        scratch = scratch_for(plan, (call for calls in found for call in calls))
        self.kept: list[Any] = [scratch]
        entries: list[tuple[int, int, int]] = []
        enclosing = []
        for (at, _), calls in zip(plan.order, found, strict=True):
            step = plan.steps[at]
            assert not isinstance(step, NumpyStep)
            for call in calls:
                entries.append(self._entry(with_scratch(call, scratch, 1), step.guard))
            if isinstance(step, LoopStart):
                enclosing.append((entries, step))
                entries = []
            elif isinstance(step, LoopEnd):
                table, (entries, start) = _table(entries), enclosing.pop()
                repeated = BoundKernel(repeat, (table, self.arena, 0, len(table) // 3, start.going))
                self.kept.append(table)
                entries.append(self._entry(repeated, start.guard))
        self.count, self.table = len(entries), _table(entries)
        self.program = BoundKernel(run_table, (self.table, self.arena))

    def _entry(self, bound: BoundKernel, guard: int) -> tuple[int, int, int]:
        self.kept.append(bound)
        return bound.entry_address, bound.row_address, guard

    def run(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """Return the outputs; None for invalid data."""
        plan = self.plan
        if plan.status is not None:
            self.arena[: plan.status.nbytes] = 0
        values: dict[int, Any] = {}
        for value, slot in zip(plan.graph.inputs, plan.inputs, strict=True):
            values[slot] = feeds[value.name]
            if slot in plan.buffers:
                plan.buffers[slot].view(self.arena)[...] = feeds[value.name]
        self.program.run(0, self.count)
        if plan.status is not None and self.arena[0]:
            return None
        return [
            plan.buffers[slot].view(self.arena).copy() if slot in plan.buffers else values[slot]
            for slot in plan.outputs
        ]


def _table(entries: list[tuple[int, int, int]]) -> Any:
    return np.array(entries, np.int64).reshape(-1)
