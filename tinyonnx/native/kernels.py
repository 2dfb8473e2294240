"""Kernels that a binary needs besides those of the model."""

from __future__ import annotations

from tinyonnx.codegen.kernel import jit, kernel
from tinyonnx.ir import Array
from tinyonnx.runtime.program import run_table


@kernel
def unpack(runs: Array, source: Array, target: Array, part: int, parts: int) -> None:
    """Copy runs of elements, rows of (target, source, length, step, count).

    The `count` runs of a row follow each other in the target and start `step` apart in the source.
    """
    for row in range(runs.shape[0] // 5):
        t, s, length, step, count = (
            runs[5 * row], runs[5 * row + 1], runs[5 * row + 2], runs[5 * row + 3], runs[5 * row + 4],
        )  # fmt: skip
        for i in range(count):
            for j in range(length):
                target[t + i * length + j] = source[s + i * step + j]


@kernel
def run_steps(table: Array, first: int, last: int, part: int, parts: int) -> None:
    """The steps of a table from `first` to `last`."""
    run_table(table, first, last)


@jit
def run_sized(size: int, words: Array, at: int, count: int) -> int:
    """Run a model that was laid out for ranges of sizes, the first of `count` at words[at]; -1 if none has this size.

    A range is (first size, last size, first step, end of steps, first term, end of terms), a
    term (place among the words, a, b, c, s), for a number a + b·⌊(size + c) / s⌋ there.
    """
    for i in range(at, at + 6 * count, 6):
        if words[i] <= size <= words[i + 1]:
            for t in range(words[i + 4], words[i + 5], 5):
                words[words[t]] = words[t + 1] + words[t + 2] * ((size + words[t + 3]) // words[t + 4])
            run_table(words, words[i + 2], words[i + 3])
            return 0
    return -1
