"""Write units of several CPU levels as one assembly file, one file of constants, and object files.

Constants are stored once, in the order of the first level. If another level has the same numbers in another
order, the runs to copy are stored instead, and the program rearranges the constants when it starts. Of a single
level, those that are float16 numbers times factors may be stored as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.native.dialects import Elf
from tinyonnx.native.halves import POWERS, halved
from tinyonnx.native.unit import Constant, Place, Unit
from tinyonnx.runtime.arena import ALIGNMENT


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

    calls = [cell for kernel, row in unit.calls for cell in (Place("kernel", 0, kernel), row)]
    lines = [
        dialect.pointers,
        *array("calls", calls),
        *array("places", [cell for place in unit.places for cell in place]),
        *array("runs", runs.tolist()),
        *array("half_runs", constants.half_runs),
        dialect.data,
        ".p2align 4",
        *array("words", unit.words),
    ]
    return lines, memory + wanted


class _Constants:
    """The bytes of all constants, each at the start of a cache line."""

    def __init__(self, halve: bool) -> None:
        self.halve = halve
        self.factors, self.half_runs = [POWERS], list[int]()
        self._halves: list[bytes] = []
        self.parts: list[bytes] = []
        self.size = 0
        self._offsets: dict[bytes, int] = {}
        self._origins = np.empty(0, np.int64)
        self._elements = np.empty(0, np.uint32)

    def add(self, constants: Sequence[Constant]) -> tuple[list[tuple[str, int]], Array, int]:
        """Add a level's constants.

        Returns section and offset of each, the runs that unpack those that aren't kept as they
        are, and the bytes of these.
        """
        first = not self.parts
        places, runs, unpacked = [], [np.empty((0, 5), np.int64)], 0
        for constant in constants:
            content = constant.content.tobytes()
            if self.halve and self._halve(constant, unpacked // 4):
                places.append(("unpacked", unpacked))
                unpacked += -(-len(content) // ALIGNMENT) * ALIGNMENT
                continue
            sources = None if first or content in self._offsets else self._sources(constant)
            if sources is None:
                places.append(("constants", self._keep(content)))
                continue
            places.append(("unpacked", unpacked))
            found = runs_of(sources)
            found[:, 0] += unpacked // 4
            runs.append(found)
            unpacked += -(-len(content) // ALIGNMENT) * ALIGNMENT
        if first:
            self._remember([] if self.halve else constants)
        return places, np.concatenate(runs).reshape(-1), unpacked

    @property
    def halves_size(self) -> int:
        """Bytes of all float16 numbers."""
        return sum(map(len, self._halves))

    def halves(self) -> bytes:
        """The low bytes of all float16 numbers, then the high bytes."""
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

    def _remember(self, constants: Sequence[Constant]) -> None:
        """Record the position of each numbered element among the constants."""
        numbered = [(c.ids, self._offsets[c.content.tobytes()] // 4) for c in constants if c.ids is not None]
        self._origins = np.full(max((ids.max() for ids, _ in numbered), default=0) + 1, -1, np.int64)
        for ids, offset in numbered:
            self._origins[ids] = offset + np.arange(len(ids))
        self._origins[0] = -1
        self._elements = np.frombuffer(b"".join(self.parts), np.uint32)

    def _sources(self, constant: Constant) -> Array | None:
        """Return the position of an equal element for every element, counted in float32, or -1 for zero."""
        if constant.ids is None or constant.ids.max() >= len(self._origins):
            return None
        sources: Array = self._origins[constant.ids]
        there = np.where(sources < 0, 0, self._elements[sources])
        return sources if np.array_equal(there, constant.content.view(np.uint32)) else None


def runs_of(sources: Array) -> Array:
    """Rows (target, source, length, step, count) for `unpack`, from the source of each element or -1."""
    before = np.concatenate([[-2], sources[:-1]])
    starts = np.flatnonzero((sources != before + 1) | (before < 0))
    lengths = np.diff(starts, append=len(sources))
    present = sources[starts] >= 0
    starts, lengths = starts[present], lengths[present]
    origins = sources[starts]
    # equal runs may follow each other in one row, as long as the step is the same
    alike = (lengths[1:] == lengths[:-1]) & (starts[1:] == starts[:-1] + lengths[:-1])
    links = np.where(alike, np.diff(origins), -np.arange(1, len(alike) + 1) - len(origins) - sources.max(initial=0))
    changes = np.append(np.flatnonzero(links[1:] != links[:-1]) + 1, len(links))
    rows = []
    at = 0
    while at < len(starts):
        count, step = 1, 0
        if at < len(links) and alike[at]:
            count = int(changes[np.searchsorted(changes, at, "right")]) - at + 1
            step = int(links[at])
        rows.append((starts[at], origins[at], lengths[at], step, count))
        at += count
    return np.array(rows, np.int64).reshape(-1, 5)
