"""A plan: the steps, buffers and kernels of a graph whose shapes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinyonnx.errors import Error
from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.registry import Fast
from tinyonnx.runtime.arena import Buffer
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.item_loops import ItemLoop

if TYPE_CHECKING:
    from tinyonnx.passes import Remark


SHAPES_DEPEND_ON_DATA = "shapes depend on data"
"""Why a node has no kernel although its operator has some."""


class Unfit(Exception):
    """The plan is not valid for these sizes."""


class InvalidData(Error):
    """A kernel reported that its data are invalid; `step` is its step, None if others ran after it."""

    def __init__(self, step: KernelStep | None) -> None:
        super().__init__("the data of a kernel are invalid")
        self.step = step


@dataclass(eq=False)
class NumpyStep:
    """Run an operator's numpy function; slots are -1 where an input or output is absent.

    With `by_sizes` the outputs depend on the sizes of the model's inputs alone, and the step runs when these change.
    `region` is the part of the arena that the plans of the node's subgraphs use, `compiled` the compiled form of the
    function.
    """

    node: Node
    inputs: list[int]
    outputs: list[int]
    why: str
    subplans: dict[int, Plan] = field(default_factory=dict)
    release: list[int] = field(default_factory=list)
    by_sizes: bool = False
    region: Buffer | None = None
    compiled: Callable[..., Any] | None = None


@dataclass(eq=False)
class KernelStep:
    """Run a kernel that was bound to its buffers and constants beforehand.

    `guard`, here and in the steps below, is the index of a byte of the arena: where that is 0, the step belongs to a
    branch that is not taken. Index 0 stands for no guard.
    """

    node: Node
    fast: Fast
    inputs: list[Buffer | Array | None]
    outputs: list[Buffer | None]
    guard: int = 0

    @property
    def rounded(self) -> bool:
        """Whether the operands of products are rounded to bfloat16."""
        return self.fast.rounds and self.node.rounded

    @property
    def output(self) -> Buffer:
        """The first output that is read; most steps have only one."""
        return next(buffer for buffer in self.outputs if buffer is not None)


@dataclass(eq=False)
class LayoutStep:
    """Copy a tensor into another memory order, or the result of a branch to that of its If."""

    source: Buffer | Array
    target: Buffer
    guard: int = 0


@dataclass(eq=False)
class BranchStep:
    """Set the guards of both branches of an If, at `first` and after it, by its condition and the guard around it."""

    node: Node
    condition: Buffer
    first: int
    around: int
    guard: int = 0


@dataclass(eq=False)
class LoopStart:
    """Set the byte `going` of a Loop or Scan to whether its steps run at all: those up to its `LoopEnd`.

    They run for `count` iterations, of which `counter` has the number, as long as the condition holds.
    """

    node: Node
    count: Buffer | Array
    condition: Buffer | Array
    counter: Buffer
    going: int
    guard: int = 0


@dataclass(eq=False)
class LoopEnd:
    """Count an iteration and set `going` to whether the steps from the `LoopStart` on run again."""

    node: Node
    count: Buffer | Array
    condition: Buffer | Array
    counter: Buffer
    going: int
    guard: int = 0


@dataclass(eq=False)
class SliceStep:
    """Copy between a slice along an axis, `item`, and all slices, `whole`, at an iteration's number, both row-major.

    `is_stack` tells whether the slice is written.
    """

    node: Node
    whole: Buffer | Array
    item: Buffer | Array
    counter: Buffer
    axis: int
    backwards: bool
    is_stack: bool
    guard: int = 0


@dataclass(eq=False)
class FailStep:
    """Report invalid data: a branch is taken in which an operator refuses its inputs."""

    node: Node
    guard: int = 0


LoopStep = LoopStart | LoopEnd | SliceStep | FailStep
"""Steps that only native code executes.

Sessions run Loop and Scan as numpy steps, which can be interrupted, and a branch that fails as one that tells why.
"""

Step = NumpyStep | KernelStep | LayoutStep | BranchStep | LoopStep


@dataclass(eq=False)
class Plan:
    """Steps, buffers and constants of a graph, ready for the executor.

    Slots number the values that numpy steps and outputs refer to. `sizes` are the slots whose content follows from the
    sizes of the inputs, in a plan for many sizes. `results` are the outputs of a subgraph whose nodes all have kernels
    and whose inputs all have buffers. `weight_bytes` counts the constants that kernels read. `status` is the first
    number of the arena, which kernels set to 1 if their data are invalid; None if there are no such kernels.
    """

    model: str
    limits: Limits
    pool: ConstantPool
    graph: Graph
    steps: list[Step]
    constants: dict[int, Array]
    buffers: dict[int, Buffer]
    all_buffers: list[Buffer]
    arena_bytes: int
    n_slots: int
    inputs: list[int]
    outputs: list[int]
    captures: list[tuple[Value, int]]
    slot_of: dict[int, int]
    sizes: dict[int, Value] = field(default_factory=dict)
    runs: list[ItemLoop] = field(default_factory=list)
    results: list[Buffer | Array] | None = None
    status: Buffer | None = None
    threads: int = 1
    weight_bytes: int = 0
    remarks: list[Remark] = field(default_factory=list)
    idle: list[Any] = field(default_factory=list)

    @property
    def order(self) -> list[tuple[int, slice]]:
        """Return the positions of steps and the items of the batch that they process, in order of execution."""
        order: list[tuple[int, slice]] = []
        at = 0
        for run in self.runs:
            order += ((i, slice(None)) for i in range(at, run.first))
            order += ((i, items) for items in run.groups for i in range(run.first, run.end))
            at = run.end
        return order + [(i, slice(None)) for i in range(at, len(self.steps))]

    def captured(self, step: NumpyStep) -> list[int]:
        """Return the slots that the subgraphs of a step read."""
        return [self.slot_of[id(value)] for subplan in step.subplans.values() for value, _ in subplan.captures]

    def with_bodies(self) -> list[Plan]:
        """Return this plan and those of its subgraphs, each before those within it."""
        found = [self]
        for step in self.numpy_steps:
            for body in step.subplans.values():
                found += body.with_bodies()
        return found

    @property
    def lacks_shapes(self) -> bool:
        """Whether operators that have kernels run in numpy because their shapes, or their results', depend on data."""
        return any(step.why == SHAPES_DEPEND_ON_DATA or step.compiled is not None for step in self.numpy_steps)

    @cached_property
    def fed(self) -> list[tuple[int, bool]]:
        """The slots of the inputs, with whether they are buffers."""
        return [(slot, slot in self.buffers) for slot in self.inputs]

    @cached_property
    def numpy_steps(self) -> list[NumpyStep]:
        """The steps that run an operator's numpy function."""
        return [s for s in self.steps if isinstance(s, NumpyStep)]
