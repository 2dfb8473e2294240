"""Buffers and their offsets in one arena."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any, cast

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.sizes.arrays import SizedArray, is_sized
from tinyonnx.sizes.integers import is_size, maximum, value_of

_MANY = 3000
"""Above this many buffers, pairwise placement (quadratic) is too slow."""

ALIGNMENT = 64
"""Alignment in bytes: a cache line, which is also the widest vector."""

LARGE_PAGE = 2 << 20
"""Size of a huge page on x86-64 and ARM64 in bytes."""

BLOCK = 4 * LARGE_PAGE
"""Block size: twice the 4 MiB from which numpy requests huge pages."""


BYTE = np.dtype(np.uint8)


@dataclass(eq=False)
class Buffer:
    """Memory for one tensor in the arena while steps `start` to `end` run.

    `layout` is the memory order: "channels_last" keeps axis 1 innermost (rank 3 and up), "row_major" is C order; the
    array has its logical shape in either case. `shares` is the buffer whose memory this one takes over (an in-place
    step).
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    layout: str
    start: int
    end: int
    offset: int = -1
    shares: Buffer | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def one_order(self) -> bool:
        """Return whether both layouts are the same memory order: with one channel, or one pixel."""
        return len(self.shape) < 3 or self.shape[1] == 1 or math.prod(self.shape[2:]) == 1

    @property
    def root(self) -> Buffer:
        """Return the buffer that owns the memory."""
        return self if self.shares is None else self.shares.root

    def view(self, arena: Array) -> Array:
        """Return the tensor as an array in `arena` (uint8), in its logical shape."""
        offset = self.root.offset
        if is_sized(arena):
            flat: Any = cast(SizedArray, arena).part(offset, (math.prod(self.shape),), self.dtype)
        else:
            flat = arena[offset : offset + self.nbytes].view(self.dtype)
        return cast(Array, _in_layout(flat, self.shape, self.layout))


def view_of(arena: Array, offset: int, shape: Sequence[int], dtype: np.dtype[Any], layout: str) -> Array:
    """Return a view of the memory of a buffer with these properties."""
    flat = arena[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype)
    return cast(Array, _in_layout(flat, shape, layout))


def _in_layout(flat: Any, shape: Sequence[int], layout: str) -> Any:
    """Return a view of memory in the logical shape of a tensor."""
    if layout == "channels_last" and len(shape) > 2:
        batch, channels, *space = shape
        return flat.reshape(batch, *space, channels).transpose(0, len(space) + 1, *range(1, len(space) + 1))
    return flat.reshape(shape)


def channels_innermost(x: Array) -> Array:
    """Return a view of an array (batch, channels, ...) as (batch, ..., channels)."""
    # called hundreds of times per plan, and np.moveaxis takes ten times as long
    return x.transpose(0, *range(2, x.ndim), 1)


def assign_offsets(buffers: list[Buffer]) -> int:
    """Give every buffer an offset so that none overlaps another that lives at the same time.

    Buffers are placed one by one, each into the smallest gap that holds it: the largest first
    or, where that wastes memory, in whichever other order gives the smallest arena. This takes quadratic
    time; more than _MANY buffers only reuse places of their own size instead. Returns the arena's size in bytes.
    Source: Pisarchyk & Lee, Efficient Memory Management for Deep Neural Net Inference, 2020 (greedy by size for offset
    calculation).

    Where sizes are expressions, so are offsets: buffers keep the order in memory that they get for the sizes at hand.
    """
    owners = [b for b in buffers if b.shares is None]
    if len(owners) > _MANY:
        return _place_by_size(owners)
    if any(is_size(b.nbytes) for b in owners):
        return _express_offsets(owners)
    orders: list[Callable[[Buffer], Any]] = [
        lambda b: -b.nbytes,
        lambda b: -b.nbytes * (b.end - b.start + 1),
        lambda b: (b.start, -b.nbytes),
        lambda b: (-(b.end - b.start), -b.nbytes),
    ]
    floor = _largest_sum(owners)
    best: list[int] = []
    total = -1
    for order in orders:
        size = _place(sorted(owners, key=order))
        if total < 0 or size < total:
            total, best = size, [b.offset for b in owners]
        if total <= floor or 4 * len(owners) > _MANY:
            break
    for buffer, offset in zip(owners, best, strict=True):
        buffer.offset = offset
    return max(total, 0)


def _express_offsets(buffers: list[Buffer]) -> int:
    """Set offsets for all sizes: each buffer starts where those below it that are live at the same time end."""
    stand_ins = [Buffer(b.name, (value_of(b.nbytes),), BYTE, b.layout, b.start, b.end) for b in buffers]
    assign_offsets(stand_ins)
    order = sorted(range(len(buffers)), key=lambda i: stand_ins[i].offset)
    below: dict[int, int] = {}  # the buffers below each one, directly or indirectly, as bits
    ends: list[int] = [0] * len(buffers)
    tops = 0
    for at, i in enumerate(order):
        buffer, implied, offset = buffers[i], 0, 0
        for j in reversed(order[:at]):
            other = buffers[j]
            if not implied >> j & 1 and other.start <= buffer.end and buffer.start <= other.end:
                implied |= below[j] | 1 << j
                offset = maximum(offset, ends[j])
        below[i] = implied
        tops = tops & ~implied | 1 << i
        buffer.offset, ends[i] = offset, offset + aligned(buffer.nbytes)
    nbytes: int = maximum(0, *(end for i, end in enumerate(ends) if tops >> i & 1))
    return nbytes


def _place_by_size(buffers: list[Buffer]) -> int:
    """Assign offsets in one pass over time: a buffer gets a free place of its size, or a new one.

    Sizes may be expressions. Returns the size of the arena.
    """
    sizes: dict[int, int] = {}  # by id, or numbers by value: equal expressions are the same object
    places: dict[int, int] = {}  # number of places of each size
    free: dict[int, list[int]] = {}
    chosen: list[tuple[Buffer, int, int]] = []
    living: list[tuple[int, int, int]] = []
    for buffer in sorted(buffers, key=lambda b: b.start):
        size = aligned(buffer.nbytes)
        key = id(size) if is_size(size) else size
        sizes[key] = size
        while living and living[0][0] < buffer.start:
            _, freed, place = heappop(living)
            free.setdefault(freed, []).append(place)
        if free.get(key):
            place = free[key].pop()
        else:
            place = places.get(key, 0)
            places[key] = place + 1
        chosen.append((buffer, key, place))
        heappush(living, (buffer.end, key, place))
    starts: dict[int, int] = {}
    total = 0
    for key, count in places.items():
        starts[key], total = total, total + count * sizes[key]
    for buffer, key, place in chosen:
        buffer.offset = starts[key] + place * sizes[key]
    return total


def _largest_sum(buffers: list[Buffer]) -> int:
    """Return the largest number of bytes that are live at one time: no arena can be smaller."""
    changes: dict[int, int] = {}
    for b in buffers:
        size = aligned(b.nbytes)
        changes[b.start] = changes.get(b.start, 0) + size
        changes[b.end + 1] = changes.get(b.end + 1, 0) - size
    return max(accumulate(changes[step] for step in sorted(changes)), default=0)


def _place(buffers: list[Buffer]) -> int:
    """Assign offsets in this order; return the size of the arena."""
    placed: list[Buffer] = []
    total = 0
    for buffer in buffers:
        size = aligned(buffer.nbytes)
        neighbours = [b for b in placed if b.start <= buffer.end and buffer.start <= b.end]
        best, best_gap, position = -1, -1, 0
        for other in sorted(neighbours, key=lambda b: b.offset):
            gap = other.offset - position
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = position, gap
            position = max(position, other.offset + aligned(other.nbytes))
        buffer.offset = position if best < 0 else best
        placed.append(buffer)
        total = max(total, buffer.offset + size)
    return total


def allocate(size: int) -> Array:
    """Allocate `size` uninitialised bytes at a multiple of ALIGNMENT (LARGE_PAGE for large sizes)."""
    alignment = LARGE_PAGE if size >= BLOCK // 2 else ALIGNMENT
    raw = np.empty(size + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


_rests: list[Array] = []
"""Unused ends of blocks. A list, because its pop and append are atomic: safe with threads and across fork."""


def allocate_lasting(size: int) -> Array:
    """Allocate memory that lives as long as a model; small arrays share blocks large enough for huge pages.

    Weights that are spread over thousands of small pages take a twentieth longer to read.
    """
    taken = aligned(size)
    if taken >= BLOCK // 2:
        return allocate(size)
    try:
        rest = _rests.pop()
    except IndexError:
        rest = allocate(0)
    if len(rest) < taken:
        rest = allocate(BLOCK)
    _rests.append(rest[taken:])
    return rest[:size]


def aligned(size: int) -> int:
    """Round a size up to whole cache lines."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
