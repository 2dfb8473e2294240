"""The time of a run, step by step, compared with the best that the machine can do."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from tinyonnx.errors import InputError
from tinyonnx.ort.session import InferenceSession
from tinyonnx.runtime.arena import Buffer
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.executor import timed_runs
from tinyonnx.runtime.plan import BranchStep, KernelStep, LayoutStep, LoopStep, NumpyStep, Step
from tinyonnx.tools.inspect import origin_macs, step_macs

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

T = TypeVar("T")

_ENOUGH = 3
_PATIENCE = 2.0
"""Maximum seconds of additional runs on a busy machine until enough of them were undisturbed."""


@dataclass(frozen=True)
class Machine:
    """Measured peak of one thread: float32 operations and bytes of memory traffic per second."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class StepProfile:
    """One step: `times` in seconds, one per run, and `start` in the median run, relative to the beginning of the run.

    `bytes` counts inputs, constants and results once each. `roof` is the share of the time that the machine needs at
    its best, limited by operations or memory traffic.
    """

    kind: str
    op: str
    name: str
    origin: tuple[str, ...]
    shape: tuple[int, ...] | None
    seconds: float
    start: float
    macs: int | None
    bytes: int | None
    roof: float | None
    why: str = ""

    @property
    def gflops(self) -> float | None:
        """Operations per nanosecond, two for each multiply-accumulate; None if there are none."""
        return 2 * self.macs / self.seconds / 1e9 if self.macs and self.seconds else None


@dataclass(frozen=True)
class Profile:
    """Medians of several runs: of the steps, and of `unprofiled` runs without measurements inside.

    `total` is the sum of the steps. Of the `repeats` runs of each kind those count that were `undisturbed`: the system
    took no processor away from this process. If there are none, all runs count for the steps, most of which are short
    enough to fall between disturbances, and the fastest one of the unprofiled runs.
    """

    steps: list[StepProfile]
    total: float
    unprofiled: float
    repeats: int
    undisturbed: int
    threads: int
    machine: Machine

    def by_op(self) -> list[tuple[str, int, float]]:
        """Return (operator, steps, seconds), the slowest first."""
        return _grouped((step.op or "layout change", step.seconds) for step in self.steps)

    def by_group(self) -> list[tuple[str, int, float]]:
        """Return (operators that a step replaced, steps, seconds), the slowest first."""
        return _grouped((" + ".join(step.origin) or "layout change", step.seconds) for step in self.steps)

    def chrome_trace(self) -> dict[str, Any]:
        """Return the median run as a trace for Perfetto and chrome://tracing."""
        events = [
            {
                "name": f"{step.op or 'layout change'} {step.name}", "cat": step.kind, "ph": "X", "pid": 1, "tid": 1,
                "ts": step.start * 1e6, "dur": step.seconds * 1e6,
                "args": {"shape": step.shape, "origin": step.origin, "gflops": step.gflops, "why": step.why},
            }
            for step in self.steps
        ]  # fmt: skip
        return {"traceEvents": events, "displayTimeUnit": "ms"}


def profile(session: InferenceSession, feeds: Mapping[str, Any], repeats: int = 20) -> Profile:
    """Time every step of a model's plan in `repeats` runs, in more on a busy machine.

    Profiled and plain runs alternate, so that both see the same conditions. Raises InputError for less than one repeat,
    and the errors of `InferenceSession.run`.
    """
    if repeats < 1:
        raise InputError("--repeats must be at least 1")
    plan = session.plan_for(None, feeds)
    ops = {node.label: node.op_type for node in session.graph.nodes}
    session.run(None, feeds)
    timed = timed_runs(plan, [feeds[arg.name] for arg in session.get_inputs()])

    def run_plainly() -> float:
        begin = time.perf_counter()
        session.run(None, feeds)
        return time.perf_counter() - begin

    profiled, plain = _Runs(lambda: next(timed)), _Runs(run_plainly)
    begin = time.perf_counter()
    while len(plain.all) < repeats or (
        min(len(profiled.undisturbed), len(plain.undisturbed)) < min(_ENOUGH, repeats)
        and time.perf_counter() < begin + _PATIENCE
    ):
        profiled.add()
        plain.add()
    seconds = np.median(np.array(profiled.undisturbed or profiled.all), axis=0) if plan.steps else np.zeros(0)
    machine = measure_machine()
    macs = origin_macs(session, feeds)
    steps, start = [], 0.0
    for step, median in zip(plan.steps, seconds, strict=True):
        steps.append(_profile(step, float(median), start, macs, ops, machine, plan.threads))
        start += float(median)
    undisturbed = min(len(profiled.undisturbed), len(plain.undisturbed))
    unprofiled = statistics.median(plain.undisturbed or [min(plain.all)])
    return Profile(steps, start, unprofiled, len(plain.all), undisturbed, plan.threads, machine)


class _Runs(Generic[T]):
    """Results of repeated calls, and of those during which the system took no processor away."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.all: list[T] = []
        self.undisturbed: list[T] = []

    def add(self) -> None:
        before = _switches()
        self.all.append(self.call())
        if _switches() == before:
            self.undisturbed.append(self.all[-1])


def _switches() -> int:
    """Return how often the system has preempted this process; 0 if it does not tell."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _profile(
    step: Step, seconds: float, start: float, macs: Mapping[str, int | None], ops: Mapping[str, str],
    machine: Machine, threads: int,
) -> StepProfile:  # fmt: skip
    if isinstance(step, LayoutStep):
        copied = step.source.nbytes + step.target.nbytes
        roof = copied / machine.bandwidth / seconds if seconds else None
        return StepProfile("layout", "", step.target.name, (), step.target.shape, seconds, start, 0, copied, roof)
    node = step.node
    count = step_macs(node, macs)
    moved = None if isinstance(step, BranchStep | LoopStep) else _bytes(step)
    best = None
    if count is not None and moved is not None and seconds:
        parallel = threads if isinstance(step, KernelStep) else 1
        best = max(2 * count / machine.flops / parallel, moved / machine.bandwidth) / seconds
    value = next((v for v in node.outputs if v is not None), None)
    return StepProfile(
        kind="numpy" if isinstance(step, NumpyStep) else "kernel",
        op=node.op_type,
        name=node.label,
        origin=tuple(ops.get(name, name) for name in node.origin),
        shape=None if value is None else value.static_shape,
        seconds=seconds,
        start=start,
        macs=count,
        bytes=moved,
        roof=best,
        why=step.why if isinstance(step, NumpyStep) else "",
    )


def _bytes(step: KernelStep | NumpyStep) -> int | None:
    if isinstance(step, KernelStep):
        return step.output.nbytes + sum(x.nbytes for x in step.inputs if isinstance(x, (Buffer, np.ndarray)))
    total = 0
    for value in (*step.node.inputs, *step.node.outputs):
        if value is None:
            continue
        if value.const is not None:
            total += value.const.nbytes
        elif value.dtype is None or value.static_shape is None:
            return None
        else:
            total += int(np.prod(value.static_shape)) * value.dtype.itemsize
    return total


def _grouped(terms: Iterable[tuple[str, float]]) -> list[tuple[str, int, float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for key, seconds in terms:
        groups[key].append(seconds)
    return sorted(((key, len(times), sum(times)) for key, times in groups.items()), key=lambda row: -row[2])


# -- the machine ----------------------------------------------------------------------------


def measure_machine(seconds: float = 0.2) -> Machine:
    """Measure one thread's peak: a matrix product that stays in the cache, and copying within the last-level cache."""
    from tinyonnx.kernels import BoundKernel
    from tinyonnx.kernels._common import NO_EPILOGUE
    from tinyonnx.kernels.gemm import linear

    size = 192
    ones = np.ones((size, size), np.float32)
    call = linear(ConstantPool(), ones.reshape(-1), ones, None, np.empty(size * size, np.float32), NO_EPILOGUE)
    product = BoundKernel(call.kernel, call.args)
    return Machine(2 * size**3 / _best(lambda: product.run(0, 1), seconds / 2), _bandwidth(seconds / 2))


def _best(call: Callable[[], object], seconds: float) -> float:
    end, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def _bandwidth(seconds: float) -> float:
    source = np.ones(1 << 18, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / _best(lambda: np.copyto(target, source), seconds)
