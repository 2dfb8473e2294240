"""Loop and Scan whose bodies consist of kernels: one call runs many iterations.

A body's table of kernels begins with copies of the slices that a Scan reads. It ends with copies of the stacked
results, and of the carried values to the inputs of the next iteration. Copies of slices advance by a step after each
iteration.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinyonnx.codegen.arguments import cells, kinds_of
from tinyonnx.codegen.kernel import DISABLED, BoundKernel, kernel
from tinyonnx.errors import ResourceError
from tinyonnx.ir import Array
from tinyonnx.registry import Context
from tinyonnx.runtime.arena import BYTE
from tinyonnx.runtime.binding import KernelSegment, has_failed
from tinyonnx.runtime.budget import Budget
from tinyonnx.runtime.plan import InvalidData, NumpyStep, Plan
from tinyonnx.runtime.program import call_entry, is_taken

_HEAVY = 1 << 18
"""With several threads, bodies with at least this many bytes of tensors and weights run step by step on all of them."""

_SHORT, _LONG = 0.005, 0.05
"""Target range in seconds of one call with many iterations; deadlines and Ctrl-C are checked between calls."""

_FIRST = 64
"""Iterations of the first call, and initial rows of a stack of unknown length."""

_CELLS = 8
"""Number of integers in the row of a copy."""

Entry = tuple[int, int, int]
"""Entry point, row and guard of a kernel."""


@kernel
def run_iterations(
    table: Array, guards: Array, rows: Array, advance: Array, state: Array, going: Array, counter: Array, part: int,
    parts: int,
) -> None:  # fmt: skip
    """Run a table of (entry point, row, guard) from iteration state[0] to state[1], while going[0] is set.

    `counter` receives the number of the iteration. After each iteration, rows[advance[i]] += advance[i + 1] for even i.
    """
    i = state[0]
    while i < state[1] and going[0] != 0:
        counter[0] = i
        for k in range(table.shape[0] // 3):
            if is_taken(table, guards, k):
                call_entry(table[3 * k], table[3 * k + 1], 0, 1)
        for k in range(advance.shape[0] // 2):
            rows[advance[2 * k]] += advance[2 * k + 1]
        i += 1
    state[0] = i


@kernel
def copy_blocks(
    source: Array, target: Array, count: int, size: int, source_step: int, target_step: int, part: int, parts: int
) -> None:
    """Copy `count` blocks of `size` bytes that start at multiples of the steps."""
    if part == 0:
        for k in range(count):
            a, b = k * source_step, k * target_step
            for i in range(size):
                target[b + i] = source[a + i]


class _Slices(NamedTuple):
    """Slices along an axis, of this dtype and shape.

    It holds the row of their copy, the index of the address in that row, and whether the last slice comes first.
    """

    row: int
    cell: int
    axis: int
    backwards: bool
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """Number of blocks of a slice."""
        return math.prod(self.shape[: self.axis])

    @property
    def size(self) -> int:
        """Size of a block in bytes."""
        return math.prod(self.shape[self.axis :]) * self.dtype.itemsize

    def stack(self, length: int) -> tuple[int, ...]:
        """Return the shape of a stack of this many slices."""
        return (*self.shape[: self.axis], length, *self.shape[self.axis :])


class PlacedBody(Protocol):
    """A subgraph in the arena of a run: plan, steps, arrays by slot, outputs of kernels, and bytes of its buffers."""

    plan: Plan
    calls: Sequence[Any]
    template: list[Any]
    results: list[Array] | None
    nbytes: int


def compiled_loop(
    plan: Plan, step: NumpyStep, bodies: Mapping[int, PlacedBody], arena: Array
) -> CompiledLoop | None:  # fmt: skip
    """Compile a Loop or Scan; return None if its body doesn't consist of kernels."""
    node = step.node
    if DISABLED or node.domain or node.op_type not in ("Loop", "Scan") or (node.op_type == "Scan" and node.opset < 9):
        return None
    body = bodies[id(node.attributes["body"])]
    if body.results is None or len(body.plan.inputs) != len(node.inputs) or not _is_valid(step, body.results):
        return None
    if plan.threads > 1 and body.nbytes + body.plan.weight_bytes >= _HEAVY:
        return None
    loop = CompiledLoop(step, body, arena)
    return loop if loop.fits else None


class CompiledLoop:
    """A Loop or Scan, bound to the arena of a run; `fits` is whether its body has the types that are needed."""

    def __init__(self, step: NumpyStep, body: PlacedBody, arena: Array) -> None:
        node = step.node
        assert body.results is not None
        self.is_scan = node.op_type == "Scan"
        self.inputs = [body.template[slot] for slot in body.plan.inputs]
        first = 0 if self.is_scan else 2
        sequences = int(node.attributes["num_scan_inputs"]) if self.is_scan else 0
        count = len(self.inputs) - first - sequences
        given = body.results[0 if self.is_scan else 1 :]
        self.carried = self.inputs[first : first + count]
        self.arena, self.reports = arena, body.plan.status is not None
        self.fits = self._typed(body.results, given[:count])
        if not self.fits:
            return
        self.rows = np.zeros(_CELLS * (2 * len(self.inputs) + len(given) + 2), np.int64)
        self.used = 0
        self.kept: list[Any] = [step, body]
        entries: list[Entry] = []
        self.taken = [
            self._slices(entries, self.inputs[len(self.inputs) - sequences + i], axis, backwards, False)
            for i, (axis, backwards) in enumerate(_directions(node.attributes, "input", sequences))
        ]
        segments = [call for call in body.calls if isinstance(call, KernelSegment)]
        for segment in segments:
            kernels = [kernel for _, kernels in segment.steps for kernel in kernels]
            entries += (
                (k.entry_address, k.row_address, guard) for k, guard in zip(kernels, segment.guards, strict=True)
            )
        self.stacked = [
            self._slices(entries, value, axis, backwards, True)
            for value, (axis, backwards) in zip(given[count:], self._stacking(node.attributes, len(given) - count))
        ]
        self._carry(entries, body.results)
        advance = [
            number
            for slices in (*self.taken, *self.stacked)
            for number in (_CELLS * slices.row + slices.cell, -slices.size if slices.backwards else slices.size)
        ]
        self.state = np.zeros(2, np.int64)
        self.going = np.ones(1, np.uint8) if self.is_scan else _bytes(self.inputs[1])
        counter = np.zeros(1, np.int64) if self.is_scan else self.inputs[0].reshape(1)
        table = np.array(entries, np.int64).reshape(-1)
        guards = arena[: max(guard for *_, guard in entries) + 1] if entries else arena[:0]
        arguments = (table, guards, self.rows, np.array(advance, np.int64), self.state, self.going, counter)
        self.program = BoundKernel(run_iterations, arguments)
        self.chunk = _FIRST if body.nbytes < 1 << 20 else 1

    def _typed(self, results: Sequence[Array], carried: Sequence[Array]) -> bool:
        pairs = list(zip(carried, self.carried, strict=True))
        if not all((given.dtype, given.shape) == (kept.dtype, kept.shape) for given, kept in pairs):
            return False
        if not all(view.flags.c_contiguous for view in self.inputs):
            return False
        if self.is_scan:
            return True
        counter, condition = self.inputs[:2]
        flags = results[0], condition
        return counter.dtype == np.int64 and counter.size == 1 and all(
            flag.dtype == np.bool_ and math.prod(flag.shape) == 1 for flag in flags
        )  # fmt: skip

    def _stacking(self, attributes: dict[str, Any], count: int) -> list[tuple[int, bool]]:
        return _directions(attributes, "output", count) if self.is_scan else [(0, False)] * count

    def _copy(self, entries: list[Entry], source: Array, target: Array, count: int, steps: tuple[int, int]) -> int:
        """Add a copy of flat arrays of bytes; return the index of its row."""
        args = (source, target, count, min(source.size, target.size) // max(count, 1), *steps)
        row, self.used = self.used, self.used + 1
        self.rows[_CELLS * row : _CELLS * (row + 1)] = cells(args)
        entries.append((copy_blocks.address(kinds_of(args)), self.rows.ctypes.data + 8 * _CELLS * row, 0))
        self.kept += source, target
        return row

    def _slices(self, entries: list[Entry], view: Array, axis: int, backwards: bool, stacked: bool) -> _Slices:
        """Add the copy between a slice and the array of all slices, whose address and steps are set in each run."""
        slices = _Slices(self.used, 2 if stacked else 0, axis % (view.ndim + 1), backwards, view.dtype, view.shape)
        self._copy(entries, _bytes(view), _bytes(view), slices.blocks, (slices.size, slices.size))
        return slices

    def _carry(self, entries: list[Entry], results: Sequence[Array]) -> None:
        """Add the copies from results to inputs.

        Values passed from one input to another are copied through separate memory.
        """
        targets = self.carried if self.is_scan else [self.inputs[1], *self.carried]
        moves = [
            (source, view)
            for source, view in zip(results, targets)
            if source.ctypes.data != view.ctypes.data and view.size
        ]
        fed = {view.ctypes.data for view in self.inputs}
        staged = []
        for source, view in moves:
            if source.ctypes.data in fed:
                room = np.empty(view.nbytes, np.uint8)
                self._copy(entries, _bytes(source), room, 1, (0, 0))
                source = room
            staged.append((_bytes(source), _bytes(view)))
        for source, target in staged:
            self._copy(entries, source, target, 1, (0, 0))

    # -- runs ---------------------------------------------------------------------------

    def run(self, inputs: Sequence[Any], ctx: Context, budget: Budget) -> list[Any] | None:
        """Run on the node's inputs; return views of the final carried values, and stacks.

        Returns None for inputs of other types than planned and for zero iterations, which the operator handles. Raises
        ResourceError.
        """
        total = self._begin(inputs)
        if not total:
            return None  # the operator makes empty stacks and raises errors
        stacks: list[Array] = []
        done = room = 0
        self.state[:] = 0
        while True:
            if budget.iterations_left <= 0:
                budget.count_iteration()
            if done == room and self.stacked:
                room = total if self.is_scan else min(total, max(_FIRST, 2 * room))
                stacks, room = self._grown(stacks, room, done, ctx, budget)
            end = min(total, done + min(self.chunk, budget.iterations_left), room if self.stacked else total)
            self.state[1] = end
            begin = time.perf_counter()
            self.program.run(0, 1)
            spent = time.perf_counter() - begin
            if self.reports and has_failed(self.arena):
                raise InvalidData(None)
            reached = int(self.state[0])
            budget.count_iterations(reached - done)
            done = reached
            if done >= total or not self.going[0]:
                break
            self.chunk = self.chunk * 4 if spent < _SHORT else max(1, self.chunk // 2) if spent > _LONG else self.chunk
        if done < room and not self.is_scan:
            stacks = [stack[:done].copy() for stack in stacks]
        return [*self.carried, *stacks]

    def _begin(self, inputs: Sequence[Any]) -> int:
        """Set the inputs of the first iteration; return the maximum number of iterations, 0 if types don't match."""
        total = 1 << 62
        if self.is_scan:
            total = self._take(inputs[len(self.carried) :])
            initial = inputs[: len(self.carried)]
        else:
            count, condition, *initial = inputs
            if count is not None:
                if not isinstance(count, np.ndarray) or count.size != 1 or count.dtype != np.int64:
                    return 0
                total = int(count.reshape(()))
            self.going[0] = 1
            if condition is not None:
                if not isinstance(condition, np.ndarray) or condition.size != 1 or condition.dtype != np.bool_:
                    return 0
                self.going[0] = bool(condition.reshape(()))
        for value, view in zip(initial, self.carried, strict=True):
            if not isinstance(value, np.ndarray) or (value.dtype, value.shape) != (view.dtype, view.shape):
                return 0
        for value, view in zip(initial, self.carried, strict=True):
            np.copyto(view, value)
        return total if total > 0 and self.going[0] else 0

    def _take(self, values: Sequence[Any]) -> int:
        """Set the addresses of a Scan's sequences; return their length, 0 if they don't match."""
        self.sequences = []
        length = 0
        for value, slices in zip(values, self.taken, strict=True):
            if not isinstance(value, np.ndarray) or value.dtype != slices.dtype or value.ndim != len(slices.shape) + 1:
                return 0
            length = length or value.shape[slices.axis]
            if value.shape != slices.stack(length):
                return 0
            self.sequences.append(np.ascontiguousarray(value))
            self._point(slices, self.sequences[-1], length, 0)
        return length

    def _grown(
        self, stacks: list[Array], room: int, done: int, ctx: Context, budget: Budget
    ) -> tuple[list[Array], int]:
        """Enlarge stacks for the iterations still to be done; return them and their capacity. Raises ResourceError."""
        if not self.is_scan:
            while room > done + 1 and not self._allowed(room, ctx):
                room = max(done + 1, room // 2)
        grown = []
        for i, slices in enumerate(self.stacked):
            ctx.check_size(slices.stack(room), slices.dtype)
            budget.check_room(math.prod(slices.stack(room)) * slices.dtype.itemsize)
            grown.append(np.empty(slices.stack(room), slices.dtype))
            if done:
                grown[i][:done] = stacks[i][:done]
                budget.release(stacks[i])
            budget.hold(grown[i])
            self._point(slices, grown[i], room, done)
        return grown, room

    def _allowed(self, room: int, ctx: Context) -> bool:
        try:
            for slices in self.stacked:
                ctx.check_size(slices.stack(room), slices.dtype)
        except ResourceError:
            return False
        return True

    def _point(self, slices: _Slices, whole: Array, length: int, done: int) -> None:
        """Let the copy of a slice read or write slice `done` of an array of `length` slices."""
        row = self.rows[_CELLS * slices.row : _CELLS * (slices.row + 1)]
        position = length - 1 - done if slices.backwards else done
        row[slices.cell] = whole.ctypes.data + position * slices.size
        row[slices.cell + 1] = whole.nbytes
        row[6 if slices.cell == 0 else 7] = length * slices.size


def _directions(attributes: dict[str, Any], kind: str, count: int) -> list[tuple[int, bool]]:
    """Return the axis of each of a Scan's inputs or outputs, and whether it is read or written backwards."""
    axes, directions = attributes.get(f"scan_{kind}_axes"), attributes.get(f"scan_{kind}_directions")
    return list(zip(axes or [0] * count, map(bool, directions or [0] * count)))


def _is_valid(step: NumpyStep, results: Sequence[Array]) -> bool:
    """Return whether a Scan's attributes match its inputs and outputs, and a Loop's body returns all carried values."""
    node = step.node
    if node.op_type == "Loop":
        return len(results) >= len(node.inputs) - 1
    sequences = int(node.attributes["num_scan_inputs"])
    states = len(node.inputs) - sequences
    if sequences < 1 or not 0 <= states <= len(results):
        return False
    fed = [value.static_shape if value is not None else None for value in node.inputs[states:]]
    ranks = {"input": [len(shape or ()) for shape in fed], "output": [len(x.shape) + 1 for x in results[states:]]}
    for kind, expected in ranks.items():
        axes, directions = node.attributes.get(f"scan_{kind}_axes"), node.attributes.get(f"scan_{kind}_directions")
        if any(given is not None and len(given) != len(expected) for given in (axes, directions)):
            return False
        if any(not -rank <= axis < rank for axis, rank in zip(axes or (), expected)):
            return False
    return True


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(BYTE)
