"""Programs: many bound kernels, run one after the other by a single call, on one thread or several.

A program is a table of integers: entry point, row and guard of each step. A guard is the index of a byte that an
earlier step has set: if that is 0, the step is left out. Index 0 stands for no guard.

Several threads walk through the same table and take shares of a step until none is left; a thread continues with the
next step when all shares are done. A thread that arrives late, because the system was running other threads, finds the
work done by the others: no thread waits for one that hasn't taken a share.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tinyonnx.codegen.kernel import DISABLED, BoundKernel, Primitive, jit, kernel
from tinyonnx.ir import Array
from tinyonnx.runtime.threads import run_shared


def _native(*_: int) -> int:
    raise NotImplementedError("exists in machine code alone")


def _primitive(name: str) -> Primitive:
    primitive = Primitive(_native)
    primitive.__name__ = name
    return primitive


call_entry, atomic_add, atomic_load, exchange_if, pause, yield_processor, nanoseconds = map(
    _primitive,
    ("call_entry", "atomic_add", "atomic_load", "exchange_if", "pause", "yield_processor", "nanoseconds"),
)

SHARES_PER_THREAD = 2
"""Shares per thread: more than one, so that other threads can take over work from one that is preempted."""

_LINE = 8
"""Distance between counters: a cache line."""

_RUN = 1 << 20
"""The counter of taken shares starts at this times the run's number, so that threads of earlier runs take none."""

_SPINS = 4000
"""Iterations of busy waiting, tens of microseconds, before the thread yields: shares of a step differ by less."""


@jit
def take_share(taken: Array, at: int, run: int, parts: int) -> int:
    """Take a share atomically; return its number, or `parts` if none is left."""
    while True:
        count = atomic_load(taken, at)
        share: int = count - run * _RUN
        if share < 0 or share >= parts:
            return parts
        if exchange_if(taken, at, count, count + 1) != 0:
            return share


@jit
def is_taken(table: Array, guards: Array, i: int) -> bool:
    """Whether step i of a table of (entry point, row, guard) is executed."""
    guard = table[3 * i + 2]
    return bool(guard == 0 or guards[guard] != 0)


@kernel
def run_table(table: Array, guards: Array, first: int, last: int) -> None:
    """Run the whole steps `first` to `last` of a table of (entry point, row, guard) on one thread."""
    for i in range(first, last):
        if is_taken(table, guards, i):
            call_entry(table[3 * i], table[3 * i + 1], 0, 1)


@kernel
def run_table_shared(
    table: Array, guards: Array, taken: Array, done: Array, current: Array, run: int, steps: int
) -> None:
    """Run steps in shares on several threads that all call this; `steps` packs first, last and the number of shares.

    Returns when all steps are done, or as soon as `current` is another run.
    """
    first, last, shares = steps >> 38, steps >> 12 & 0x3FFFFFF, steps & 0xFFF
    for i in range(first, last):
        if not is_taken(table, guards, i):
            continue
        while True:
            share = take_share(taken, i * _LINE, run, shares)
            if share == shares:
                break
            call_entry(table[3 * i], table[3 * i + 1], share, shares)
            atomic_add(done, i * _LINE, 1)
        spins = 0
        while atomic_load(done, i * _LINE) < shares:
            if atomic_load(current, 0) != run:
                return
            spins += 1
            if spins < _SPINS:
                pause()
            else:
                yield_processor()


@kernel
def note_time(times: Array, at: int, part: int, parts: int) -> None:
    """Write the clock's nanoseconds to `times[at]`, as a step that runs when the steps before it have ended."""
    if part == 0:
        times[at] = nanoseconds()


HAS_CLOCK = not DISABLED and sys.platform != "win32"
"""Whether `note_time` can run here."""


_NO_GUARDS = np.zeros(1, np.uint8)


class Program:
    """Bound kernels that run in order; `kept` is the memory that they use and don't keep alive themselves.

    `guards` has the index of each kernel's guard among the bytes of the arena, 0 for none.
    """

    def __init__(self, steps: Sequence[BoundKernel], guards: Sequence[int] = (), arena: Array = _NO_GUARDS) -> None:
        self.steps, self.guards = steps, guards if any(guards) else [0] * len(steps)
        self.kept: Any = None
        self._bytes = arena[: max(guards) + 1] if any(guards) else _NO_GUARDS
        if DISABLED:
            return
        cells = [(s.entry_address, s.row_address, guard) for s, guard in zip(steps, self.guards, strict=True)]
        self._table = np.array(cells, np.int64).reshape(-1)
        self._alone = BoundKernel(run_table, (self._table, self._bytes))

    @cached_property
    def _shared(self) -> BoundKernel:
        self._taken, self._done = np.zeros((2, len(self.steps) * _LINE), np.int64)
        self._current = np.zeros(1, np.int64)
        arrays = self._table, self._bytes, self._taken, self._done, self._current
        return BoundKernel(run_table_shared, arrays)

    def run(self, threads: int = 1, first: int = 0, last: int | None = None) -> None:
        """Run the steps `first` to `last` on up to `threads` threads, fewer if other runs use them."""
        last = len(self.steps) if last is None else last
        shares = shares_for(threads)
        if DISABLED:
            for step, guard in zip(self.steps[first:last], self.guards[first:last]):
                if guard == 0 or self._bytes[guard]:
                    for part in range(shares):
                        step.run(part, shares)
        elif threads == 1:
            self._alone.run(first, last)
        else:
            _ = self._shared  # creates the counters
            run = int(self._current[0]) + 1
            self._current[0] = run
            self._taken[:] = run * _RUN
            self._done[:] = 0
            run_shared(self._help, run, first << 38 | last << 12 | shares, threads)

    def _help(self, run: int, steps: int) -> None:
        # a method, so that a helper that arrives late keeps all memory alive that the steps read and write
        self._shared.run(run, steps)


def shares_for(threads: int) -> int:
    """Return the number of shares that each step is divided into."""
    return threads * SHARES_PER_THREAD if threads > 1 else 1
