"""Choose the steps of a plan that go through a batch item by item, so that their results stay in the cache.

An image is written by one step and read by the next. With a whole batch in between, it has been evicted to memory; with
a single item it is still cached. The cost is that the weights are read again for each item, so this is done where
images are larger than weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

from tinyonnx.ir import Array
from tinyonnx.runtime.arena import Buffer
from tinyonnx.sizes.integers import is_size, value_of

_CACHE = 1 << 20
"""Typical L2 size in bytes: smaller batches fit in L2 without splitting."""

_MOST = 64
"""Maximum number of groups of items; each needs a row of arguments for each step."""

_LEAST = 4
"""Minimum number of groups that a loop over a varying number of items has rows for."""


class HasBuffers(Protocol):
    """A step's input and output buffers, all that this module reads of it."""

    @property
    def inputs(self) -> Sequence[Buffer | Array | None]: ...

    @property
    def outputs(self) -> Sequence[Buffer | None]: ...


class ItemLoop(NamedTuple):
    """Steps `first` to `end` (exclusive), which go through a batch of `items` in groups of `group`.

    If `items` is an expression, there are `most` groups of one item, of which the first `items` are executed.
    """

    first: int
    end: int
    items: int
    group: int
    most: int = 0

    @property
    def groups(self) -> list[slice]:
        items = self.most or self.items
        return [slice(at, min(at + self.group, items)) for at in range(0, items, self.group)]


def find_runs(steps: Sequence[HasBuffers | None]) -> list[ItemLoop]:
    """Return the item loops of a plan; `steps` has None for steps that need all items at once."""
    batches = [0 if step is None else _batch(step) for step in steps]
    runs, at = [], 0
    for items, group in groupby(batches):
        count = len(list(group))
        if items > 1:
            gains = [_gain(step, value_of(items)) for step in steps[at : at + count] if step is not None]
            first, end = _best(gains)
            if end - first > 1:
                runs.append(_loop(at + first, at + end, items))
        at += count
    return runs


def _loop(first: int, end: int, items: int) -> ItemLoop:
    if is_size(items) and value_of(items) <= _MOST:
        most = max(_LEAST, 1 << (value_of(items) - 1).bit_length())
        # both comparisons are recorded: there are rows for all items, and few unused ones
        if items <= most and (most == _LEAST or items > most // 2):
            return ItemLoop(first, end, items, 1, most)
    items = int(items)
    return ItemLoop(first, end, items, -(-items // _MOST))


def shrink_buffers(runs: Sequence[ItemLoop], buffers: Sequence[Buffer], fed: Callable[[Buffer], bool]) -> None:
    """Shrink buffers used only within a run to one group of items; extend the others' lifetime over all of it."""
    for run in runs:
        inside = [b for b in buffers if run.first <= b.root.start and b.root.end < run.end and not fed(b.root)]
        for buffer in inside:
            buffer.shape = (run.group, *buffer.shape[1:])
        known = set(map(id, inside))
        for buffer in buffers:
            if id(buffer) not in known and buffer.start < run.end and buffer.end >= run.first:
                buffer.start, buffer.end = min(buffer.start, run.first), max(buffer.end, run.end - 1)


def _batch(step: HasBuffers) -> int:
    """Return the batch size that all inputs and outputs of a step have, or 0."""
    buffers = _buffers(step)
    first = buffers[0].shape[0] if buffers and buffers[0].shape else 0
    return first if all(b.shape and b.shape[0] == first for b in buffers) else 0


def _gain(step: HasBuffers, items: int) -> int:
    """Return the memory traffic that a step saves by going through the batch item by item, in bytes per item."""
    moved = sum(value_of(buffer.nbytes) for buffer in _buffers(step))
    weights = sum(x.nbytes for x in step.inputs if x is not None and not isinstance(x, Buffer))
    return (moved // items if moved > _CACHE else 0) - weights


def _best(gains: Sequence[int]) -> tuple[int, int]:
    """Return the range with the largest sum, empty if no sum is positive."""
    best = total = begin = 0
    found = (0, 0)
    for i, gain in enumerate(gains):
        if total <= 0:
            total, begin = 0, i
        total += gain
        if total > best:
            best, found = total, (begin, i + 1)
    return found


def _buffers(step: HasBuffers) -> list[Buffer]:
    return [x for x in (*step.inputs, *step.outputs) if isinstance(x, Buffer)]
