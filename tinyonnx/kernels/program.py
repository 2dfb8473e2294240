"""Programs: many bound kernels, run one after the other by a single call, on one thread or several.

A program is a table of integers (entry point and row of each step). Every thread walks
through the same table, does its share of every step and waits at a barrier for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.kernels._kernel import DISABLED, Bound, Primitive, jit, kernel
from tinyonnx.threads import run_shared


def _native(*_: int) -> int:
    raise NotImplementedError("exists in machine code alone")


def _primitive(name: str) -> Primitive:
    primitive = Primitive(_native)
    primitive.__name__ = name
    return primitive


call_entry, atomic_add, atomic_load, pause, yield_processor = map(
    _primitive, ("call_entry", "atomic_add", "atomic_load", "pause", "yield_processor")
)

_ARRIVED, _GENERATION, _ABANDONED, _SYNC_SIZE = 8, 24, 40, 56
"""Positions of the barrier's counters: in cache lines of their own, whatever the array's alignment."""

_SPINS = 4000
"""Some tens of microseconds, longer than shares of a step differ; then other threads are let run."""


@jit
def wait_for_all(sync: Array, parts: int) -> None:
    """Return when all threads have come here, or one never will."""
    generation = atomic_load(sync, _GENERATION)
    if atomic_add(sync, _ARRIVED, 1) == parts - 1:
        atomic_add(sync, _ARRIVED, -parts)
        atomic_add(sync, _GENERATION, 1)
        return
    spins = 0
    while atomic_load(sync, _GENERATION) == generation:
        spins += 1
        if spins < _SPINS:
            pause()
        elif atomic_load(sync, _ABANDONED) != 0:
            return
        else:
            yield_processor()


@kernel
def run_table(table: Array, span: Array, sync: Array, part: int, parts: int) -> None:
    """The steps of a table of (entry point, row) from span[0] to span[1]."""
    for i in range(span[0], span[1]):
        call_entry(table[2 * i], table[2 * i + 1], part, parts)
        if parts > 1:
            wait_for_all(sync, parts)


class Program:
    """Bound kernels that run in order."""

    def __init__(self, steps: Sequence[Bound]) -> None:
        self.steps = steps
        self.span = np.zeros(2, np.int64)
        self.sync = np.zeros(_SYNC_SIZE, np.int64)
        if not DISABLED:
            table = np.array([[step.entry_address, step.row_address] for step in steps], np.int64).reshape(-1)
            self._run = Bound(run_table, (table, self.span, self.sync))

    def run(self, threads: int = 1, first: int = 0, last: int | None = None) -> None:
        """Run the steps `first` to `last` on up to so many threads: fewer if others are using them."""
        last = len(self.steps) if last is None else last
        if DISABLED:
            for step in self.steps[first:last]:
                for part in range(threads):
                    step.run(part, threads)
            return
        self.span[:] = first, last
        if threads == 1:
            self._run.run(0, 1)
            return
        try:
            run_shared(self._run.run, threads)
        except BaseException:  # Ctrl-C before this thread's share: nobody may wait for it
            self.sync[_ABANDONED] = 1
            raise
