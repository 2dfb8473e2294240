"""The calls of a model: of one plan, or of plans for every size of an axis."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from tinyonnx.codegen.arguments import kinds_of, leaves
from tinyonnx.codegen.kernel import Kernel
from tinyonnx.errors import Error
from tinyonnx.ir import Array, Node
from tinyonnx.kernels import copy_layout
from tinyonnx.kernels._common import Temporary
from tinyonnx.native.unit import Cell, Place, UnitLayout
from tinyonnx.ort.session import InferenceSession
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import Buffer
from tinyonnx.runtime.binding import FastStep, kernel_calls
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.plan import BranchStep, KernelStep, LoopEnd, LoopStart, Plan
from tinyonnx.runtime.sized import SizedPlan
from tinyonnx.sizes.arrays import SizedArray

_FEW = 64
"""Constants of fewer elements may be attributes in disguise."""

_LISTED = 3
"""Maximum number of nodes that an error names."""


class CompileError(Error):
    """The model can't be compiled to native code, or not as requested."""


class LaidOutCall(NamedTuple):
    """A call whose arguments are laid out, with its guard; `scratch` is whether the last one is the scratch memory."""

    kernel: Kernel
    kinds: str
    cells: list[Cell]
    scratch: bool
    guard: int


class LaidOutLoop(NamedTuple):
    """Calls that are repeated while a byte at the beginning of the arena is set, at `going`; its own guard."""

    steps: LaidOutSteps
    going: int
    guard: int


LaidOutSteps = list[LaidOutCall | LaidOutLoop]


class LaidOutPlan(NamedTuple):
    """A plan whose calls are laid out; places of inputs and outputs, row-major, with their size in bytes."""

    steps: LaidOutSteps
    inputs: list[tuple[Place, int]]
    outputs: list[tuple[Place, int]]


def plan_of(session: InferenceSession, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> Plan:
    """Return the plan for these inputs. Raises CompileError naming the nodes that keep it from being native code."""
    plan = session.native_plan_for(names, feeds)
    _check_steps(plan, session.name)
    return plan


def _check_steps(plan: Plan, name: str) -> None:
    if plan.numpy_steps:
        listed = "; ".join(f"{_label(step.node)}: {step.why}" for step in plan.numpy_steps[:_LISTED])
        if len(plan.numpy_steps) > _LISTED:
            listed += f"; and {len(plan.numpy_steps) - _LISTED} more"
        raise CompileError(f"{name}: can't be compiled, these nodes have no kernel: {listed}")


def check_steps(sized: SizedPlan) -> SizedPlan:
    """Return the plan if all steps are kernels that can't meet invalid data. Raises CompileError, naming nodes."""
    _check_steps(sized.plan, sized.plan.model)
    steps = sized.plan.steps
    divided = [step.node for step in steps if isinstance(step, BranchStep | LoopStart)]
    checked = [step.node for step in steps if isinstance(step, KernelStep) and step.fast.reports]
    if divided or checked:
        cause = f"{_label(divided[0])} has {'branches' if divided[0].op_type == 'If' else 'a body'}" if divided else ""
        if checked:
            cause = f"the computed indices of {_label(checked[0])} would not be checked"
        raise CompileError(f"{sized.plan.model}: can't be compiled for many sizes, {cause}")
    return sized


def bind(layout: UnitLayout, plan: Plan, arena: Array) -> LaidOutPlan:
    """Lay out a plan's calls, its buffers being in that arena.

    Raises CompileError for an output that no kernel writes.
    """
    layout.map(arena, layout.room("arena", plan.arena_bytes))
    inputs, before = _edge(layout, plan, arena, "input", plan.inputs)
    outputs, after = _edge(layout, plan, arena, "output", plan.outputs)
    found = kernel_calls(plan, arena)
    add_constants(layout, plan, arena, [call for calls in found for call in calls])
    steps: LaidOutSteps = [_step(layout, call, 0) for call in before]
    enclosing: list[LaidOutSteps] = []
    for (at, _), calls in zip(plan.order, found, strict=True):
        step = cast(FastStep, plan.steps[at])
        steps += (_step(layout, call, step.guard) for call in calls)
        if isinstance(step, LoopStart):
            repeated: LaidOutSteps = []
            steps.append(LaidOutLoop(repeated, step.going, step.guard))
            enclosing.append(steps)
            steps = repeated
        elif isinstance(step, LoopEnd):
            steps = enclosing.pop()
    steps += (_step(layout, call, 0) for call in after)
    return LaidOutPlan(steps, inputs, outputs)


def add_constants(layout: UnitLayout, plan: Plan, arena: Any, calls: Sequence[Call]) -> None:
    """Give temporaries their rooms, and constants that are new to the layout their ids.

    `calls` are those of all steps of the plan, bound to `arena`, an array or a `SizedArray`.
    """
    is_sized = isinstance(arena, SizedArray)
    with arena.address.trace.recording() if is_sized else nullcontext():
        (low, high), channels = _numbered_twins(plan, arena, list(calls))
    temporaries: set[int] = set()
    for call, *twins in zip(calls, low, high):
        for arg, *digits in zip(leaves(call.args), *(leaves(twin.args) for twin in twins)):
            if isinstance(arg, Temporary):
                whole = _root(arg)
                if whole.ctypes.data not in temporaries:
                    layout.map(whole, layout.room(f"temporary {len(temporaries)}", whole.nbytes))
                    temporaries.add(whole.ctypes.data)
            elif _is_constant(arg, arena):
                ids = _ids(digits[0], digits[1], len(channels))
                layout.constant(arg, ids, channels[ids] if ids is not None and ids.ndim == 1 else None)


def _is_constant(arg: Any, arena: Any) -> bool:
    # an empty array shares memory with nothing
    if not isinstance(arg, np.ndarray) or arg.dtype != np.float32 or not arg.size:
        return False
    return isinstance(arena, SizedArray) or not np.may_share_memory(arg, arena)


def virtual(nbytes: int) -> Array:
    """Return zeros that take no memory until they are touched."""
    flags = () if sys.platform == "win32" else (mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,)
    return np.frombuffer(mmap.mmap(-1, max(nbytes, 1), *flags), np.uint8)


def _edge(
    layout: UnitLayout, plan: Plan, arena: Array, what: str, slots: Sequence[int]
) -> tuple[list[tuple[Place, int]], list[Call]]:
    """Return the places of all inputs or outputs, and the calls that bring them into the memory order needed."""
    places, calls = [], []
    values = plan.graph.inputs if what == "input" else plan.graph.outputs
    for number, (slot, value) in enumerate(zip(slots, values, strict=True)):
        buffer = plan.buffers.get(slot)
        if buffer is not None and (buffer.layout == "row_major" or buffer.one_order):
            places.append((layout.place(_memory(buffer, arena)), buffer.nbytes))
            continue
        if buffer is None and what == "output":
            raise CompileError(f'{plan.model}: can\'t be compiled, output "{value.name}" is computed by no kernel')
        shape, dtype = value.static_shape, value.dtype
        assert shape is not None
        assert dtype is not None
        outside = virtual(math.prod(shape) * dtype.itemsize)
        place = layout.room(f"{what} {number}", len(outside))
        layout.map(outside, place)
        places.append((place, len(outside)))
        if buffer is not None:
            pair = outside.view(dtype).reshape(shape), buffer.view(arena)
            calls.append(copy_layout(*(pair if what == "input" else pair[::-1])))
    return places, calls


def _memory(buffer: Buffer, arena: Array) -> Array:
    return arena[buffer.root.offset : buffer.root.offset + buffer.nbytes]


def _step(layout: UnitLayout, call: Call, guard: int) -> LaidOutCall:
    kinds, cells = kinds_of(call.args), layout.cells(call.args)
    if call.scratch:
        cells += layout.room("scratch", call.scratch * 4), call.scratch
        kinds += " <f4"
    return LaidOutCall(call.kernel, kinds, cells, bool(call.scratch), guard)


_DIGIT = 14
"""Bits of the two digits of a number."""

_ZERO = 0x80
"""Upper half of the float32 that stands for the digit 0: the smallest number that rounding to bfloat16 keeps."""


class _Numbering:
    """Consecutive numbers, from 1 on, for the elements of the large constants of a model.

    One of their two digits, the lower or the upper one, is given as float32 values that bfloat16 has, too, so that
    kernels' binders pack and round them like weights.
    """

    def __init__(self, upper: bool) -> None:
        self.next = 1
        self._shift = _DIGIT if upper else 0
        self._known: dict[int, Array] = {}
        self._rows = [np.zeros(1, np.int32)]

    def of(self, operand: Buffer | Array | None) -> Buffer | Array | None:
        """Return the numbers of a constant in its shape, the same for each call; return any other value unchanged."""
        if not isinstance(operand, np.ndarray) or operand.dtype != np.float32 or operand.size < _FEW:
            return operand
        if id(operand) not in self._known:
            numbers = np.arange(self.next, self.next + operand.size, dtype=np.int64)
            digits = (numbers >> self._shift & (1 << _DIGIT) - 1) + _ZERO
            self._known[id(operand)] = (digits.astype(np.uint32) << 16).view(np.float32).reshape(operand.shape)
            self.next += operand.size
            rows = np.arange(1, 1 + len(operand), dtype=np.int32) + self._rows[-1][-1]
            self._rows.append(np.repeat(rows, operand.size // len(operand)))
        return self._known[id(operand)]

    def rows(self) -> Array:
        """Return for each number the row of its tensor, counted over all tensors from 1 on; 0 for number 0."""
        return np.concatenate(self._rows)


def _ids(low: Array, high: Array, count: int) -> Array | None:
    """Return the numbers of elements, 0 for padding, from their packed digits; None if some are not below `count`.

    One for each element, or where elements are pairs of bfloat16 two.
    """
    digits = [half.view(np.uint16).astype(np.int64) for half in (low, high)]
    ids = np.where(digits[0] + digits[1] == 0, 0, (digits[1] - _ZERO << _DIGIT) + digits[0] - _ZERO)
    if ids.min() < 0 or ids.max() >= count:
        return None
    pairs = ids.astype(np.int32).reshape(-1, 2)
    return pairs if pairs[:, 0].any() else pairs[:, 1]


def _numbered_twins(plan: Plan, arena: Array, calls: list[Call]) -> tuple[tuple[list[Call], list[Call]], Array]:
    """Bind the calls again with numbers instead of weights, which shows where packing moves each element.

    For example, weights [[a, b], [c, d]] have the numbers [[1, 2], [3, 4]]. If a kernel gets them packed by columns
    with padding, [a, c, 0, b, d, 0], its twin gets [1, 3, 0, 2, 4, 0]: the unit stores a, b, c and d once, and this
    list as the way to pack them.

    Returns twins with the lower and with the upper digits of numbers, and the row of each number. If the binders don't
    take numbers, or decide differently for them, the calls themselves and no rows: then the unit stores the packed
    arrays.
    """
    numberings = _Numbering(upper=False), _Numbering(upper=True)
    none = (calls, calls), np.empty(0, np.int32)
    twins = []
    for numbering in numberings:
        steps = [
            replace(step, inputs=list(map(numbering.of, step.inputs))) if isinstance(step, KernelStep) else step
            for step in plan.steps
        ]
        try:
            bound = kernel_calls(replace(plan, steps=steps, pool=ConstantPool()), arena)
            twins.append([call for step in bound for call in step])
        except Error:
            return none
        if list(map(_form, twins[-1])) != list(map(_form, calls)) or numbering.next > 1 << 2 * _DIGIT:
            return none
    return (twins[0], twins[1]), numberings[0].rows()


def _form(call: Call) -> tuple[Any, ...]:
    # plans for every size represent the arena's memory by SizedArray, a binding's own memory by Temporary
    return call.kernel, *(
        SizedArray if isinstance(arg, Temporary) else arg.shape if isinstance(arg, np.ndarray) else type(arg)
        for arg in leaves(call.args)
    )


def _root(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _label(node: Node) -> str:
    return f'{node.op_type} "{node.label}" (node {node.index})'
