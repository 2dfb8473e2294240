"""If, Loop and Scan whose subgraphs consist of kernels, as steps of the plan around them.

Sessions execute Ifs in this form: see `branches`. Loop and Scan are steps for native code alone. The inputs of a body
have buffers of their own, which hold what is carried from one iteration to the next. Their first values are copied
before the loop, their next ones at the end of each iteration. After the loop they hold the results.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.passes._control_flow import always_fails
from tinyonnx.registry import Fast
from tinyonnx.runtime import branches, inlined_loops
from tinyonnx.runtime.arena import Buffer
from tinyonnx.runtime.branches import Branches, branch_obstacle, branches_of
from tinyonnx.runtime.inlined_loops import LoopParts, Sliced, is_loop, is_needed, loop_obstacle, loop_parts
from tinyonnx.runtime.plan import BranchStep, FailStep, KernelStep, LayoutStep, LoopEnd, LoopStart, SliceStep, Step

_INT64 = np.dtype(np.int64)

_ALWAYS = np.ones(1, np.bool_)

_UNLIMITED = np.full(1, np.iinfo(np.int64).max)


class InliningPlanner:
    """The part of a planner that makes the steps of If, Loop and Scan from those of their subgraphs."""

    graph: Graph
    limits: Limits
    chosen: dict[int, Fast]
    why: dict[int, str]
    steps: list[Step]
    buffers: dict[int, Buffer]
    copies: dict[tuple[int, str], Buffer]
    branches: Branches
    guard: int

    def inline_subgraphs(self, native: bool) -> None:
        """Choose the Ifs, and with `native` the Loops and Scans, whose subgraphs become steps of the plan around them.

        Those within subgraphs are chosen first.
        """
        for node in reversed(list(self.graph.walk())):
            failing: set[int] = set()
            if branches_of(node) is not None:
                if native:
                    failing = {id(branch) for branch in node.subgraphs if always_fails(branch, self.limits)}
                why, read = branch_obstacle(node, self._obstacle, failing), branches.values_read(node)
            elif native and is_loop(node):
                why, read = loop_obstacle(node, self._obstacle), inlined_loops.values_read(node)
            else:
                continue
            if why is None:
                self.branches.add(node, read)
                self.branches.failing |= failing
            else:
                self.why[id(node)] = why

    def _obstacle(self, node: Node) -> str | None:
        """Return why no kernel executes a node; None if one does."""
        return None if self._is_executed_by_kernels(node) else self.why[id(node)]

    def _is_executed_by_kernels(self, node: Node) -> bool:
        return id(node) in self.chosen or id(node) in self.branches.inlined

    def _add_branches(self, node: Node) -> None:
        """Add the steps of both branches of an If, and copies of their outputs to its results."""
        condition, first, around, copies = node.inputs[0], self.branches.new_guards(), self.guard, self.copies
        assert condition is not None
        decided = self._in_layout(condition, "any")
        decided.end = len(self.steps)
        self.steps.append(BranchStep(node, decided, first, around))
        for number, branch in enumerate(branches_of(node) or ()):
            self.guard, self.copies = first + number, copies.copy()  # a branch may not be taken, nor its copies be made
            if id(branch) in self.branches.failing:
                self.steps.append(FailStep(node, self.guard))
                continue
            self._check_sizes(branch)
            for inner in branch.nodes:
                self._add_step(inner)
            for value, result in zip(branch.outputs, node.outputs):
                target = self._buffer(result) if result is not None and result.uses else None
                if target is None or result is None:
                    continue
                source = value.const if value.const is not None else self._buffer(value)
                assert source is not None
                if isinstance(source, Buffer):
                    source.end = len(self.steps)
                target.end = len(self.steps)
                self.steps.append(LayoutStep(source, target, self.guard))
                self._slot(result)
        self.guard, self.copies = around, copies

    def _add_loop(self, node: Node) -> None:
        """Add the steps of a Loop or Scan."""
        parts, around, copies = loop_parts(node), self.guard, self.copies
        assert isinstance(parts, LoopParts)
        counter = self._own_buffer(parts.counter) if parts.counter is not None else self._new_counter()
        for state in parts.carried:
            self._copy(self._source(state.first), self._own_buffer(state.inside))
        condition: Buffer | Array = _ALWAYS if parts.condition is None else self._source(parts.condition)
        if parts.flag is not None and is_needed(parts.body, parts.flag):
            flag = self._own_buffer(parts.flag)
            self._copy(condition.reshape(flag.shape) if isinstance(condition, np.ndarray) else condition, flag)
        for stack in parts.stacked:
            self._buffer(stack.whole)
        wholes = [self._row_major(taken.whole) for taken in parts.taken]
        count = self._count(parts)
        going = self.branches.new_guards()
        self.steps.append(LoopStart(node, count, condition, counter, going, around))
        self._end_here(count, condition, counter)
        self.guard, self.copies = 0, copies.copy()  # there may be no iteration, nor copies that it makes
        for taken, whole in zip(parts.taken, wholes):
            self._slice(node, taken, whole, self._own_buffer(taken.item), counter, is_stack=False)
        for inner in parts.body.nodes:
            self._add_step(inner)
        for stack in parts.stacked:
            target = self._buffer(stack.whole)
            assert target is not None
            self._slice(node, stack, target, self._row_major(stack.item), counter, is_stack=True)
        again = _ALWAYS if parts.next_condition is None else self._source(parts.next_condition)
        again = self._carry(parts, again)
        self.steps.append(LoopEnd(node, count, again, counter, going))
        self._end_here(count, again, counter, *(self.buffers[id(state.inside)] for state in parts.carried))
        self.guard, self.copies = around, copies
        for state in parts.carried:
            result = state.result
            target = None if result is None else self._buffer(result)
            if target is not None and result is not None:
                self._copy(self.buffers[id(state.inside)], target)
                self._slot(result)
        for stack in parts.stacked:
            self._slot(stack.whole)

    def _carry(self, parts: LoopParts, again: Buffer | Array) -> Buffer | Array:
        """Add the copies from an iteration's results to its inputs; return where the condition is after them.

        Inputs that become others pass through separate memory.
        """
        moves = [(self._source(state.next), self.buffers[id(state.inside)]) for state in parts.carried]
        if parts.flag is not None and id(parts.flag) in self.buffers:
            moves.append((again, self.buffers[id(parts.flag)]))
        moves = [(source, target) for source, target in moves if source is not target]
        overwritten = {id(target) for _, target in moves}
        rooms: dict[int, Buffer] = {}
        for source in (*(source for source, _ in moves), again):
            if isinstance(source, Buffer) and id(source) in overwritten and id(source) not in rooms:
                room = self._new_buffer(f"{source.name}: moved", source.shape, source.dtype, source.layout)
                self._copy(source, room)
                rooms[id(source)] = room
        for source, target in moves:
            moved = rooms.get(id(source), source)
            self._copy(moved.reshape(target.shape) if isinstance(moved, np.ndarray) else moved, target)
        return rooms.get(id(again), again)

    def _count(self, parts: LoopParts) -> Buffer | Array:
        if isinstance(parts.trips, Value):
            return self._source(parts.trips)
        return _UNLIMITED if parts.trips is None else np.full(1, parts.trips)

    def _slice(
        self, node: Node, sliced: Sliced, whole: Buffer | Array, item: Buffer | Array, counter: Buffer, is_stack: bool
    ) -> None:
        self.steps.append(SliceStep(node, whole, item, counter, sliced.axis, sliced.backwards, is_stack))
        self._end_here(whole, item)

    def _copy(self, source: Buffer | Array, target: Buffer) -> None:
        self.steps.append(LayoutStep(source, target, self.guard))
        self._end_here(source, target)

    def _end_here(self, *operands: Buffer | Array) -> None:
        """Keep buffers until the last step so far."""
        for operand in operands:
            if isinstance(operand, Buffer):
                operand.end = max(operand.end, len(self.steps) - 1)

    def _own_buffer(self, value: Value) -> Buffer:
        """Return a new buffer for an input of a body."""
        assert value.static_shape is not None
        assert value.dtype is not None
        buffer = self._new_buffer(value.name, value.static_shape, value.dtype, "row_major")
        self.buffers[id(value)] = buffer
        return buffer

    def _new_counter(self) -> Buffer:
        return self._new_buffer("iteration", (1,), _INT64, "row_major")

    def _source(self, value: Value) -> Buffer | Array:
        """Return the constant or the buffer of a value, in whichever order."""
        source = value.const if value.const is not None else self._buffer(value)
        assert source is not None
        return source

    def _row_major(self, value: Value) -> Buffer | Array:
        """Return a value in row-major order."""
        return np.ascontiguousarray(value.const) if value.const is not None else self._in_layout(value, "row_major")

    @abstractmethod
    def _check_sizes(self, graph: Graph) -> None: ...

    @abstractmethod
    def _buffer(self, value: Value) -> Buffer | None: ...

    @abstractmethod
    def _new_buffer(self, name: str, shape: tuple[int, ...], dtype: Any, layout: str) -> Buffer: ...

    @abstractmethod
    def _in_layout(self, value: Value, layout: str) -> Buffer: ...

    @abstractmethod
    def _add_step(self, node: Node) -> None: ...

    @abstractmethod
    def _slot(self, value: Value) -> int: ...


def keep_through_loops(steps: Sequence[Step]) -> None:
    """Keep the buffers that the steps of a loop use, but that exist before it, until its end."""
    begun: list[int] = []
    for end, step in enumerate(steps):
        if isinstance(step, LoopStart):
            begun.append(end)
        elif isinstance(step, LoopEnd):
            start = begun.pop()
            for inner in steps[start : end + 1]:
                for operand in _operands(inner):
                    if isinstance(operand, Buffer) and operand.root.start <= start:
                        operand.root.end = max(operand.root.end, end)


def steps_in_loops(steps: Sequence[Step]) -> Iterator[bool]:
    """Yield for each step whether it belongs to a loop."""
    depth = 0
    for step in steps:
        depth += isinstance(step, LoopStart)
        yield depth > 0
        depth -= isinstance(step, LoopEnd)


def _operands(step: Step) -> Sequence[Any]:
    """Return all that a step reads or writes."""
    if isinstance(step, KernelStep):
        return *step.inputs, *step.outputs
    if isinstance(step, LayoutStep):
        return step.source, step.target
    if isinstance(step, BranchStep):
        return (step.condition,)
    if isinstance(step, SliceStep):
        return step.whole, step.item, step.counter
    if isinstance(step, LoopStart | LoopEnd):
        return step.count, step.condition, step.counter
    return ()
