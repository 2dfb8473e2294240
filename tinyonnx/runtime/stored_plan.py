"""Plans on disk: a session's decisions about a model, for the sessions of later processes.

To optimise and plan a small model takes longer than to run it. So a plan is stored unless one of its nodes has
subgraphs: its variants, with the files of the kernels' machine code in the cache, the numpy steps, and the constants as
all of these read them. Running it needs no passes, and the operators of its numpy steps alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import marshal
import math
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from tinyonnx import disk_cache as disk
from tinyonnx.codegen import code_cache
from tinyonnx.codegen.arguments import kinds_of
from tinyonnx.ir import Array, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.runtime.arena import ALIGNMENT, Buffer, allocate_lasting
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.item_loops import ItemLoop
from tinyonnx.runtime.plan import LayoutStep, NumpyStep, Plan, Unfit
from tinyonnx.runtime.size_table import evaluate
from tinyonnx.runtime.sized_execution import PlanForSizes, Shown, Values, Variant, Visible
from tinyonnx.runtime.stages import Split
from tinyonnx.sizes.expressions import SMALLEST
from tinyonnx.sizes.integers import is_size

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel
    from tinyonnx.runtime.sized import SizedPlan

KEPT = 24
"""Maximum number of stored plans."""

LARGEST = 64 << 20
"""Maximum bytes of constants in a stored plan; reading more takes about as long as planning anew."""

_SCALES = (1, 1 / 2, 2, 1 / 4, 4, 1 / 8, 8, 1 / 16, 16, 1 / 32, 32)
"""Factors of the current sizes; a plan is stored with the variants for each."""

_SPLIT = "split"
"""In the place of sizes in the name of a file: how the graph is divided into stages."""

_LENGTH = 8
"""Number of bytes of the header's length."""

_SCALARS = (bool, int, float, str, bytes)
"""Types of attributes that are stored, besides lists of them and arrays."""


def can_be_stored(plan: Plan) -> bool:
    """Return whether a plan for many sizes, made after the first run, could be stored."""
    with_bodies = any(step.subplans for step in plan.numpy_steps)
    return not with_bodies and sum(v.const.nbytes for v in plan.graph.initializers if v.const is not None) <= LARGEST


class PlanStore(NamedTuple):
    """The stored plans of one model for inputs of one kind; `key` identifies both."""

    key: str
    model: str
    limits: Limits
    threads: int

    def read(self, sizes: Hashable) -> StoredPlan | None:
        """Return the plan for inputs of these sizes, with None for sizes that vary; None if there is none."""
        memory = disk.read_into(self._file(sizes), allocate_lasting)
        return None if memory is None else _decoded(memory, self)

    def write(self, sizes: Hashable, plan: SizedPlan) -> None:
        """Store a plan, if it can be."""
        evaluate.address(kinds_of([np.empty(0, np.int64)] * 4))  # so that it is compiled in later processes
        values = tuple(symbol.value for symbol in plan.symbols)
        variants = list(_variants(plan, values))
        content = _encoded(plan.plan, variants)
        if content is not None:
            path = self._file(sizes)
            disk.write(path, *content)
            disk.remove_old(path.parent.glob("*"), KEPT)

    def read_split(self) -> Split | None:
        """Return how the graph is divided into stages; None if it is not, or that was not stored."""
        content = disk.read(self._file(_SPLIT))
        return None if content is None else Split(*marshal.loads(content))

    def write_split(self, split: Split) -> None:
        """Store how the graph is divided into stages."""
        disk.write(self._file(_SPLIT), marshal.dumps(tuple(split)))

    def _file(self, sizes: Hashable) -> Path:
        key = hashlib.sha256(repr((self.key, sizes, self.threads, code_cache.machine())).encode()).hexdigest()
        return disk.folder() / "plans" / key[:32]


class _NotStorable(Exception):
    """A part of the plan can't be written."""


class StoredKernel(NamedTuple):
    """A kernel by the file of its machine code."""

    file: str

    def address(self, kinds: str) -> int:
        """Return the address of the machine code. Raises Unfit if the file is missing."""
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
        """Return all variants; their tables tell which of them is valid."""
        return self._variants


def _variants(plan: SizedPlan, values: Values) -> Iterator[Variant]:
    """Return the different variants of a plan for these sizes, smaller and larger ones."""
    found: set[int] = set()
    for scale in _SCALES:
        scaled = tuple(int(value * scale) for value in values)
        if min(scaled, default=SMALLEST) < SMALLEST:
            continue
        try:
            variant = plan.variant_for(scaled)
        except Unfit:
            continue
        if id(variant) not in found:
            found.add(id(variant))
            yield variant


# -- to bytes -----------------------------------------------------------------------------


class _Constants:
    """Memory that rows refer to, each array stored once."""

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
        """Return the offset of an array's first byte."""
        at = np.searchsorted([begin for begin, _ in self._merged], array.ctypes.data, "right") - 1
        return self._places[at] + array.ctypes.data - self._merged[at][0]

    def parts(self) -> Iterator[bytes | memoryview]:
        """Return the content, with the gaps between arrays."""
        at = 0
        for (begin, end), place in zip(self._merged, self._places, strict=True):
            yield bytes(place - at)
            yield memoryview((ctypes.c_char * (end - begin)).from_address(begin)).cast("B")
            at = place + end - begin


def _encoded(plan: Plan, variants: Sequence[Variant]) -> list[bytes | memoryview] | None:
    """Return the content of a plan's file; None if it can't be stored."""
    if not variants or any(step.subplans for step in plan.numpy_steps):
        return None
    fixed = _constant_slots(plan)
    arrays = [*fixed.values(), *(array for variant in variants for _, array in _arrays(variant))]
    constants = _Constants(arrays)
    if constants.nbytes > LARGEST:
        return None
    files: dict[str, int] = {}
    try:
        described = [_described(variant, constants, files) for variant in variants]
        steps = [_step(step) if isinstance(step, NumpyStep) else step.guard for step in plan.steps]
        values = [(slot, _dtype(a.dtype), a.shape, constants.place(a) if a.size else 0) for slot, a in fixed.items()]
        buffers = [(buffer.slot, _dtype(buffer.dtype)) for buffer in variants[0].shown[0].buffers]
        runs = [(run.first, run.end, 0 if is_size(run.items) else run.items, run.group, run.most) for run in plan.runs]
        parts = plan.n_slots, plan.inputs, plan.outputs, steps, runs, buffers, values, list(files), described
        header = marshal.dumps((*parts, plan.status is not None))
    except (_NotStorable, ValueError):  # ValueError: of marshal
        return None
    padding = bytes(-(disk.BEGIN + _LENGTH + len(header)) % ALIGNMENT)
    return [len(header).to_bytes(_LENGTH, "little"), header, padding, *constants.parts()]


def _constant_slots(plan: Plan) -> dict[int, Array]:
    """Return the constants that numpy steps and the caller read, each in one piece."""
    read = {*plan.outputs, *(slot for step in plan.numpy_steps for slot in step.inputs)}
    return {slot: np.asarray(array, order="C") for slot, array in plan.constants.items() if slot in read}


def _step(step: NumpyStep) -> tuple[Any, ...]:
    """Return a numpy step without subgraphs as plain objects. Raises _NotStorable."""
    if step.compiled is not None:
        raise _NotStorable
    node = step.node
    outputs = [None if v is None else (v.name, _dtype(v.dtype), _shape(v.static_shape)) for v in node.outputs]
    attributes = {name: _plain(value) for name, value in node.attributes.items()}
    operator = node.op_type, node.domain, node.opset, node.name, node.index
    return operator, outputs, attributes, step.inputs, step.outputs, step.release, step.by_sizes


def _shape(shape: tuple[Any, ...] | None) -> tuple[int, ...] | None:
    """Return a shape with 0 for sizes that vary, which each run computes."""
    return None if shape is None else tuple(0 if is_size(size) else int(size) for size in shape)


def _dtype(dtype: np.dtype[Any] | None) -> str | None:
    """Return the name of a type of numbers. Raises _NotStorable for other types."""
    if dtype is None:
        return None
    if dtype.kind not in "biufc" or np.dtype(dtype.str) != dtype:
        raise _NotStorable
    return dtype.str


def _plain(value: Any) -> Any:
    """Return an attribute as marshal takes it; an array as (dtype, shape, content). Raises _NotStorable."""
    if isinstance(value, np.ndarray):
        return _dtype(value.dtype), value.shape, value.tobytes()
    if isinstance(value, list) and all(type(item) in _SCALARS for item in value):
        return value
    if value is None or type(value) in _SCALARS:
        return value
    raise _NotStorable


def _arrays(variant: Variant) -> Iterator[tuple[int, Array]]:
    """Return the constants that the rows of a variant refer to, each with the index of its address in the rows."""
    from tinyonnx.codegen.arguments import leaves
    from tinyonnx.sizes.arrays import SizedArray

    calls = [call for entry in variant.entries for call in entry]
    for (_, _, at), args in zip(calls, variant.kept, strict=True):
        for arg in leaves(args):
            if isinstance(arg, np.ndarray):
                yield at, arg
            at += 2 if isinstance(arg, np.ndarray | SizedArray) else 1


def _described(variant: Variant, constants: _Constants, files: dict[str, int]) -> tuple[Any, ...]:
    """Return a variant as plain objects.

    `files` numbers the kernels' files. Raises _NotStorable if a kernel has none.
    """
    entries = []
    for entry in variant.entries:
        calls = []
        for kernel, kinds, at in entry:
            file = code_cache.file_of(cast("Kernel", kernel), kinds)
            if file is None:
                raise _NotStorable
            calls.append((files.setdefault(file, len(files)), at))
        entries.append(calls)
    places = [(at, constants.place(array)) for at, array in _arrays(variant) if array.nbytes]
    arrays = (variant.rows, variant.places, variant.code, variant.wanted, np.array(places, np.int64))
    (shown,) = variant.shown
    buffers = [(b.slot, b.at, b.rank, _dtype(b.dtype), b.layout) for b in shown.buffers]
    contents = [(slot, at, _dtype(dtype), shape) for slot, at, dtype, shape in shown.contents]
    planned = [[s if s is None else (s[0], s[1], _dtype(s[2])) for s in shapes] for shapes in shown.planned]
    numbers = variant.n_values, variant.bytes_at, variant.largest
    return entries, [array.tobytes() for array in arrays], numbers, buffers, contents, variant.counts, planned


# -- and back -----------------------------------------------------------------------------


def _decoded(memory: Array, store: PlanStore) -> StoredPlan:
    begin = disk.BEGIN + _LENGTH
    length = int.from_bytes(memory[disk.BEGIN : begin].tobytes(), "little")
    header = marshal.loads(memory[begin : begin + length].tobytes())
    n_slots, inputs, outputs, steps, runs, buffers, values, files, described, has_status = header
    constants = memory[begin + length + -(begin + length) % ALIGNMENT :]
    plan = Plan(
        model=store.model,
        limits=store.limits,
        pool=ConstantPool(),
        graph=cast(Any, None),
        steps=[_kernel_step(step) if isinstance(step, int) else _numpy_step(*step) for step in steps],
        constants={slot: _array(constants[at:], *kind) for slot, *kind, at in values},
        buffers={slot: Buffer("", (), np.dtype(dtype), "row_major", 0, 0) for slot, dtype in buffers},
        all_buffers=[],
        arena_bytes=0,
        n_slots=n_slots,
        inputs=inputs,
        outputs=outputs,
        captures=[],
        slot_of={},
        runs=[ItemLoop(*run) for run in runs],
        status=Buffer("status", (1,), np.dtype(np.int64), "row_major", 0, 0, 0) if has_status else None,
        threads=store.threads,
    )
    kernels = [StoredKernel(file) for file in files]
    return StoredPlan(plan, [_variant_of(constants, kernels, *each) for each in described])


def _array(content: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return the array at the beginning of these bytes."""
    count = math.prod(shape)
    return np.frombuffer(content, dtype, count).reshape(shape) if count else np.empty(shape, dtype)


def _kernel_step(guard: int) -> LayoutStep:
    """Return a step of kernels, whose rows are stored elsewhere."""
    return LayoutStep(cast(Any, None), cast(Any, None), guard)


def _numpy_step(
    operator: Any, outputs: list[Any], attributes: dict[str, Any], inputs: list[int], slots: list[int],
    release: list[int], by_sizes: bool,
) -> NumpyStep:  # fmt: skip
    op_type, domain, opset, name, index = operator
    values = [None if v is None else Value(v[0], None if v[1] is None else np.dtype(v[1]), v[2]) for v in outputs]
    given = {key: _attribute(value) for key, value in attributes.items()}
    node = Node(op_type, [], values, given, domain=domain, opset=opset, name=name, index=index)
    return NumpyStep(node, inputs, slots, "", release=release, by_sizes=by_sizes)


def _attribute(value: Any) -> Any:
    """Return the attribute that `_plain` described."""
    if isinstance(value, tuple):
        dtype, shape, content = value
        return np.frombuffer(content, dtype).reshape(shape)
    return value


def _variant_of(
    constants: Array, kernels: list[StoredKernel], entries: Any, arrays: list[bytes], numbers: tuple[int, int, int],
    buffers: list[Any], contents: list[Any], counts: dict[int, int], planned: list[list[Any]],
) -> Variant:  # fmt: skip
    rows, places, code, wanted, constants_at = (np.frombuffer(array, np.int64) for array in arrays)
    at, offset = constants_at.reshape(-1, 2).T
    rows = rows.copy()
    rows[at] = constants.ctypes.data + offset
    n_values, bytes_at, largest = numbers
    shown = Shown(
        buffers=[Visible(slot, at, rank, np.dtype(dtype), layout) for slot, at, rank, dtype, layout in buffers],
        contents=[(slot, at, np.dtype(dtype), shape) for slot, at, dtype, shape in contents],
        planned=[[s if s is None else (s[0], s[1], np.dtype(s[2])) for s in shapes] for shapes in planned],
        results=None,
        nbytes=0,
    )
    return Variant(
        entries=[[(kernels[file], "", at) for file, at in entry] for entry in entries],
        rows=rows,
        places=places,
        code=code,
        n_values=n_values,
        bytes_at=bytes_at,
        largest=largest,
        wanted=wanted,
        counts=counts,
        shown=[shown],
        kept=constants,
    )
