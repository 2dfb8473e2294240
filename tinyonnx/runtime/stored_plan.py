"""Plans on disk: a session's decisions about a model, for the sessions of later processes.

To optimise and plan a small model takes longer than to run it. So a plan is stored: its variants, with the files of
the kernels' machine code in the cache, the numpy steps with the plans of their subgraphs, and the constants as all of
these read them. Running it needs no passes, and the operators of its numpy steps alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import marshal
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from tinyonnx import disk_cache as disk
from tinyonnx.codegen import code_cache
from tinyonnx.codegen.arguments import kinds_of
from tinyonnx.ir import Array, Graph, Node, Value
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
    return sum(v.const.nbytes for v in plan.graph.initializers if v.const is not None) <= LARGEST


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
    if not variants:
        return None
    fixed = [_constant_slots(each) for each in plan.with_bodies()]
    arrays = [array for each in fixed for array in each.values()]
    arrays += (array for variant in variants for _, array in _arrays(variant))
    arrays += (x for variant in variants for s in variant.shown for x in s.results or () if isinstance(x, np.ndarray))
    constants = _Constants(arrays)
    if constants.nbytes > LARGEST:
        return None
    files: dict[str, int] = {}
    try:
        described = [_described(variant, constants, files) for variant in variants]
        whole = _plan(plan, None, zip(fixed, variants[0].shown), constants)
        header = marshal.dumps((whole, list(files), described, plan.status is not None))
    except (_NotStorable, ValueError):  # ValueError: of marshal
        return None
    padding = bytes(-(disk.BEGIN + _LENGTH + len(header)) % ALIGNMENT)
    return [len(header).to_bytes(_LENGTH, "little"), header, padding, *constants.parts()]


def _plan(
    plan: Plan, outer: Plan | None, parts: Iterator[tuple[dict[int, Array], Shown]], constants: _Constants
) -> tuple[Any, ...]:
    """Return a plan, and those of its subgraphs, as plain objects.

    `parts` has the constants of each plan, and what Python reads or writes of it. Raises _NotStorable.
    """
    fixed, shown = next(parts)
    captures = [(slot, outer.slot_of[id(value)]) for value, slot in plan.captures] if outer is not None else []
    values = [(slot, _constant(array, constants)) for slot, array in fixed.items()]
    buffers = [(buffer.slot, _dtype(buffer.dtype)) for buffer in shown.buffers]
    runs = [(run.first, run.end, 0 if is_size(run.items) else run.items, run.group, run.most) for run in plan.runs]
    steps = [
        _step(step, [_plan(body, plan, parts, constants) for body in step.subplans.values()])
        if isinstance(step, NumpyStep) else step.guard
        for step in plan.steps
    ]  # fmt: skip
    return plan.n_slots, plan.inputs, plan.outputs, steps, runs, buffers, values, captures, plan.weight_bytes


def _constant(array: Array, constants: _Constants) -> tuple[Any, ...]:
    """Return dtype, shape and place of an array. Raises _NotStorable."""
    return _dtype(array.dtype), array.shape, constants.place(array) if array.size else 0


def _constant_slots(plan: Plan) -> dict[int, Array]:
    """Return the constants that numpy steps and the caller read, each in one piece."""
    read = {*plan.outputs, *(slot for step in plan.numpy_steps for slot in step.inputs)}
    return {slot: np.asarray(array, order="C") for slot, array in plan.constants.items() if slot in read}


def _step(step: NumpyStep, bodies: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return a numpy step with the plans of its subgraphs as plain objects. Raises _NotStorable."""
    if step.compiled is not None:
        raise _NotStorable
    node = step.node
    given = [_value(v) for v in node.inputs] if bodies else []
    outputs = [_value(v) for v in node.outputs]
    attributes = {name: _plain(value) for name, value in node.attributes.items()}
    operator = node.op_type, node.domain, node.opset, node.name, node.index
    return operator, given, outputs, attributes, bodies, step.inputs, step.outputs, step.release, step.by_sizes


def _value(value: Value | None) -> tuple[Any, ...] | None:
    """Return the name, type and shape of a value. Raises _NotStorable."""
    return None if value is None else (value.name, _dtype(value.dtype), _shape(value.static_shape))


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
    """Return an attribute as marshal takes it. Raises _NotStorable.

    An array is (dtype, shape, content), a graph its declared outputs in a dict.
    """
    if isinstance(value, Graph):
        return {"outputs": [(v.name, _dtype(v.dtype), v.type, v.shape) for v in value.declared_outputs]}
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
    shown = [_shown(each, constants) for each in variant.shown]
    numbers = variant.n_values, variant.bytes_at, variant.largest
    return entries, [array.tobytes() for array in arrays], numbers, variant.counts, shown


def _shown(shown: Shown, constants: _Constants) -> tuple[Any, ...]:
    """Return what Python reads or writes as plain objects. Raises _NotStorable."""
    buffers = [_visible(buffer) for buffer in shown.buffers]
    contents = [(slot, at, _dtype(dtype), shape) for slot, at, dtype, shape in shown.contents]
    planned = [[s if s is None else (s[0], s[1], _dtype(s[2])) for s in shapes] for shapes in shown.planned]
    results = shown.results
    if results is not None:
        results = cast(Any, [_visible(x) if isinstance(x, Visible) else _constant(x, constants) for x in results])
    return buffers, contents, planned, results, shown.nbytes


def _visible(buffer: Visible) -> tuple[Any, ...]:
    return buffer.slot, buffer.at, buffer.rank, _dtype(buffer.dtype), buffer.layout


# -- and back -----------------------------------------------------------------------------


def _decoded(memory: Array, store: PlanStore) -> StoredPlan:
    begin = disk.BEGIN + _LENGTH
    length = int.from_bytes(memory[disk.BEGIN : begin].tobytes(), "little")
    header = marshal.loads(memory[begin : begin + length].tobytes())
    whole, files, described, has_status = header
    constants = memory[begin + length + -(begin + length) % ALIGNMENT :]
    plan = _plan_of(whole, None, constants, store, has_status)
    kernels = [StoredKernel(file) for file in files]
    return StoredPlan(plan, [_variant_of(constants, kernels, *each) for each in described])


def _plan_of(stored: Sequence[Any], outer: Plan | None, constants: Array, store: PlanStore, has_status: bool) -> Plan:
    """Return the plan that `_plan` described, for a graph, or for a subgraph of the plan `outer`."""
    n_slots, inputs, outputs, steps, runs, buffers, values, captures, weight_bytes = stored
    captured = [(Value(""), slot, from_slot) for slot, from_slot in captures]
    if outer is not None:
        outer.slot_of.update((id(value), from_slot) for value, _, from_slot in captured)
    plan = Plan(
        model=store.model,
        limits=store.limits,
        pool=ConstantPool(),
        graph=cast(Any, None),
        steps=[],
        constants={slot: _constant_of(constants, stored) for slot, stored in values},
        buffers={slot: Buffer("", (), np.dtype(dtype), "row_major", 0, 0) for slot, dtype in buffers},
        all_buffers=[],
        arena_bytes=0,
        n_slots=n_slots,
        inputs=inputs,
        outputs=outputs,
        captures=[(value, slot) for value, slot, _ in captured],
        slot_of={},
        runs=[ItemLoop(*run) for run in runs],
        status=Buffer("status", (1,), np.dtype(np.int64), "row_major", 0, 0, 0) if has_status else None,
        threads=store.threads,
        weight_bytes=weight_bytes,
    )
    plan.steps += (
        _kernel_step(step)
        if isinstance(step, int)
        else _numpy_step(lambda body: _plan_of(body, plan, constants, store, has_status), *step)
        for step in steps
    )
    return plan


def _constant_of(constants: Array, stored: tuple[str, tuple[int, ...], int]) -> Array:
    """Return the array that `_constant` described."""
    dtype, shape, at = stored
    count = math.prod(shape)
    return np.frombuffer(constants[at:], dtype, count).reshape(shape) if count else np.empty(shape, dtype)


def _kernel_step(guard: int) -> LayoutStep:
    """Return a step of kernels, whose rows are stored elsewhere."""
    return LayoutStep(cast(Any, None), cast(Any, None), guard)


def _numpy_step(
    plan_of: Callable[[Any], Plan], operator: Any, given: list[Any], outputs: list[Any], attributes: dict[str, Any],
    bodies: list[Any], inputs: list[int], slots: list[int], release: list[int], by_sizes: bool,
) -> NumpyStep:  # fmt: skip
    op_type, domain, opset, name, index = operator
    found = {key: _attribute(value) for key, value in attributes.items()}
    node = Node(
        op_type, list(map(_value_of, given)), list(map(_value_of, outputs)), found, domain=domain, opset=opset,
        name=name, index=index,
    )  # fmt: skip
    subplans = {id(graph): plan_of(body) for graph, body in zip(node.subgraphs, bodies, strict=True)}
    return NumpyStep(node, inputs, slots, "", subplans=subplans, release=release, by_sizes=by_sizes)


def _value_of(stored: tuple[Any, ...] | None) -> Value | None:
    """Return the value that `_value` described."""
    return None if stored is None else Value(stored[0], _dtype_of(stored[1]), stored[2])


def _dtype_of(name: str | None) -> np.dtype[Any] | None:
    return None if name is None else np.dtype(name)


def _attribute(value: Any) -> Any:
    """Return the attribute that `_plain` described."""
    if isinstance(value, dict):
        graph = Graph()
        for name, dtype, kind, shape in value["outputs"]:
            output = Value(name, _dtype_of(dtype), shape)
            output.type = kind
            graph.add_output(output)
        return graph
    if isinstance(value, tuple):
        dtype, shape, content = value
        return np.frombuffer(content, dtype).reshape(shape)
    return value


def _variant_of(
    constants: Array, kernels: list[StoredKernel], entries: Any, arrays: list[bytes], numbers: tuple[int, int, int],
    counts: dict[int, int], shown: list[Any],
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
        counts=counts,
        shown=[_shown_of(constants, *each) for each in shown],
        kept=constants,
    )


def _shown_of(
    constants: Array, buffers: list[Any], contents: list[Any], planned: list[list[Any]], results: list[Any] | None,
    nbytes: int,
) -> Shown:  # fmt: skip
    if results is not None:  # a buffer has five parts, a constant three
        results = [_visible_of(*x) if len(x) == 5 else _constant_of(constants, x) for x in results]
    return Shown(
        buffers=[_visible_of(*each) for each in buffers],
        contents=[(slot, at, np.dtype(dtype), shape) for slot, at, dtype, shape in contents],
        planned=[[s if s is None else (s[0], s[1], np.dtype(s[2])) for s in shapes] for shapes in planned],
        results=results,
        nbytes=nbytes,
    )


def _visible_of(slot: int, at: int, rank: int, dtype: str, layout: str) -> Visible:
    return Visible(slot, at, rank, np.dtype(dtype), layout)
