"""If whose branches consist of kernels: both are steps of the plan, of which a run executes those of the branch taken.

A step of a branch has a guard, a byte at the beginning of the arena. The step before the branches sets the guards of
both by the condition. Branches within branches combine their condition with the guard around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np

from tinyonnx.codegen.kernel import kernel
from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import BYTE, Buffer
from tinyonnx.runtime.plan import BranchStep
from tinyonnx.sizes.integers import is_size


@kernel
def decide(condition: Array, around: Array, guards: Array, is_nested: int, part: int, parts: int) -> None:
    """guards = (condition, its opposite), both 0 in a branch that is not taken itself."""
    if part == 0:
        taken = np.uint8(condition[0] != 0)
        outer = np.uint8(1)
        if is_nested != 0:
            outer = around[0]
        guards[0] = taken & outer
        guards[1] = (np.uint8(1) - taken) & outer


def decision(step: BranchStep, arena: Any) -> Call:
    """Return the call that sets the guards of a step."""
    condition = step.condition.view(arena).reshape(-1).view(BYTE)
    around, guards = (_bytes(arena, at, count) for at, count in ((step.around, 1), (step.first, 2)))
    return Call(decide, (condition, around, guards, int(step.around > 0)))


def _bytes(arena: Any, offset: int, count: int) -> Array:
    return Buffer("guards", (count,), BYTE, "row_major", 0, 0, offset).view(arena)


class Branches:
    """The Ifs of a plan whose branches are part of it, and in native code the loops whose bodies are.

    `inlined` has their ids, `failing` those of branches that report invalid data when they are taken, `read` those of
    the values that they read from memory, and `guards_end` is the size of the status and of all guards.
    """

    def __init__(self) -> None:
        self.inlined: set[int] = set()
        self.failing: set[int] = set()
        self.read: set[int] = set()
        self.guards_end = np.dtype(np.int64).itemsize

    def add(self, node: Node, read: Iterable[Value]) -> None:
        """Add a node that is replaced by the steps of its subgraphs, and the values that these read from memory."""
        self.inlined.add(id(node))
        self.read.update(map(id, read))

    def new_guards(self) -> int:
        """Return the index of the first of two new guards."""
        self.guards_end += 2
        return self.guards_end - 2


def branches_of(node: Node) -> tuple[Graph, Graph] | None:
    """Return the branches of an If, the one for true first; None for any other node."""
    if node.op_type != "If" or node.domain:
        return None
    return node.attributes["then_branch"], node.attributes["else_branch"]


def branch_obstacle(node: Node, obstacle_of: Callable[[Node], str | None], failing: Collection[int]) -> str | None:
    """Return why the branches of an If can't become steps of a plan; None if they can.

    They can if kernels execute all of their nodes, and their results have one shape. `obstacle_of` gives the reason why
    no kernel executes a node of a branch, None if one does. `failing` has the ids of branches that report invalid data
    when they are taken, whatever their nodes are.
    """
    branches, condition = branches_of(node), node.inputs[0] if node.inputs else None
    if branches is None or condition is None or condition.is_constant or not _is_truth(condition):
        return "its condition is not one computed boolean"
    for branch in branches:
        if id(branch) in failing and len(failing) < len(branches):
            continue
        if branch.inputs or len(branch.outputs) < len(node.outputs):
            return "its branches don't match its outputs"
        for inner in branch.nodes:
            why = obstacle_of(inner)
            if why is not None:
                return f'{inner.op_type} "{inner.label}" in a branch: {why}'
        for value, result in zip(branch.outputs, node.outputs):
            if result is not None and not _is_copied(value, result):
                return f'the shape of "{result.name}" depends on which branch is taken'
    return None


def _is_truth(value: Value) -> bool:
    """Return whether a value is one boolean."""
    shape = value.static_shape
    return value.dtype == np.bool_ and shape is not None and not any(map(is_size, shape)) and math.prod(shape) == 1


def _is_copied(value: Value, result: Value) -> bool:
    """Return whether a branch's output can be copied to a result of the If."""
    shape = result.static_shape
    if shape is None or result.dtype is None or value.sizes is not None or 0 in shape:
        return False
    return (value.dtype, value.static_shape) == (result.dtype, shape) and result.dtype.kind in "fiub"


def values_read(node: Node) -> Iterator[Value]:
    """Yield the condition of an If, and the values from outside that its branches give as they are."""
    yield from (value for value in node.inputs if value is not None)
    for branch in branches_of(node) or ():
        own = {id(value) for inner in branch.nodes for value in inner.outputs}
        yield from (value for value in branch.outputs if value.const is None and id(value) not in own)
