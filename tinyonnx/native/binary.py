"""Write units of several CPU levels as one assembly file, one file of constants, and object files.

Constants are stored once, in the order of the first level. If another level has the same numbers in another
order, the runs to copy are stored instead, and the program rearranges the constants when it starts. Numbers that
bfloat16 has take two bytes, in pairs as the first level packs them or one after the other. Of a single level, those
that are float16 numbers times factors may be stored as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.native.dialects import Elf
from tinyonnx.native.halves import POWERS, halved
from tinyonnx.native.model import CompileError
from tinyonnx.native.unit import Constant, Place, Unit
from tinyonnx.runtime.arena import ALIGNMENT

_MANY = 1024
"""Minimum number of float32 values that are stored as bfloat16, which is done if it loses no bits."""


def write(units: Sequence[Unit], folder: Path, dialect: Elf, *, halve: bool = False) -> list[Path]:
    """Write the files to be linked into a folder; return those to pass to the compiler.

    With `halve`, which takes a single unit, constants are stored as float16 where that gives their bits.
    """
    assert not halve or len(units) == 1
    constants = _Constants(halve)
    texts = [_level(unit, f"level{i}", constants, dialect) for i, unit in enumerate(units)]
    memory = max(size for _, size in texts)
    (folder / "constants").write_bytes(b"".join(constants.parts))
    (folder / "halves").write_bytes(constants.halves())
    (folder / "factors").write_bytes(np.concatenate(constants.factors).tobytes())
    assembly = folder / "layout.s"
    head = _head(folder, units, memory, dialect)
    assembly.write_text("\n".join([*head, *(line for lines, _ in texts for line in lines), ""]))
    files = [assembly]
    for unit in units:
        for symbol, content in unit.objects:
            files.append(folder / f"{symbol}.o")
            files[-1].write_bytes(content)
    return files


def _head(folder: Path, units: Sequence[Unit], memory: int, dialect: Elf) -> Iterator[str]:
    for unit in units:
        for symbol, _ in unit.objects:
            yield from dialect.function(symbol)
    yield dialect.constants
    for name in ("constants", "factors", "halves"):
        yield f".p2align {ALIGNMENT.bit_length() - 1}"
        yield from dialect.begin(name)
        yield f'.incbin "{(folder / name).as_posix()}"'
        yield from dialect.end(name)
    yield from dialect.zeros("memory", max(memory, 1))
    yield dialect.pointers
    yield ".p2align 3"
    yield from dialect.visible("tinyonnx_levels")
    yield from dialect.begin("tinyonnx_levels")
    for i in range(len(units)):
        yield from dialect.cells([(f"level{i}_calls", 0), (f"level{i}_places", 0)])
    yield from dialect.end("tinyonnx_levels")


def _level(unit: Unit, name: str, constants: _Constants, dialect: Elf) -> tuple[list[str], int]:
    """Return the lines of a level, and the bytes of memory that it needs."""
    rooms, memory = [], 0
    for size in unit.memory:
        rooms.append(memory)
        memory += -(-size // ALIGNMENT) * ALIGNMENT
    unpacked, runs, wanted = constants.add(unit.constants)
    sections: dict[str, int | tuple[str, int]] = {
        "constants": ("constants", 0),
        "length of constants": constants.size // 4,
        "runs": (f"{name}_runs", 0),
        "length of runs": runs.size,
        "unpacked": ("memory", memory),
        "length of unpacked": wanted // 4,
        "bytes of unpacked": wanted,
        "half runs": (f"{name}_half_runs", 0),
        "length of half runs": len(constants.half_runs),
        "halves": ("halves", 0),
        "length of halves": constants.halves_size,
        "factors": ("factors", 0),
        "length of factors": sum(map(len, constants.factors)),
        "words": (f"{name}_words", 0),
        "length of words": len(unit.words),
        "all memory": ("memory", 0),
        "length of all memory": memory // 4,
    }

    def resolved(cell: int | Place) -> int | tuple[str, int]:
        if isinstance(cell, int):
            return cell
        match cell.section:
            case "constant":
                section, offset = unpacked[cell.number]
                found = sections[section]
                cell = cell._replace(offset=offset + cell.offset)
            case "kernel":
                found = (unit.objects[cell.number][0], 0)
            case "memory":
                found = ("memory", rooms[cell.number])
            case other:
                found = sections[other]
        return found + cell.offset if isinstance(found, int) else (found[0], found[1] + cell.offset)

    def array(label: str, cells: Sequence[int | Place]) -> list[str]:
        label = f"{name}_{label}"
        return [*dialect.begin(label), *dialect.cells(list(map(resolved, cells))), *dialect.end(label)]

    def array_of_numbers(label: str, values: Sequence[int]) -> list[str]:
        label = f"{name}_{label}"
        return [".p2align 3", *dialect.begin(label), *numbers(values), *dialect.end(label)]

    calls = [cell for kernel, row in unit.calls for cell in (Place("kernel", 0, kernel), row)]
    lines = [
        dialect.pointers,
        *array("calls", calls),
        *array("places", [cell for place in unit.places for cell in place]),
        dialect.constants,
        *array_of_numbers("runs", runs.tolist()),
        *array_of_numbers("half_runs", constants.half_runs),
        dialect.data,
        ".p2align 4",
        *array("words", unit.words),
    ]
    return lines, memory + wanted


def numbers(values: Sequence[int]) -> list[str]:
    """Return directives for numbers of four bytes each. Raises CompileError if they need more."""
    if max(map(abs, values), default=0) > np.iinfo(np.int32).max:
        raise CompileError("the constants have more than 2^31 elements, which a binary can't hold")
    return [f".long {', '.join(map(str, values[i : i + 16]))}" for i in range(0, len(values), 16)]


class _Constants:
    """The bytes of all constants, each at the start of a cache line."""

    def __init__(self, halve: bool) -> None:
        self.halve = halve
        self.factors, self.half_runs = [POWERS], list[int]()
        self._halves: list[bytes] = []
        self.parts: list[bytes] = []
        self.size = 0
        self._offsets: dict[bytes, int] = {}
        self._origins, self._bfloat16 = _Origins(np.uint32), _Origins(np.uint16)

    def add(self, constants: Sequence[Constant]) -> tuple[list[tuple[str, int]], Array, int]:
        """Add a level's constants.

        Returns section and offset of each, the runs that unpack those that aren't kept as they
        are, and the bytes of these.
        """
        first = not self.parts
        places, runs, unpacked = [], [np.empty((0, 7), np.int64)], 0
        for constant in constants:
            content = constant.content.tobytes()
            if self.halve and self._halve(constant, unpacked // 4):
                places.append(("unpacked", unpacked))
                unpacked += -(-len(content) // ALIGNMENT) * ALIGNMENT
                continue
            found = None if content in self._offsets else self._runs(constant, first)
            if found is None:
                offset = self._keep(content)
                places.append(("constants", offset))
                if first and constant.ids is not None and constant.ids.ndim == 2:
                    self._bfloat16.note(constant.ids.reshape(-1), offset // 2)
                elif first:
                    self._origins.note(constant.ids, offset // 4)
                continue
            places.append(("unpacked", unpacked))
            found[:, 0] += unpacked // 4
            runs.append(found)
            unpacked += -(-len(content) // ALIGNMENT) * ALIGNMENT
        if first:
            for origins in (self._origins, self._bfloat16):
                origins.close(b"".join(self.parts))
        return places, np.concatenate(runs).reshape(-1), unpacked

    @property
    def halves_size(self) -> int:
        """The size of all float16 numbers in bytes."""
        return sum(map(len, self._halves))

    def halves(self) -> bytes:
        """Return the low bytes of all float16 numbers, then the high bytes."""
        pairs = np.frombuffer(b"".join(self._halves), np.uint8)
        return pairs[::2].tobytes() + pairs[1::2].tobytes()

    def _halve(self, constant: Constant, target: int) -> bool:
        """Add a constant as float16 numbers for element `target` on of those unpacked, if that is possible."""
        found = halved(constant)
        if found is None:
            return False
        source, factor = self.halves_size // 2, sum(map(len, self.factors))
        for start, length, count, first in found.runs.tolist():
            self.half_runs += target + start, source + start, length, count, factor + first
        self._halves.append(found.halves.astype("<f2").tobytes())
        self.factors.append(found.factors)
        return True

    def _keep(self, content: bytes) -> int:
        if content not in self._offsets:
            self._offsets[content] = self.size
            padding = -len(content) % ALIGNMENT
            self.parts += content, bytes(padding)
            self.size += len(content) + padding
        return self._offsets[content]

    def _runs(self, constant: Constant, first: bool) -> Array | None:
        """Return the runs that unpack a constant from elements stored already, or now as bfloat16;

        None if it needs others.
        """
        content, ids = constant.content, constant.ids
        if content.dtype != np.float32 or (ids is not None and ids.ndim != 1):
            return None
        if not first and ids is not None and (sources := self._origins.find(ids, content.view(np.uint32))) is not None:
            return runs_of(sources)
        halves = content.view(np.uint16).reshape(-1, 2)
        if halves[:, 0].any():
            return None
        sources = None if first or ids is None else self._bfloat16.find(ids, halves[:, 1])
        if sources is not None:
            return min((runs_of(sources, stride) for stride in (1, 2)), key=len)
        if content.size < _MANY:
            return None
        start = self._keep(halves[:, 1].tobytes()) // 2
        if first:
            self._bfloat16.note(ids, start)
        return np.array([[0, start, content.size, 1, 0, 0, 1]], np.int64)


class _Origins:
    """Positions of numbered elements among the constants of the first level, counted in elements of one type."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._noted: list[tuple[Array, int]] = []
        self._places = np.empty(0, np.int64)
        self._elements = np.empty(0, dtype)

    def note(self, ids: Array | None, start: int) -> None:
        """Record that elements of these ids follow each other from a position on."""
        if ids is not None:
            self._noted.append((ids, start))

    def close(self, content: bytes) -> None:
        """End recording; `content` is what is stored."""
        self._places = np.full(max((ids.max() for ids, _ in self._noted), default=0) + 1, -1, np.int64)
        for ids, start in self._noted:
            self._places[ids] = start + np.arange(len(ids))
        self._places[0] = -1
        self._elements = np.frombuffer(content, self._dtype)

    def find(self, ids: Array, elements: Array) -> Array | None:
        """Return the position of an equal element for every element, or -1 for zero; None if some have none."""
        if ids.max() >= len(self._places):
            return None
        sources: Array = self._places[ids]
        there = np.where(sources < 0, 0, self._elements[sources])
        return sources if np.array_equal(there, elements) else None


def runs_of(sources: Array, stride: int = 0) -> Array:
    """Return rows for `kernels.unpack` from the source of each element or -1.

    Without a stride the sources of a run follow each other; with one they are halves of elements, `stride` apart.
    """
    before = np.concatenate([[-2], sources[:-1]])
    starts = np.flatnonzero((sources != before + max(stride, 1)) | (before < 0))
    lengths = np.diff(starts, append=len(sources))
    origins = sources[starts]
    rows = [np.empty((0, 7), np.int64)]
    for first in range(max(stride, 1)):
        chosen = (origins >= 0) & (origins % max(stride, 1) == first)
        rows.append(_series(starts[chosen], origins[chosen], lengths[chosen], stride))
    return np.concatenate(rows)


def _series(starts: Array, origins: Array, lengths: Array, stride: int) -> Array:
    """Return rows of runs, one for runs of equal lengths that are equally far apart."""
    alike, steps = lengths[1:] == lengths[:-1], np.stack([np.diff(starts), np.diff(origins)])
    goes_on = alike[1:] & alike[:-1] & (steps[:, 1:] == steps[:, :-1]).all(axis=0)
    ends = np.append(np.flatnonzero(~goes_on) + 1, len(alike))
    rows = []
    at = 0
    while at < len(starts):
        count, step = 1, (0, 0)
        if at < len(alike) and alike[at]:
            count = int(ends[np.searchsorted(ends, at, "right")]) - at + 1
            step = tuple(steps[:, at].tolist())
        rows.append((starts[at], origins[at], lengths[at], stride, *step, count))
        at += count
    return np.array(rows, np.int64).reshape(-1, 7)
