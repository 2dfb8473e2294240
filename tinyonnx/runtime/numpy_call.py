"""Numpy steps, and the bodies of steps with subgraphs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tinyonnx.codegen import code_cache
from tinyonnx.codegen.arguments import kinds_of
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.ir import Array, Graph, Node
from tinyonnx.limits import MAX_RANK, Limits
from tinyonnx.onnxfile.schemas import misfit
from tinyonnx.registry import Info, lookup
from tinyonnx.runtime.arena import Buffer
from tinyonnx.runtime.binding import (
    Environment,
    FastStep,
    KernelSegment,
    arguments,
    kernel_calls,
    scratch_for,
    with_scratch,
)
from tinyonnx.runtime.budget import Budget, RunBytesError
from tinyonnx.runtime.loops import CompiledLoop, compiled_loop
from tinyonnx.runtime.operator_call import VIEWS, OpContext, apply, check_sizes, describe, infer, node_error
from tinyonnx.runtime.plan import NumpyStep, Plan
from tinyonnx.runtime.trace import Hook
from tinyonnx.sizes.integers import is_size

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel

Signature = tuple[Any, ...]
"""Types and shapes of the inputs of a numpy step, with the contents of small ones."""

_SIGNATURES = 64
"""Maximum number of signatures that a step remembers as valid."""


def bound_calls(plan: Plan, arena: Array) -> list[NumpyCall | KernelSegment]:
    """Return the steps of a plan as they are executed: numpy steps, and programs of consecutive kernels."""
    found = kernel_calls(plan, arena)
    scratch = scratch_for(plan, (call for calls in found for call in calls))
    result: list[NumpyCall | KernelSegment] = []
    steps = (plan.steps[position] for position, _ in plan.order)

    def wanted() -> list[tuple[Kernel, str]]:
        calls = [call for calls in found for call in calls]
        return [(call.kernel, kinds_of(arguments(call, scratch, plan.threads))) for call in calls]

    with code_cache.expecting(wanted):
        for is_numpy, run in groupby(zip(steps, found, strict=True), lambda pair: isinstance(pair[0], NumpyStep)):
            if is_numpy:
                result += (_numpy_call(plan, cast(NumpyStep, step), arena) for step, _ in run)
            else:
                kernels = [
                    (cast(FastStep, step), [with_scratch(call, scratch, plan.threads) for call in calls])
                    for step, calls in run
                ]
                result.append(KernelSegment(kernels, arena, plan.threads))
    return result


def _numpy_call(plan: Plan, step: NumpyStep, arena: Array) -> NumpyCall:
    bodies = {}
    for key, subplan in step.subplans.items():
        body = bodies[key] = Body(plan, subplan, bound_calls(subplan, arena))
        results = None
        if subplan.results is not None:
            results = [x.view(arena) if isinstance(x, Buffer) else np.asarray(x, order="C") for x in subplan.results]
        body.place(bound_template(subplan, arena), results, subplan.arena_bytes)
    call = NumpyCall(plan, step, arena, bodies)
    call.compile_loop()
    return call


def bound_template(plan: Plan, arena: Array) -> Environment:
    """Return the values of a plan's slots before it runs: constants, and views of buffers."""
    template: Environment = [None] * plan.n_slots
    for slot, array in plan.constants.items():
        template[slot] = array
    for slot, buffer in plan.buffers.items():
        template[slot] = buffer.view(arena)
    return template


def _info(value: Any) -> Info | None:
    """Describe a value for a shape rule, with its content only if it is small enough to be a shape."""
    if not isinstance(value, np.ndarray):
        return None if value is None else Info(None, None)
    return Info(value.dtype, value.shape, value if value.size <= MAX_RANK else None)


def _room(node: Node, outputs: Iterable[tuple[Any, Any] | None]) -> int:
    """Return the bytes of a node's results, where dtypes and shapes are known and the results can't be views."""
    if not node.domain and node.op_type in VIEWS:
        return 0
    known = [pair for pair in outputs if pair is not None and None not in pair and not any(map(is_size, pair[1]))]
    return sum(math.prod(shape) * dtype.itemsize for dtype, shape in known)


def _are_small(results: Sequence[Any], limits: Limits) -> bool:
    """Return whether all results are tensors within the limits; False for empty ones, of which other sizes count."""
    most = limits.max_tensor_bytes
    return all(type(x) is np.ndarray and 0 < x.nbytes <= most and x.ndim <= MAX_RANK for x in results)


def constants_of(plan: Plan) -> Iterator[Array]:
    """Return the constants of a plan and of its subgraphs' plans."""
    yield from plan.constants.values()
    for step in plan.numpy_steps:
        for subplan in step.subplans.values():
            yield from constants_of(subplan)


class NumpyCall:
    """A numpy step, bound to its plan; `bodies` are its subgraphs, by the id of their graph."""

    def __init__(self, plan: Plan, step: NumpyStep, arena: Array, bodies: dict[int, Body]) -> None:
        self.plan, self.step, self.arena, self.bodies = plan, step, arena, bodies
        self.expect([None if v is None else (v.dtype, v.static_shape) for v in step.node.outputs])
        self.unforeseen = any(v is not None and v.static_shape is None for v in step.node.outputs)
        node = step.node
        self.op = lookup(node.domain, node.op_type, node.opset)
        self.varying = [i for i, slot in enumerate(step.inputs) if slot >= 0 and slot not in plan.constants]
        self.loop: CompiledLoop | None = None

    def compile_loop(self) -> None:
        """Let one call run many iterations, if possible; anew whenever the bodies have been placed elsewhere."""
        self.loop = compiled_loop(self.plan, self.step, self.bodies, self.arena) if self.bodies else None

    def expect(self, planned: list[tuple[Any, Any] | None]) -> None:
        """Set the dtype and shape of each output, as far as they are known."""
        self.planned, self.room = planned, _room(self.step.node, planned)
        self.valid: dict[Signature, int] = {}  # bytes of the results by the inputs they were inferred from

    def run(self, environment: Environment, budget: Budget, hook: Hook | None = None) -> None:
        """Run the step on the values of its inputs. Raises NodeError, ResourceError."""
        step, plan = self.step, self.plan
        budget.check()
        inputs = [environment[slot] if slot >= 0 else None for slot in step.inputs]
        ctx = self._context(environment, budget, hook) if self.op.takes_ctx else None
        signature = self._signature(inputs)
        room = self.valid.get(signature)
        if room is None:
            room = self._check(inputs)
        outer = budget.enter() if self.bodies else None
        try:
            if room:
                budget.check_room(room)
            results = None
            if self.loop is not None and ctx is not None and hook is None and not budget.step_by_step:
                results = self._run_loop(self.loop, inputs, ctx, budget)
            if results is None:
                results = apply(plan.model, step.node, self.op, inputs, ctx, step.compiled)
            if self.unforeseen and not _are_small(results, plan.limits):
                check_sizes(plan.model, step.node, list(map(_info, results)), inputs, plan.limits)
            if outer is not None:
                budget.leave(outer)
            self._store(results, inputs, environment, budget)
        except RunBytesError as error:
            raise ResourceError(str(node_error(plan.model, step.node, error, inputs))) from None
        if signature:
            if len(self.valid) >= _SIGNATURES:
                self.valid.clear()
            self.valid[signature] = room
        for slot in step.release:
            budget.release(environment[slot])
            environment[slot] = None
        if hook is not None:
            hook(step.node, results)

    def _signature(self, inputs: Sequence[Any]) -> Signature:
        """Return what types and shapes of the results are inferred from; () if that is not a few numbers."""
        signature: list[Any] = []
        for i in self.varying:
            x = inputs[i]
            if type(x) is not np.ndarray or x.dtype == object:
                return ()
            signature += (x.dtype, x.shape)
            if x.size <= MAX_RANK:
                signature.append(x.tobytes())
        return tuple(signature)

    def _check(self, inputs: Sequence[Any]) -> int:
        """Return the bytes of the results, as far as they are known. Raises NodeError, ResourceError."""
        step, plan = self.step, self.plan
        wrong = misfit(step.node, inputs)
        if wrong is not None:
            raise node_error(plan.model, step.node, wrong, inputs)
        if not self.unforeseen:
            return self.room
        known = infer(step.node, list(map(_info, inputs)), plan.limits)
        check_sizes(plan.model, step.node, known, inputs, plan.limits)
        return _room(step.node, [None if info is None else (info.dtype, info.shape) for info in known])

    def _context(self, environment: Environment, budget: Budget, hook: Hook | None) -> OpContext:
        def run_graph(graph: Graph, values: list[Any]) -> list[Any]:
            return self.bodies[id(graph)].run(values, environment, budget, hook)

        return OpContext(self.step.node, self.plan.limits, budget, run_graph)

    def _store(self, results: list[Any], inputs: list[Any], environment: Environment, budget: Budget) -> None:
        """Copy the results into their buffers, or count and keep them."""
        step, plan = self.step, self.plan
        for slot, result, planned in zip(step.outputs, results, self.planned, strict=True):
            if slot < 0:
                continue
            buffer = plan.buffers.get(slot)
            if buffer is not None:
                if not isinstance(result, np.ndarray) or planned != (result.dtype, result.shape):
                    cause = f"gave {describe(result)} where {buffer.dtype}{list(buffer.shape)} was planned"
                    raise node_error(plan.model, step.node, cause, inputs)
                np.copyto(environment[slot], result)
            else:
                environment[slot] = kept = self._detach(result)
                budget.hold(kept)

    def time(self, environment: Environment, budget: Budget) -> Iterator[float]:
        """Run the step and yield how long it took, in seconds."""
        begin = time.perf_counter()
        self.run(environment, budget)
        yield time.perf_counter() - begin

    def _detach(self, result: Any) -> Any:
        """Copy results that alias the arena, because a later step would overwrite them."""
        if isinstance(result, np.ndarray):
            is_view = result.base is not None and np.may_share_memory(result, self.arena)
            return result.copy() if is_view else result
        if isinstance(result, list):
            return [self._detach(item) for item in result]
        return result

    def _run_loop(self, loop: CompiledLoop, inputs: list[Any], ctx: OpContext, budget: Budget) -> list[Any] | None:
        try:
            results = loop.run(inputs, ctx, budget)
        except ResourceError as error:
            raise ResourceError(str(node_error(self.plan.model, self.step.node, error, inputs))) from error
        return None if results is None else results[: len(self.step.node.outputs)]


class Body:
    """A subgraph, ready to run as soon as it has been placed in an arena.

    `results` are its outputs if kernels compute them, `nbytes` the bytes of its buffers.
    """

    def __init__(self, outer: Plan, plan: Plan, calls: Sequence[NumpyCall | KernelSegment]) -> None:
        self.plan, self.calls = plan, calls
        self.template: Environment = []
        self.results: list[Array] | None = None
        self.nbytes = 0
        # memory that kernels read is a part of the template
        self.captures = [(slot, outer.slot_of[id(v)]) for v, slot in plan.captures if slot not in plan.buffers]

    def place(self, template: Environment, results: list[Array] | None, nbytes: int) -> None:
        """Set the arrays that lie in the arena."""
        self.template, self.results, self.nbytes = template, results, nbytes

    def run(self, values: list[Any], environment: Environment, budget: Budget, hook: Hook | None) -> list[Any]:
        """Run on values by position, and on values captured from the enclosing environment."""
        plan, inner = self.plan, self.template.copy()
        for slot, outer in self.captures:
            inner[slot] = environment[outer]
        if len(values) != len(plan.inputs):
            raise OpError(f"its body takes {len(plan.inputs)} inputs, got {len(values)}")
        for slot, value in zip(plan.inputs, values, strict=True):
            if slot not in plan.buffers:
                inner[slot] = value
                continue
            view = inner[slot]
            if not isinstance(value, np.ndarray) or (value.dtype, value.shape) != (view.dtype, view.shape):
                raise OpError(f"its body got {describe(value)} where {describe(view)} was planned")
            np.copyto(view, value)
        for call in self.calls:
            call.run(inner, budget, hook)
        # the arena's content is overwritten when the body runs again
        return [inner[slot].copy() if slot in plan.buffers else inner[slot] for slot in plan.outputs]
