"""The kernels of Loop and Scan as steps of a plan: native code repeats the steps between the first and the last.

The first step sets the byte `going` of a loop, which the last one sets again after each iteration; both follow the
condition and the number of iterations. Between them slices of a Scan's inputs are taken at the iteration's number, and
results are written into the stacks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.codegen.kernel import kernel
from tinyonnx.ir import Array
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import BYTE, Buffer
from tinyonnx.runtime.plan import FailStep, LoopStart, LoopStep, SliceStep
from tinyonnx.runtime.program import run_table


@kernel
def begin_loop(counter: Array, count: Array, condition: Array, going: Array, part: int, parts: int) -> None:
    """Set the number of the iteration to 0, and `going` to whether there is a first one."""
    if part == 0:
        counter[0] = 0
        going[0] = np.uint8(condition[0] != 0 and count[0] > 0)


@kernel
def end_iteration(
    counter: Array, count: Array, condition: Array, going: Array, status: Array, part: int, parts: int
) -> None:
    """Count an iteration, and set `going` to whether there is another one; there is none after invalid data."""
    if part == 0:
        counter[0] += 1
        going[0] = np.uint8(condition[0] != 0 and counter[0] < count[0] and status[0] == 0)


@kernel
def repeat(table: Array, guards: Array, first: int, last: int, going: int, part: int, parts: int) -> None:
    """Run the steps `first` to `last` of a table while guards[going] is set; the last step sets it."""
    while guards[going] != 0:
        run_table(table, guards, first, last)


@kernel
def take_slice(
    whole: Array, item: Array, counter: Array, length: int, size: int, backwards: int, part: int, parts: int
) -> None:
    """Copy slice counter[0], counted from the end if `backwards`, from blocks of `length` slices of `size` bytes."""
    if part == 0:
        at = counter[0]
        if backwards != 0:
            at = length - 1 - at
        for block in range(item.shape[0] // size):
            source, target = (block * length + at) * size, block * size
            for i in range(size):
                item[target + i] = whole[source + i]


@kernel
def put_slice(
    whole: Array, item: Array, counter: Array, length: int, size: int, backwards: int, part: int, parts: int
) -> None:
    """Write a slice to where `take_slice` reads it."""
    if part == 0:
        at = counter[0]
        if backwards != 0:
            at = length - 1 - at
        for block in range(item.shape[0] // size):
            target, source = (block * length + at) * size, block * size
            for i in range(size):
                whole[target + i] = item[source + i]


@kernel
def fail(status: Array, part: int, parts: int) -> None:
    """Report invalid data."""
    if part == 0:
        status[0] = 1


def loop_calls(step: LoopStep, status: Buffer | None, arena: Any) -> list[Call]:
    """Return the calls of a step; `status` is the plan's."""

    if isinstance(step, FailStep):
        assert status is not None
        return [Call(fail, (status.view(arena),))]

    def view(x: Buffer | Array, dtype: np.dtype[Any] = BYTE) -> Array:
        array = x.view(arena) if isinstance(x, Buffer) else x
        flat: Array = array.reshape(-1).view(dtype)
        return flat

    counter = view(step.counter, np.dtype(np.int64))
    if isinstance(step, SliceStep):
        shape = step.item.shape
        size = math.prod(shape[step.axis :]) * step.item.dtype.itemsize
        arguments = view(step.whole), view(step.item), counter, step.whole.shape[step.axis], size, int(step.backwards)
        return [Call(put_slice if step.is_stack else take_slice, arguments)]
    going = view(Buffer("going", (1,), BYTE, "row_major", 0, 0, step.going))
    common = counter, view(step.count, np.dtype(np.int64)), view(step.condition), going
    if isinstance(step, LoopStart):
        return [Call(begin_loop, common)]
    return [Call(end_iteration, (*common, np.zeros(1, np.int64) if status is None else status.view(arena)))]
