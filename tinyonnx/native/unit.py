"""The part of a binary for one CPU level: object files, constants, and rows of integers that refer to them."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen import code_cache
from tinyonnx.codegen.arguments import cells, kinds_of, leaves
from tinyonnx.codegen.kernel import Kernel
from tinyonnx.codegen.parallel import effort
from tinyonnx.codegen.processor import processor
from tinyonnx.ir import Array
from tinyonnx.sizes.arrays import SizedArray


class Place(NamedTuple):
    """An address that the linker resolves: `offset` bytes into a section.

    Sections are "constant", "kernel" and "memory", zeros at start (several, by `number`), "words", the rows themselves,
    and those that `binary` adds. "length of X" stands for the number of elements of section X.
    """

    section: str
    offset: int = 0
    number: int = 0


Cell = int | Place
"""One number of a row."""

Extent = tuple[Place, Place]
"""An argument that is given as the place and the length of an array."""


def _extent(section: str) -> Extent:
    return Place(section), Place(f"length of {section}")


WORDS = _extent("words")
"""All words, an array of int64."""

UNPACK = (
    *map(_extent, ("runs", "constants", "unpacked")),
    *map(_extent, ("half runs", "halves", "factors", "unpacked")),
)
"""The arguments of `kernels.unpack`."""

UNPACK_KINDS = "<i4 <u4 <u4 <i4 |u1 <f8 <f4"
"""The kinds of these arguments."""

UNPACKED_BYTES = Place("unpacked"), Place("bytes of unpacked")
"""The `unpacked` section as (address, size in bytes)."""


class Constant(NamedTuple):
    """An array that is only read.

    `ids`, if known, number the source of each element: they are of the same shape, or with two columns for pairs of
    bfloat16. `channels` number the rows of the model's tensors (the output channels of convolutions) that elements come
    from. Padding has 0 in both.
    """

    content: Array
    ids: Array | None = None
    channels: Array | None = None


@dataclass
class Unit:
    """Object files, constants and rows of one CPU level, picklable.

    `objects` are pairs of symbol and object file; `memory` the bytes of each room; `words` are
    rows and tables; `calls` (kernel and row) and `places` (with their size in bytes) are what the
    C code refers to, by position.
    """

    level: str = ""
    objects: list[tuple[str, bytes]] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    words: list[Cell] = field(default_factory=list)
    calls: list[tuple[int, Place]] = field(default_factory=list)
    places: list[tuple[Place, Cell]] = field(default_factory=list)


class UnitLayout:
    """Collects calls; arrays are recognised by where they are in this process."""

    def __init__(self) -> None:
        self.unit = Unit(processor().name)
        self._rooms: dict[str, int] = {}
        self._kernels: dict[tuple[Kernel, str], int] = {}
        self._known: dict[bytes, int] = {}
        self._seen: dict[tuple[int, int], tuple[Array, int]] = {}
        self._starts: list[int] = []
        self._regions: list[tuple[int, Place, Array]] = []

    # -- memory and constants -----------------------------------------------------------

    def room(self, name: str, nbytes: int) -> Place:
        """Return the memory of a name; its size is the maximum of all `nbytes`."""
        if name not in self._rooms:
            self._rooms[name] = len(self.unit.memory)
            self.unit.memory.append(0)
        index = self._rooms[name]
        self.unit.memory[index] = max(self.unit.memory[index], nbytes)
        return Place("memory", 0, index)

    def size(self, room: str) -> int:
        """Return the bytes of a room so far."""
        return self.unit.memory[self._rooms[room]]

    def map(self, array: Array, place: Place) -> None:
        """Map an array, and all views within it, to a place in memory."""
        start = array.ctypes.data
        at = bisect_left(self._starts, start)
        if self._starts[at : at + 1] != [start]:
            self._starts.insert(at, start)
            # the array is kept alive, so that no other array gets its address
            self._regions.insert(at, (start + array.nbytes, place, array))

    def constant(self, array: Array, ids: Array | None = None, channels: Array | None = None) -> Place:
        """Return the place of an array's content; equal contents share one place."""
        key = (array.ctypes.data, array.nbytes)
        if key not in self._seen:
            digest = hashlib.sha256(array.tobytes()).digest()
            if digest not in self._known:
                self._known[digest] = len(self.unit.constants)
                self.unit.constants.append(Constant(array.reshape(-1).copy(), ids, channels))
            self._seen[key] = array, self._known[digest]
        return Place("constant", 0, self._seen[key][1])

    def place(self, array: Array) -> Place:
        """Return the place of an array: in memory if `map` has put it there, else among the constants."""
        start = array.ctypes.data
        at = bisect_right(self._starts, start) - 1
        if at >= 0 and start + array.nbytes <= self._regions[at][0]:
            place = self._regions[at][1]
            return place._replace(offset=place.offset + start - self._starts[at])
        return self.constant(array)

    # -- calls --------------------------------------------------------------------------

    def cells(self, args: Sequence[Any]) -> list[Cell]:
        """Return the row of a call; an array may also be given as its place and size. Sizes stay expressions."""
        row: list[Cell] = []
        for arg in args:
            if isinstance(arg, tuple) and isinstance(arg[0], Place):
                row += arg
                continue
            for leaf in leaves([arg]):
                if isinstance(leaf, np.ndarray):
                    row += self.place(leaf), leaf.size
                elif isinstance(leaf, SizedArray):
                    row += leaf.address, leaf.size
                else:
                    row += cells([leaf])
        return row

    def kernel(self, kernel: Kernel, kinds: str) -> int:
        """Return the number of a kernel for arguments of these kinds."""
        if (kernel, kinds) not in self._kernels:
            self._kernels[kernel, kinds] = len(self._kernels)
        return self._kernels[kernel, kinds]

    def finished(self, compiled: Callable[[int, list[float]], None] = lambda done, efforts: None) -> Unit:
        """Compile all kernels and return the unit; `compiled` is called with the number done and all their efforts."""
        efforts = [effort(kernel) for kernel, _ in self._kernels]
        for number, (kernel, kinds) in enumerate(self._kernels):
            compiled(number, efforts)
            self.unit.objects.append(code_cache.linkable(kernel, kinds))
        return self.unit

    def add_words(self, cells: Iterable[Cell]) -> Place:
        """Put numbers among the words."""
        place = Place("words", len(self.unit.words) * 8)
        self.unit.words += cells
        return place

    def add_table(
        self, kernels: Sequence[int], rows: Sequence[Place], guards: Sequence[int] | None = None
    ) -> tuple[int, int]:
        """Add steps for `run_table` to the words; return the first one, and the one after the last."""
        self.unit.words += [0] * (-len(self.unit.words) % 3)
        first = len(self.unit.words) // 3
        steps = zip(kernels, rows, guards or [0] * len(rows))
        self.add_words(cell for kernel, row, guard in steps for cell in (Place("kernel", 0, kernel), row, guard))
        return first, first + len(rows)

    def add_call(self, kernel: Kernel, args: Sequence[Any], kinds: str | None = None) -> Place:
        """Add a call for the C code to make; return its row."""
        number = self.kernel(kernel, kinds_of(args) if kinds is None else kinds)
        row = self.add_words(self.cells(args))
        self.unit.calls.append((number, row))
        return row

    def add_place(self, place: Place, nbytes: Cell) -> None:
        """Add memory that the C code reads or writes."""
        self.unit.places.append((place, nbytes))
