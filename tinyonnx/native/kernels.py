"""Kernels that a binary needs besides those of the model."""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel
from tinyonnx.ir import Array
from tinyonnx.runtime.program import run_table
from tinyonnx.runtime.size_table import evaluate


@kernel
def unpack(
    runs: Array, source: Array, target: Array, half_runs: Array, halves: Array, factors: Array, numbers: Array,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Copy runs of elements, and elements of two bytes, then `widen` `half_runs`.

    Rows of `runs` are (target, source, length, stride, target step, step, count): `count` runs start `target step`
    apart in the target and `step` apart in the source. With a stride of 0 their elements follow each other in both.
    Otherwise they are bfloat16, counted in halves of source elements and `stride` apart there. All other elements of
    the target become 0, because it may hold elements that another level unpacked. `numbers` is the target as float32.
    """
    for i in range(target.shape[0]):
        target[i] = 0
    for row in range(runs.shape[0] // 7):
        t, s, length, stride, target_step, step, count = row_of(runs, row)
        for i in range(count):
            to, at = t + i * target_step, s + i * step
            for j in range(length):
                if stride == 0:
                    target[to + j] = source[at + j]
                else:
                    half = at + j * stride
                    word = source[half >> 1]
                    target[to + j] = word & np.uint32(0xFFFF0000) if half & 1 else word << np.uint32(16)
    widen(half_runs, halves, factors, numbers)


@jit
def row_of(rows: Array, row: int) -> tuple[np.int64, np.int64, np.int64, np.int64, np.int64, np.int64, np.int64]:
    """Return the seven numbers of a row, as int64."""
    at = 7 * row
    return (
        np.int64(rows[at]), np.int64(rows[at + 1]), np.int64(rows[at + 2]), np.int64(rows[at + 3]),
        np.int64(rows[at + 4]), np.int64(rows[at + 5]), np.int64(rows[at + 6]),
    )  # fmt: skip


@jit
def widen(runs: Array, halves: Array, factors: Array, target: Array) -> None:
    """Write float16 numbers times float64 factors, rounded to float32.

    Rows of `runs` are (target, source, length, count, factor): `count` runs of `length` elements, which follow each
    other in target and source; element j of a run has the factor `factor` + j. `halves` are the low bytes of all
    numbers, then the high bytes, which compress better than pairs; `factors` begin with `halves.POWERS`.
    """
    high = len(halves) // 2
    for row in range(runs.shape[0] // 5):
        at = 5 * row
        t, s, length, count, first = (
            np.int64(runs[at]), np.int64(runs[at + 1]), np.int64(runs[at + 2]), np.int64(runs[at + 3]),
            np.int64(runs[at + 4]),
        )  # fmt: skip
        for j in range(length):
            factor = factors[first + j]
            for i in range(j, j + count * length, length):
                top = np.int64(halves[high + s + i])
                mantissa = (top & 3) << 8 | np.int64(halves[s + i])
                if top & 0x7C:
                    mantissa += 1024
                target[t + i] = np.float32(factors[top >> 2] * mantissa * factor)


@kernel
def run_steps(table: Array, guards: Array, first: int, last: int, part: int, parts: int) -> None:
    """Run the steps of a table from `first` to `last`."""
    run_table(table, guards, first, last)


@jit
def _find(size: int, words: Array, at: int, count: int, arena: Array, source: Array, target: Array) -> int:
    """Return the position of the description of the first variant that is valid for a size; -1 without one.

    Evaluates the variant's table. The first of `count` variants is described at words[at]: the positions among the
    words of its code, values, places of its numbers and steps, and the index of the value that is the size of its
    arena.
    """
    for i in range(at, at + 9 * count, 9):
        values = words[words[i + 2] : words[i + 3]]
        values[1], values[2], values[3], values[4] = size, arena.ctypes.data, source.ctypes.data, target.ctypes.data
        evaluate(words[words[i] : words[i + 1]], values, words[words[i + 4] : words[i + 5]], words, 0, 1)
        if values[0] != 0:
            return i
    return -1


@jit
def bytes_for(size: int, words: Array, at: int, count: int) -> int:
    """Return the bytes of the arena for this size of a model laid out for many sizes; -1 if this is none of them."""
    i = _find(size, words, at, count, words, words, words)
    return int(words[words[i + 2] + words[i + 8]]) if i >= 0 else -1


@jit
def run_sized(size: int, words: Array, at: int, count: int, arena: Array, source: Array, target: Array) -> int:
    """Run a model laid out for many sizes; return -1 if this size is none of them."""
    i = _find(size, words, at, count, arena, source, target)
    if i < 0:
        return -1
    run_table(words, arena, words[i + 6], words[i + 7])
    return 0
