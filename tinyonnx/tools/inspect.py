"""The nodes of a model, the graph after each pass, and its plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from tinyonnx.dtypes import onnx_type
from tinyonnx.errors import InputError
from tinyonnx.ir import Array, Dim, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.check import describe, problem_of
from tinyonnx.ort.session import InferenceSession
from tinyonnx.passes import BASIC, PIPELINE, Remark, Rewrite
from tinyonnx.passes.choose_bfloat16 import round_weights
from tinyonnx.runtime.executor import kernel_names
from tinyonnx.runtime.plan import BranchStep, KernelStep, LayoutStep, NumpyStep, Plan
from tinyonnx.runtime.shapes import all_values, infer_shapes, walk
from tinyonnx.tools import costs
from tinyonnx.tools.cautions import cautions
from tinyonnx.tools.feeds import shapes_only


@dataclass(frozen=True)
class Tensor:
    """A value's name, type in onnxruntime's spelling, and shape (None if unknown; dimensions may be symbolic)."""

    name: str
    type: str | None
    shape: list[Dim] | None
    constant: bool = False


@dataclass(frozen=True)
class NodeRow:
    """A node: `path` leads to it through subgraphs, `owner` is the path of the node whose subgraph contains it.

    None stands for values unknown without shapes. `problem` is the reason for which the node can't run, or "".
    """

    path: str
    index: int
    op: str
    domain: str
    opset: int
    inputs: list[Tensor | None]
    outputs: list[Tensor | None]
    attributes: dict[str, Any]
    parameters: int
    macs: int | None
    bytes: int | None
    origin: list[str] = field(default_factory=list)
    owner: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class GraphReport:
    """Nodes and totals of a graph; a total is None if one of its terms is.

    `cautions` are about nodes whose results are random or differ between runtimes, `problems` about parts of the file
    that can't be read.
    """

    file: str
    opsets: dict[str, int]
    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: list[NodeRow]
    parameters: int
    macs: int | None
    bytes: int | None
    cautions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StepRow:
    """A step of a plan.

    `kind` is "kernel", "numpy" (`why` is the reason against a kernel) or "layout" (a copy into another memory order);
    `offset` and `bytes` place the result in the arena, if it is there; `origin` names the nodes of the file whose work
    the step does. `precision` is the type of the operands of products, float32 or bfloat16, "" for other steps, and
    `reasons` are those of the passes that chose it.
    """

    kind: str
    op: str
    name: str
    output: Tensor | None
    origin: list[str]
    kernels: list[str]
    layout: str
    offset: int | None
    bytes: int | None
    macs: int | None
    why: str
    precision: str = ""
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PlanReport:
    """The steps of a plan, and the memory that it needs."""

    steps: list[StepRow]
    arena_bytes: int
    constant_bytes: int
    threads: int


def inspect_graph(session: InferenceSession, feeds: Mapping[str, Array] | None = None) -> GraphReport:
    """Report the nodes of the file, with shapes, and with costs if `feeds` give the inputs' shapes.

    Without feeds, shapes are expressions of the dimensions that the file leaves open. Raises the errors of
    `InferenceSession.run` for its feeds.
    """
    if feeds is not None:
        session.rewrite(shapes_only(feeds), [])  # checks the feeds
    outline = Outline(session.name, session.graph, [], session.get_session_options().limits)
    return _report_file(outline, feeds, known=True)


@dataclass(frozen=True)
class Outline:
    """The graph of a file as far as it can be read, and a sentence about everything that can't be."""

    name: str
    graph: Graph
    problems: list[str] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)


def read_outline(path: str) -> Outline:
    """Read a model that need not be able to run: operators may be unknown, files and inputs missing.

    Raises ModelError if it is not an ONNX model or exceeds a limit, OSError if the file can't be read.
    """
    from tinyonnx.onnxfile.outline import load_outline

    return Outline(path, *load_outline(path))


def problems_of(report: GraphReport) -> list[str]:
    """Return a sentence about everything that keeps a model from running."""
    nodes = [node for node in report.nodes if node.problem]
    return report.problems + [f"{describe(n.op, n.domain, n.path, n.index)}: {n.problem}" for n in nodes]


def inspect_outline(outline: Outline, feeds: Mapping[str, Array] | None = None) -> GraphReport:
    """Report the readable parts of a model that can't run, with shapes as far as they can be inferred."""
    return _report_file(outline, feeds, known=False)


def _report_file(outline: Outline, feeds: Mapping[str, Array] | None, known: bool) -> GraphReport:
    """Report a file's nodes; `known` is whether all operators were looked up."""
    shapes = {name: feed.shape for name, feed in (feeds or {}).items() if isinstance(feed, np.ndarray)}
    inferred = infer_shapes(outline.graph, outline.limits, shapes)
    unknown = {} if known else dict(_reading_nothing(outline.graph))
    unknown |= {} if known else {path: wrong for path, node in walk(outline.graph) if (wrong := problem_of(node))}
    report = report_graph(outline, outline.graph.clone(), inferred.values)
    problems = inferred.problems | unknown
    nodes = [
        replace(node, problem=problems[node.path], macs=None) if node.path in problems else node
        for node in report.nodes
    ]
    return replace(report, nodes=nodes, problems=list(outline.problems), cautions=report.cautions + inferred.cautions)


def _reading_nothing(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the nodes with inputs that nothing produces or that can't be read, and the reason."""
    given = {id(value) for value in graph.inputs}
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None and value.producer is None and value.const is None and id(value) not in given:
                unread = any(value is other for other in graph.initializers)
                cause = "can't be read" if unread else "is never produced"
                yield node.label, f'its input "{value.name}" {cause}'


class Named(Protocol):
    """A session, or an outline."""

    @property
    def name(self) -> str:
        """The path of the file."""

    @property
    def graph(self) -> Graph:
        """The graph of the file."""


def report_rewritten(session: InferenceSession, feeds: Mapping[str, Array], graph: Graph) -> GraphReport:
    """Report the graph that passes made for inputs of these shapes."""
    return report_graph(session, graph, {}, origin_macs(session, feeds))


def report_graph(
    source: Named, graph: Graph, known: Mapping[str, Value], macs: Mapping[str, int | None] | None = None
) -> GraphReport:
    """Report a graph made of a file's; `known` are values whose shapes it takes over by name.

    `macs` are those of the file's nodes: a node counts those of its origins.
    """
    for value in all_values(graph):
        better = known.get(value.name)
        if better is not None and better.shape is not None:
            value.dtype, value.shape = better.dtype, better.shape
    rows = list(_rows(graph, ""))
    if macs is not None:
        rows = [row if row.owner else replace(row, macs=_origins_macs(row.origin, macs)) for row in rows]
    return GraphReport(
        file=source.name,
        opsets=dict(source.graph.opsets),
        inputs=[_tensor(v) for v in graph.inputs],
        outputs=[_tensor(v, n) for v, n in zip(graph.outputs, graph.output_names, strict=True)],
        nodes=rows,
        parameters=costs.count_parameters(graph),
        macs=_total([row.macs for row in rows]),
        bytes=_total([row.bytes for row in rows]),
        cautions=cautions(graph),
    )


def inspect_plan(session: InferenceSession, feeds: Mapping[str, Array]) -> PlanReport:
    """Report the plan for inputs of these shapes. Raises the errors of `InferenceSession.run` for its feeds."""
    plan = session.plan_for(None, shapes_only(feeds))
    return PlanReport(
        steps=list(_steps(plan, origin_macs(session, feeds))),
        arena_bytes=plan.arena_bytes,
        constant_bytes=sum(array.nbytes for array in plan.constants.values()),
        threads=plan.threads,
    )


@dataclass(frozen=True)
class PassReport:
    """The graph after a pass, and the remarks of the passes up to it."""

    graph: GraphReport
    remarks: list[Remark]


def inspect_pass(session: InferenceSession, feeds: Mapping[str, Array], name: str) -> PassReport:
    """Report the graph after the last run of the named pass, for inputs of these shapes.

    Raises InputError for an unknown name, and the errors of `InferenceSession.run` for its feeds.
    """
    rewrite = after_pass(session, feeds, name)
    return PassReport(report_rewritten(session, feeds, rewrite.graph), rewrite.remarks)


def check_pass(name: str) -> str:
    """Return the name of a pass. Raises InputError if it is unknown."""
    names = dict.fromkeys(function.__name__ for function in PIPELINE)
    if name not in names:
        raise InputError(f"unknown pass {name!r}; the passes are {', '.join(names)}")
    return name


def after_pass(session: InferenceSession, feeds: Mapping[str, Array], name: str | None = None) -> Rewrite:
    """Return the graph for inputs of these shapes after the last run of a pass, by default of all.

    Raises InputError for an unknown name.
    """
    names = [function.__name__ for function in PIPELINE]
    end = len(names) - names[::-1].index(check_pass(name)) if name is not None else len(names)
    return session.rewrite(shapes_only(feeds), PIPELINE[:end])


def origin_macs(session: InferenceSession, feeds: Mapping[str, Array]) -> dict[str, int | None]:
    """Return the multiplications of the file's nodes by label: a fused node does those of its origins."""
    nodes = session.rewrite(shapes_only(feeds), BASIC).graph.nodes
    return {node.label: costs.macs(node) for node in nodes}


def step_macs(node: Node, of_origin: Mapping[str, int | None]) -> int | None:
    """Return the multiplications of a node of the plan."""
    return _origins_macs(node.origin, of_origin)


def _origins_macs(origin: Iterable[str], macs: Mapping[str, int | None]) -> int | None:
    return _total([macs.get(name, 0) for name in origin])


def _steps(plan: Plan, macs: Mapping[str, int | None]) -> Iterator[StepRow]:
    for row, step in zip(_step_rows(plan, macs), plan.steps, strict=True):
        chosen = [r for r in plan.remarks if r.pass_name == round_weights.__name__ and r.node in row.origin]
        if chosen:
            rounded = isinstance(step, KernelStep) and step.rounded
            reasons = list(dict.fromkeys(r.text for r in chosen))
            row = replace(row, precision="bfloat16" if rounded else "float32", reasons=reasons)
        yield row


def _step_rows(plan: Plan, macs: Mapping[str, int | None]) -> Iterator[StepRow]:
    kernels = kernel_names(plan)
    for position, step in enumerate(plan.steps):
        if isinstance(step, BranchStep):
            result = next((_tensor(v) for v in step.node.outputs if v is not None), None)
            yield StepRow(
                "kernel", step.node.op_type, step.node.label, result, list(step.node.origin), kernels[position], "",
                None, 0, 0, "",
            )  # fmt: skip
            continue
        if isinstance(step, LayoutStep):
            target = step.target
            output = Tensor(target.name, onnx_type(target.dtype), list(target.shape))
            yield StepRow(
                "layout", "", target.name, output, [], kernels[position], target.layout, target.root.offset,
                target.nbytes, 0, "the result of a branch" if step.guard else f"a reader needs {target.layout}",
            )  # fmt: skip
            continue
        node = step.node
        result = next((_tensor(v) for v in node.outputs if v is not None), None)
        common = (node.op_type, node.label, result, list(node.origin))
        if isinstance(step, KernelStep):
            buffer = step.output
            yield StepRow(
                "kernel", *common, kernels[position], buffer.layout, buffer.root.offset, buffer.nbytes,
                step_macs(node, macs), "",
            )  # fmt: skip
        else:
            assert isinstance(step, NumpyStep)
            yield StepRow(
                "numpy", *common, [], "", None, costs.result_bytes(node), step_macs(node, macs), step.why
            )  # fmt: skip


def _rows(graph: Graph, path: str, owner: str | None = None) -> Iterator[NodeRow]:
    for node in graph.nodes:
        yield NodeRow(
            path=path + node.label,
            index=node.index,
            op=node.op_type,
            domain=node.domain,
            opset=node.opset,
            inputs=[None if v is None else _tensor(v) for v in node.inputs],
            outputs=[None if v is None else _tensor(v) for v in node.outputs],
            attributes={key: _plain(value) for key, value in node.attributes.items()},
            parameters=costs.parameters(node),
            macs=costs.macs(node),
            bytes=costs.result_bytes(node),
            origin=list(node.origin),
            owner=owner,
        )
        for name, attribute in node.attributes.items():
            if isinstance(attribute, Graph):
                yield from _rows(attribute, f"{path}{node.label}/{name}/", path + node.label)


def _plain(value: Any) -> Any:
    """Convert an attribute for JSON; large arrays and subgraphs become a description."""
    if isinstance(value, Graph):
        return f"graph of {len(value.nodes)} node{'' if len(value.nodes) == 1 else 's'}"
    if isinstance(value, np.ndarray):
        return (
            value.tolist() if value.size <= 16 and value.dtype.kind in "fiub" else f"{value.dtype}{list(value.shape)}"
        )
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _tensor(value: Value, name: str | None = None) -> Tensor:
    kind = value.type or (onnx_type(value.dtype) if value.dtype is not None else None)
    shape = None if value.shape is None else list(value.shape)
    return Tensor(value.name if name is None else name, kind, shape, value.const is not None)


def _total(terms: list[int | None]) -> int | None:
    known = [term for term in terms if term is not None]
    return sum(known) if len(known) == len(terms) else None
