"""Plans on disk: what a session has decided about a model, for the sessions of later processes.

To optimise and plan a small model takes longer than to run it. So a plan for many sizes whose steps are all kernels is
stored: its variants, with the files of the kernels' machine code in the cache, and the constants as the kernels read
them. Running it needs neither passes nor operators.
"""

from __future__ import annotations

import ctypes
import hashlib
import marshal
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from tinyonnx import disk_cache as disk
from tinyonnx.codegen import code_cache
from tinyonnx.codegen.arguments import kinds_of
from tinyonnx.ir import Array
from tinyonnx.limits import Limits
from tinyonnx.runtime.arena import ALIGNMENT, Buffer, allocate_lasting
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.item_loops import ItemLoop
from tinyonnx.runtime.plan import Plan, Unfit
from tinyonnx.runtime.size_table import evaluate
from tinyonnx.runtime.sized_execution import PlanForSizes, Values, Variant, Visible
from tinyonnx.sizes.integers import is_size

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel
    from tinyonnx.runtime.sized import SizedPlan

KEPT = 16
"""Maximum number of stored plans."""

LARGEST = 64 << 20
"""Bytes of constants up to which a plan is stored: reading more takes about as long as planning anew."""

_SCALES = (1, 1 / 2, 2, 1 / 4, 4, 1 / 8, 8, 1 / 16, 16, 1 / 32, 32)
"""A plan is stored with the variants for the sizes at hand times each of these."""

_LENGTH = 8
"""Bytes of the length of the header."""


class PlanStore(NamedTuple):
    """The stored plans of one model for inputs of one kind; `key` identifies both."""

    key: str
    model: str
    limits: Limits
    threads: int

    def read(self, sizes: Hashable) -> StoredPlan | None:
        """The plan for inputs of these sizes, with None for those that vary; None if there is none."""
        memory = disk.read_into(self._file(sizes), allocate_lasting)
        return None if memory is None else _decoded(memory, self)

    def write(self, sizes: Hashable, plan: SizedPlan) -> None:
        """Store a plan, if it consists of kernels alone."""
        evaluate.address(kinds_of([np.empty(0, np.int64)] * 4))  # so that it is compiled in later processes
        values = tuple(symbol.value for symbol in plan.symbols)
        variants = list(_variants(plan, values))
        content = _encoded(plan.plan, variants)
        if content is not None:
            path = self._file(sizes)
            disk.write(path, *content)
            disk.remove_old(path.parent.glob("*"), KEPT)

    def _file(self, sizes: Hashable) -> Path:
        key = hashlib.sha256(repr((self.key, sizes, self.threads, code_cache.machine())).encode()).hexdigest()
        return disk.folder() / "plans" / key[:32]


class StoredKernel(NamedTuple):
    """A kernel by the file of its machine code."""

    file: str

    def address(self, kinds: str) -> int:
        """The address of the machine code. Raises Unfit if it is no longer there."""
        address = code_cache.load_file(self.file)
        if address is None:
            raise Unfit
        return address


class StoredPlan(PlanForSizes):
    """A plan of an earlier process."""

    def __init__(self, plan: Plan, variants: list[Variant]) -> None:
        super().__init__()
        self.plan, self._variants = plan, variants

    def variants_for(self, values: Values) -> list[Variant]:
        """All of them: their tables tell which of them holds."""
        return self._variants


def _variants(plan: SizedPlan, values: Values) -> Iterator[Variant]:
    """The different variants of a plan for these sizes, smaller and larger ones."""
    found: set[int] = set()
    for scale in _SCALES:
        try:
            variant = plan.variant_for(tuple(int(value * scale) for value in values))
        except Unfit:
            continue
        if id(variant) not in found:
            found.add(id(variant))
            yield variant


# -- to bytes -----------------------------------------------------------------------------


class _Constants:
    """Memory that rows refer to, without what lies in it twice."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        ranges = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays if array.nbytes)
        self._merged: list[list[int]] = []
        for begin, end in ranges:
            if self._merged and begin < self._merged[-1][1]:
                self._merged[-1][1] = max(self._merged[-1][1], end)
            else:
                self._merged.append([begin, end])
        self._places: list[int] = []
        self.nbytes = 0
        for begin, end in self._merged:
            self.nbytes += (begin - self.nbytes) % ALIGNMENT
            self._places.append(self.nbytes)
            self.nbytes += end - begin

    def place(self, array: Array) -> int:
        """The offset of an array's first byte."""
        at = np.searchsorted([begin for begin, _ in self._merged], array.ctypes.data, "right") - 1
        return self._places[at] + array.ctypes.data - self._merged[at][0]

    def parts(self) -> Iterator[bytes | memoryview]:
        """The content, with the gaps between."""
        at = 0
        for (begin, end), place in zip(self._merged, self._places, strict=True):
            yield bytes(place - at)
            yield memoryview((ctypes.c_char * (end - begin)).from_address(begin)).cast("B")
            at = place + end - begin


def _encoded(plan: Plan, variants: Sequence[Variant]) -> list[bytes | memoryview] | None:
    """The content of a plan's file; None if it can't be stored."""
    slots = {*plan.inputs, *plan.outputs}
    if not variants or plan.numpy_steps or not slots <= plan.buffers.keys():
        return None
    constants = _Constants([array for variant in variants for _, array in _arrays(variant)])
    if constants.nbytes > LARGEST:
        return None
    files: dict[str, int] = {}
    described = []
    for variant in variants:
        found = _described(variant, constants, files)
        if found is None:
            return None
        described.append(found)
    runs = [(run.first, run.end, 0 if is_size(run.items) else run.items, run.group, run.most) for run in plan.runs]
    buffers = [(slot, plan.buffers[slot].dtype.str) for slot in slots]
    header = marshal.dumps(
        (plan.n_slots, plan.inputs, plan.outputs, len(plan.steps), runs, buffers, list(files), described)
    )
    padding = bytes(-(disk.BEGIN + _LENGTH + len(header)) % ALIGNMENT)
    return [len(header).to_bytes(_LENGTH, "little"), header, padding, *constants.parts()]


def _arrays(variant: Variant) -> Iterator[tuple[int, Array]]:
    """The constants that the rows of a variant refer to, each with the index of its address in the rows."""
    from tinyonnx.codegen.arguments import leaves
    from tinyonnx.sizes.arrays import SizedArray

    calls = [call for entry in variant.entries for call in entry]
    for (_, _, at), args in zip(calls, variant.kept, strict=True):
        for arg in leaves(args):
            if isinstance(arg, np.ndarray):
                yield at, arg
            at += 2 if isinstance(arg, np.ndarray | SizedArray) else 1


def _described(variant: Variant, constants: _Constants, files: dict[str, int]) -> tuple[Any, ...] | None:
    """A variant as plain objects; None if a kernel has no file. `files` numbers the kernels' files."""
    entries = []
    for entry in variant.entries:
        calls = []
        for kernel, kinds, at in entry:
            file = code_cache.file_of(cast("Kernel", kernel), kinds)
            if file is None:
                return None
            calls.append((files.setdefault(file, len(files)), at))
        entries.append(calls)
    places = [(at, constants.place(array)) for at, array in _arrays(variant) if array.nbytes]
    arrays = (variant.rows, variant.places, variant.code, variant.wanted, np.array(places, np.int64))
    buffers = [(b.slot, b.at, b.rank, b.dtype.str, b.layout) for b in variant.buffers]
    numbers = variant.n_values, variant.bytes_at, variant.largest
    return entries, [array.tobytes() for array in arrays], numbers, buffers, variant.counts


# -- and back -----------------------------------------------------------------------------


def _decoded(memory: Array, store: PlanStore) -> StoredPlan:
    begin = disk.BEGIN + _LENGTH
    length = int.from_bytes(memory[disk.BEGIN : begin].tobytes(), "little")
    header = marshal.loads(memory[begin : begin + length].tobytes())
    n_slots, inputs, outputs, n_steps, runs, buffers, files, described = header
    constants = memory[begin + length + -(begin + length) % ALIGNMENT :]
    plan = Plan(
        model=store.model,
        limits=store.limits,
        pool=ConstantPool(),
        graph=cast(Any, None),
        steps=cast(Any, [None] * n_steps),
        constants={},
        buffers={slot: Buffer("", (), np.dtype(dtype), "row_major", 0, 0) for slot, dtype in buffers},
        all_buffers=[],
        arena_bytes=0,
        n_slots=n_slots,
        inputs=inputs,
        outputs=outputs,
        captures=[],
        slot_of={},
        runs=[ItemLoop(*run) for run in runs],
        threads=store.threads,
    )
    kernels = [StoredKernel(file) for file in files]
    return StoredPlan(plan, [_variant_of(constants, kernels, *each) for each in described])


def _variant_of(
    constants: Array, kernels: list[StoredKernel], entries: Any, arrays: list[bytes], numbers: tuple[int, int, int],
    buffers: list[Any], counts: dict[int, int],
) -> Variant:  # fmt: skip
    rows, places, code, wanted, constants_at = (np.frombuffer(array, np.int64) for array in arrays)
    at, offset = constants_at.reshape(-1, 2).T
    rows = rows.copy()
    rows[at] = constants.ctypes.data + offset
    n_values, bytes_at, largest = numbers
    return Variant(
        entries=[[(kernels[file], "", at) for file, at in entry] for entry in entries],
        rows=rows,
        places=places,
        code=code,
        n_values=n_values,
        bytes_at=bytes_at,
        largest=largest,
        wanted=wanted,
        buffers=[Visible(slot, at, rank, np.dtype(dtype), layout) for slot, at, rank, dtype, layout in buffers],
        contents=[],
        counts=counts,
        planned=[],
        kept=constants,
    )
