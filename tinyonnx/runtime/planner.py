"""Make a plan of a graph with known shapes: all decisions that are made before a run.

A node becomes a kernel step if a registered kernel accepts it, else a numpy step; both kinds are in one list, in the
graph's order. A tensor that a kernel reads or writes gets a buffer in the arena, in the memory order that the kernel
needs; if two kernels need different orders, a layout step copies it. All other values are passed by reference from step
to step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.passes.specialise import info_of
from tinyonnx.registry import COMPILED, Fast, Info, all_imported, lookup
from tinyonnx.runtime.arena import BYTE, Buffer, aligned, assign_offsets
from tinyonnx.runtime.branches import Branches
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.inlined_loops import is_loop
from tinyonnx.runtime.inlining import InliningPlanner, keep_through_loops, steps_in_loops
from tinyonnx.runtime.item_loops import ItemLoop, find_runs, shrink_buffers
from tinyonnx.runtime.operator_call import check_sizes
from tinyonnx.runtime.plan import SHAPES_DEPEND_ON_DATA, KernelStep, LayoutStep, NumpyStep, Plan, Step
from tinyonnx.sizes.integers import maximum


def make_plan(
    graph: Graph, *, model: str, limits: Limits, pool: ConstantPool, kernels: bool = True, by_item: bool = True,
    native: bool = False,
) -> Plan:  # fmt: skip
    """Plan a specialised graph.

    With `kernels=False` every step is a numpy step; with `by_item=False` every tensor exists as a whole after its step.
    With `native=True` the bodies of Loop and Scan are steps of the plan, which only native code can execute. Raises
    ResourceError if a tensor exceeds the limit.
    """
    if kernels:
        import tinyonnx.kernels

        if all_imported():
            import tinyonnx.kernels.others  # noqa: F401
    planner = _Planner(graph, model, limits, pool, kernels)
    planner.by_item = by_item
    for node in graph.walk():
        planner.choose(node)
    if kernels and by_item:
        planner.inline_subgraphs(native)
    plan = planner.plan()
    _place_bodies(plan)
    return plan


def _place_bodies(plan: Plan) -> None:
    """Move the buffers of subgraphs into the regions of their steps."""
    for step in plan.numpy_steps:
        for body in step.subplans.values():
            if step.region is not None:
                for buffer in body.all_buffers:
                    buffer.offset += step.region.root.offset
            _place_bodies(body)


class _Planner(InliningPlanner):
    def __init__(
        self, graph: Graph, model: str, limits: Limits, pool: ConstantPool, kernels: bool, outer: _Planner | None = None
    ) -> None:
        self.graph, self.model, self.limits, self.pool, self.kernels = graph, model, limits, pool, kernels
        self.outer, self.by_item = outer, False
        self.slots: dict[int, int] = {}
        self.constants: dict[int, Array] = {}
        self.sizes: dict[int, Value] = {}
        self.buffers: dict[int, Buffer] = {}  # by id of the value
        self.copies: dict[tuple[int, str], Buffer] = {}
        self.all_buffers: list[Buffer] = []
        self.steps: list[Step] = []
        self.chosen: dict[int, Fast] = {} if outer is None else outer.chosen
        self.why: dict[int, str] = {} if outer is None else outer.why
        self.by_sizes: set[int] = set() if outer is None else outer.by_sizes  # values, by id
        self.captured = set() if outer is None else set(map(id, graph.captures()))
        self.status: Buffer | None = None if outer is None else outer.status
        self.branches: Branches = Branches() if outer is None else outer.branches
        self.guard = 0
        self.is_compiled = outer is not None and kernels and all(map(self._is_executed_by_kernels, graph.nodes))

    def plan(self) -> Plan:
        self._check_sizes(self.graph)
        reports = self.branches.failing or any(fast.reports for fast in self.chosen.values())
        if self.outer is None and reports:
            self.status = Buffer("status", (1,), np.dtype(np.int64), "row_major", 0, 0, 0)
        captures = [(value, self._slot(value)) for value in self.graph.captures()]
        inputs = [self._slot(value) for value in self.graph.inputs]
        for value in (*(value for value, _ in captures), *self.graph.inputs):
            self._buffer(value)
        for node in self.graph.nodes:
            self._add_step(node)
        outputs = self._output_slots()
        results = self._results()
        for value in () if self.outer is None else (*self.graph.outputs, *self.graph.inputs):
            self._touch(value, len(self.steps))
        self._find_steps_by_sizes()
        keep_through_loops(self.steps)
        self._share_in_place()
        runs = self._split_batches()
        self._release(set(outputs))
        arena_bytes = self._assign_offsets()
        return Plan(
            model=self.model,
            limits=self.limits,
            pool=self.pool,
            graph=self.graph,
            steps=self.steps,
            constants=self.constants,
            buffers={self.slots[key]: buffer for key, buffer in self.buffers.items() if key in self.slots},
            all_buffers=self.all_buffers,
            arena_bytes=arena_bytes,
            n_slots=len(self.slots),
            inputs=inputs,
            outputs=outputs,
            captures=captures,
            slot_of=self.slots,
            sizes=self.sizes,
            runs=runs,
            results=results,
            status=self.status,
            weight_bytes=sum(
                x.nbytes for s in self.steps if isinstance(s, KernelStep) for x in s.inputs if isinstance(x, np.ndarray)
            ),
        )

    def _assign_offsets(self) -> int:
        """Place the buffers, after the status and guards if there are any; return the size of the arena in bytes."""
        nbytes = assign_offsets(self.all_buffers)
        head = 0 if self.status is None and not self.branches.inlined else aligned(self.branches.guards_end)
        if self.outer is not None or not head:
            return nbytes
        for buffer in self.all_buffers:
            if buffer.shares is None:
                buffer.offset += head
        return nbytes + head

    # -- choices ------------------------------------------------------------------------

    def _check_sizes(self, graph: Graph) -> None:
        for node in graph.nodes:
            outputs, inputs = ([info_of(v) for v in values] for values in (node.outputs, node.inputs))
            check_sizes(self.model, node, outputs, inputs, self.limits)

    def choose(self, node: Node) -> None:
        """Choose the kernel of a node, or record why there is none."""
        if not self.kernels:
            self.why[id(node)] = "kernels are off"
            return
        if self._follows_from_sizes(node):
            self.why[id(node)] = "it follows from the sizes of the inputs, and runs once for each"
            return
        candidates = lookup(node.domain, node.op_type, node.opset).fast
        if not candidates:
            self.why[id(node)] = "no kernel for this operator"
            return
        infos = [info_of(v) for v in node.inputs]
        outs = [info_of(v) for v in node.outputs]
        out = outs[0]
        known = [i for i in (*infos, *outs) if i is not None]
        if any(i.shape is None or i.dtype is None for i in known):
            self.why[id(node)] = SHAPES_DEPEND_ON_DATA
            return
        scalar = infos[1] if node.op_type == "Reshape" and len(infos) > 1 else None  # its target shape is empty
        if any(0 in (i.shape or ()) for i in known if i is not scalar):
            self.why[id(node)] = "a tensor is empty"
            return
        second = any(v is not None and v.uses for v in node.outputs[1:])
        reasons = []
        for candidate in candidates:
            if out is None and not candidate.outputs:
                reason: str | None = "the first output is absent"
            elif second and not candidate.outputs:
                reason = "a second output is read"
            else:
                reason = self._reason(candidate, out, infos, node)
            if reason is None:
                self.chosen[id(node)] = candidate
                return
            reasons.append(reason)
        self.why[id(node)] = "; ".join(dict.fromkeys(reasons))

    def _follows_from_sizes(self, node: Node) -> bool:
        """Return whether a node's results are known before a run, so that later steps may need them for planning."""
        given = [value for value in node.inputs if value is not None]
        known = all(value.is_constant or id(value) in self.by_sizes for value in given)
        if not known or node.subgraphs or all(value.const is not None for value in given):
            return False
        self.by_sizes.update(id(value) for value in node.outputs if value is not None)
        return True

    @staticmethod
    def _reason(candidate: Fast, out: Info | None, infos: list[Info | None], node: Node) -> str | None:
        return candidate.when(out, *infos, **node.attributes)

    def _layout(self, value: Value) -> str:
        """Return the memory order of a value: that of its producer's kernel, else the order that its readers need.

        Inputs of one item keep their own order, because a kernel transposes them several times as fast as numpy. In
        batches there would be a second copy of all items.
        """
        if any(value is fed for fed in self.graph.inputs) and (self.outer is not None or _is_one_item(value)):
            return "row_major"
        node = value.producer
        if node is not None and id(node) in self.branches.inlined and is_loop(node):
            return "row_major"
        fast = self.chosen.get(id(node)) if node is not None else None
        if fast is not None and fast.layout != "any":
            return fast.layout
        if fast is not None and node is not None:
            first = next((v for v in node.inputs if v is not None and id(v) in self.buffers), None)
            if first is not None:
                return self.buffers[id(first)].layout
        for user, _ in value.uses:
            wish = self.chosen.get(id(user))
            if wish is not None and wish.layout != "any":
                return wish.layout
        return "row_major"

    # -- steps --------------------------------------------------------------------------

    def _slot(self, value: Value) -> int:
        if id(value) not in self.slots:
            self.slots[id(value)] = len(self.slots)
            if value.const is not None:
                self.constants[self.slots[id(value)]] = value.const
            elif value.sizes is not None:
                self.sizes[self.slots[id(value)]] = value
        return self.slots[id(value)]

    def _buffer(self, value: Value) -> Buffer | None:
        """Return the buffer of a value that a kernel writes or reads, made on first use."""
        if id(value) in self.buffers:
            return self.buffers[id(value)]
        if id(value) in self.captured:
            assert self.outer is not None
            outer = self.outer.buffers.get(id(value)) or self.outer.captured_buffer(value)
            if outer is not None:
                shared = Buffer(value.name, outer.shape, outer.dtype, outer.layout, 0, 0, shares=outer)
                self.buffers[id(value)] = shared
            return self.buffers.get(id(value))
        written = value.producer is not None and self._is_executed_by_kernels(value.producer)
        is_fed = (
            self.is_compiled
            and any(value is fed for fed in self.graph.inputs)
            and None not in (value.static_shape, value.dtype)
        )
        wanted = id(value) in self.branches.read or any(id(user) in self.chosen for user, _ in value.uses)
        if not is_fed and not written and not wanted:
            return None
        shape = value.static_shape
        assert shape is not None
        assert value.dtype is not None
        buffer = self._new_buffer(value.name, shape, value.dtype, self._layout(value))
        self.buffers[id(value)] = buffer
        return buffer

    def captured_buffer(self, value: Value) -> Buffer | None:
        """Return the buffer of a value that a subgraph captures, even if it comes from outside of this graph."""
        return self._buffer(value) if id(value) in self.captured else None

    def _results(self) -> list[Buffer | Array] | None:
        """Return the outputs of a subgraph that kernels compute, in row-major order; None if there are other steps."""
        if not self.is_compiled or any(id(value) not in self.buffers for value in self.graph.inputs):
            return None
        results: list[Buffer | Array] = []
        for value in self.graph.outputs:
            buffer = value.const if value.const is not None else self._buffer(value)
            if buffer is None:
                return None
            results.append(self._in_layout(value, "row_major") if isinstance(buffer, Buffer) else buffer)
            if isinstance(results[-1], Buffer):
                results[-1].end = len(self.steps)
        return results

    def _new_buffer(self, name: str, shape: tuple[int, ...], dtype: Any, layout: str) -> Buffer:
        buffer = Buffer(name, shape, dtype, layout, len(self.steps), len(self.steps))
        self.all_buffers.append(buffer)
        return buffer

    def _output_slots(self) -> list[int]:
        """Return the slots of the outputs, or of copies in the order that the caller gets.

        They are kept until the run ends.
        """
        slots, buffers = [self._slot(value) for value in self.graph.outputs], []
        for i, value in enumerate(self.graph.outputs):
            buffer = None if self.outer else self.buffers.get(id(value))
            if buffer is not None and buffer.layout != "row_major" and not buffer.one_order and _is_one_item(value):
                buffer = self._in_layout(value, "row_major")
                self.buffers[id(buffer)] = buffer
                slots[i] = self.slots.setdefault(id(buffer), len(self.slots))
            if buffer is not None:
                buffers.append(buffer)
        for buffer in buffers:
            buffer.end = len(self.steps)
        return slots

    def _touch(self, value: Value, step: int) -> None:
        buffer = self.buffers.get(id(value))
        if buffer is not None:
            buffer.end = max(buffer.end, step)

    def _in_layout(self, value: Value, layout: str) -> Buffer:
        """Return the value's buffer, or a copy of it in another memory order."""
        buffer = self._buffer(value)
        assert buffer is not None
        if layout in ("any", buffer.layout) or buffer.one_order:
            return buffer
        key = (id(value), layout)
        if key not in self.copies:
            self.copies[key] = self._new_buffer(f"{value.name}:{layout}", buffer.shape, buffer.dtype, layout)
            buffer.end = len(self.steps)
            self.steps.append(LayoutStep(buffer, self.copies[key], self.guard))
        return self.copies[key]

    def _add_step(self, node: Node) -> None:
        if id(node) in self.branches.inlined:
            (self._add_loop if is_loop(node) else self._add_branches)(node)
            return
        fast = self.chosen.get(id(node))
        if fast is None:
            self._add_numpy_step(node)
        else:
            self._add_kernel_step(node, fast)

    def _add_numpy_step(self, node: Node) -> None:
        """Add a step that runs the operator in numpy, and the plans of its subgraphs."""
        step = NumpyStep(
            node,
            [-1 if v is None else self._slot(v) for v in node.inputs],
            [-1 if v is None or not v.uses else self._slot(v) for v in node.outputs],
            self.why[id(node)],
        )
        if self.kernels:
            step.compiled = COMPILED.get(lookup(node.domain, node.op_type, node.opset).function)
        for subgraph in node.subgraphs:
            inner = _Planner(subgraph, self.model, self.limits, self.pool, self.kernels, self)
            step.subplans[id(subgraph)] = inner.plan()
        room = maximum(0, *(body.arena_bytes for body in step.subplans.values()))
        if room:
            step.region = self._new_buffer(f"{node.label}: subgraphs", (room,), BYTE, "row_major")
        for value in _reads(node):
            self._touch(value, len(self.steps))
        for result in node.outputs:
            if result is not None and result.uses:
                self._buffer(result)
        for subplan in step.subplans.values():
            for value, _ in subplan.captures:
                self._slot(value)
        self.steps.append(step)

    def _add_kernel_step(self, node: Node, fast: Fast) -> None:
        """Add a step that runs a kernel, after the copies of its operands that it needs in another memory order."""
        written = next(value for value in node.outputs if value is not None)
        layout = self._layout(written) if fast.layout == "any" else fast.layout
        operands = [self._operand(value, layout) for value in node.inputs]
        for operand in operands:
            if isinstance(operand, Buffer):
                operand.end = len(self.steps)
        first, *others = node.outputs
        results = [first, *(value if value is not None and value.uses else None for value in others)]
        targets = [None if value is None else self._buffer(value) for value in results]
        self.steps.append(KernelStep(node, fast, operands, targets, self.guard))
        for result in results:
            if result is not None:
                self._slot(result)

    def _operand(self, value: Value | None, layout: str) -> Buffer | Array | None:
        """Return an operand of a kernel: a constant, sizes, or a buffer in this memory order; None if it is absent."""
        if value is None:
            return None
        if value.is_constant:
            return value.sizes if value.const is None else value.const
        return self._in_layout(value, layout)

    def _find_steps_by_sizes(self) -> None:
        """Mark the steps whose outputs follow from the sizes of the inputs; these outputs are kept through all runs."""
        if not self.sizes or self.outer is not None:
            return
        known = {*self.constants, *self.sizes}
        for step in self.steps:
            if (
                not isinstance(step, NumpyStep)
                or step.subplans
                or not known.issuperset(s for s in step.inputs if s >= 0)
            ):
                continue
            if lookup(step.node.domain, step.node.op_type, step.node.opset).pure:
                step.by_sizes = True
                known.update(slot for slot in step.outputs if slot >= 0)
                for value in step.node.outputs:
                    buffer = None if value is None else self.buffers.get(id(value))
                    if buffer is not None:
                        buffer.start, buffer.end = 0, len(self.steps)

    # -- lifetimes ----------------------------------------------------------------------

    def _share_in_place(self) -> None:
        """Let an in-place kernel overwrite its first input if the step is the last use of that input."""
        own = set(map(id, self.all_buffers))  # values of enclosing graphs have steps of their own
        for position, step in enumerate(self.steps):
            if not isinstance(step, KernelStep) or not step.fast.in_place:
                continue
            source, target = step.inputs[0], step.output
            if not isinstance(source, Buffer) or source.root.end != position or id(source.root) not in own:
                continue
            if sum(operand is source for operand in step.inputs) == 1 and _same_memory(source, target):
                target.shares = source.root
                source.root.end = max(source.root.end, target.end)

    def _split_batches(self) -> list[ItemLoop]:
        """Find the steps that go through the batch item by item."""
        if not self.by_item:
            return []
        looped = steps_in_loops(self.steps)
        runs = find_runs(
            [
                s if isinstance(s, KernelStep) and s.fast.by_item and not s.guard and not is_looped else None
                for s, is_looped in zip(self.steps, looped)
            ]
        )
        fed = {id(self.buffers[id(v)]) for v in self.graph.inputs if id(v) in self.buffers}
        shrink_buffers(runs, self.all_buffers, lambda buffer: id(buffer) in fed)
        return runs

    def _release(self, kept: set[int]) -> None:
        """Release values that are passed by reference after their last reader."""
        by_reference = set(self.slots.values()) - set(self.constants) - set(self.sizes)
        by_reference -= {self.slots[key] for key in self.buffers if key in self.slots}
        last: dict[int, NumpyStep] = {}
        for step in self.steps:
            if isinstance(step, NumpyStep) and not step.by_sizes:
                captured = [self.slots[id(v)] for sub in step.subplans.values() for v, _ in sub.captures]
                for slot in (*step.inputs, *step.outputs, *captured):
                    if slot in by_reference and slot not in kept:
                        last[slot] = step
        for slot, step in last.items():
            step.release.append(slot)


def _is_one_item(value: Value) -> bool:
    return bool(value.shape) and value.shape[0] == 1  # type: ignore[index]  # which is no None here


def _same_memory(a: Buffer, b: Buffer) -> bool:
    """Return whether the elements of two buffers are in the same memory order."""
    if a.dtype != b.dtype or a.layout != b.layout:
        return False
    return a.shape == b.shape or (a.layout == "row_major" and a.nbytes == b.nbytes)


def _reads(node: Node) -> Iterable[Value]:
    """Return all values that a node reads, captured ones included."""
    yield from (v for v in node.inputs if v is not None)
    for subgraph in node.subgraphs:
        yield from subgraph.captures()
