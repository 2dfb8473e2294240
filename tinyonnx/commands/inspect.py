"""`tinyonnx inspect`: show nodes, passes and plan of a model."""

from __future__ import annotations

import argparse
import os

import tinyonnx
from tinyonnx.commands._shared import (
    add_html,
    add_json,
    add_model,
    add_precision,
    checked,
    feeds_of,
    new_report,
    open_session,
    plural,
    print_json,
    quantity,
    shape_text,
    table,
)
from tinyonnx.commands._terminal import warn
from tinyonnx.errors import printable
from tinyonnx.passes import EXPRESSIBLE
from tinyonnx.tools.feeds import DeclaredInputs, is_known, shapes_only
from tinyonnx.tools.inspect import (
    GraphReport,
    Outline,
    PassReport,
    PlanReport,
    Tensor,
    check_pass,
    inspect_graph,
    inspect_outline,
    inspect_pass,
    inspect_plan,
    problems_of,
    read_outline,
)
from tinyonnx.tools.report import Report

HELP = "show nodes, shapes and costs, remarks of passes, the plan"

DESCRIPTION = """\
Dimensions that the file leaves open stay open without --input and --dim. A model that can't run is shown,
too: unknown operators, missing files and other problems are marked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_precision(parser)
    parser.add_argument(
        "--optimized", action="store_true", help="show the plan: fused nodes, kernels, arena, numpy steps with reasons"
    )
    parser.add_argument(
        "--pass",
        dest="pass_name",
        type=checked(check_pass),
        metavar="NAME",
        help="show the graph after a pass, and the remarks of the passes",
    )
    parser.add_argument(
        "--save", metavar="FILE.onnx",
        help="write the model for these shapes, with constants and normalisations folded",
    )  # fmt: skip
    add_html(parser)
    add_json(
        parser,
        "a tinyonnx.tools.inspect.GraphReport; with --optimized {graph, plan: PlanReport}; "
        "with --pass {graph, remarks: [{pass_name, applied, node, text}]}",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    try:
        session = open_session(args)
    except tinyonnx.ModelError:
        if args.optimized or args.pass_name or args.save:
            raise
        return _show_outline(args, read_outline(args.model))
    given = args.input or args.inputs or args.dim
    needed = args.optimized or args.pass_name or args.save or given or is_known(session)
    feeds = feeds_of(args, session, numbers=False) if needed else None
    if args.save and feeds is not None:
        tinyonnx.save_model(session.rewrite(shapes_only(feeds), EXPRESSIBLE).graph, args.save)
    if args.pass_name and feeds is not None:
        _show_pass(args, inspect_pass(session, feeds, args.pass_name))
        return 0
    graph = inspect_graph(session, feeds)
    plan = inspect_plan(session, feeds) if args.optimized and feeds is not None else None
    if args.html:
        page = Report(f"inspect {os.path.basename(session.name)}", graph)
        if plan and feeds:
            page = new_report("plan of", session, feeds)
            page.verdict = _plan_head(plan)
        page.write(args.html)
    if args.json:
        print_json({"graph": graph, "plan": plan} if plan else graph)
    else:
        print(_plan_text(graph, plan) if plan else _graph_text(graph))
    return 0


def _show_outline(args: argparse.Namespace, outline: Outline) -> int:
    """Show a model that can't be loaded: all of it that can be read."""
    inputs = DeclaredInputs(outline.graph)
    feeds = feeds_of(args, inputs, numbers=False) if args.input or args.inputs or args.dim else None
    graph = inspect_outline(outline, feeds)
    if args.html:
        page = Report(f"inspect {os.path.basename(outline.name)}", graph)
        page.verdict, page.failed = _verdict(problems_of(graph)), True
        page.write(args.html)
    if args.json:
        print_json(graph)
    else:
        print(_graph_text(graph))
    return 0


def _verdict(problems: list[str]) -> str:
    """Return one sentence about all problems of a model."""
    more = f"; and {len(problems) - 3} more problems" if len(problems) > 3 else ""
    return f"can't run: {'; '.join(problems[:3])}{more}"


def _show_pass(args: argparse.Namespace, report: PassReport) -> None:
    """Print the graph after a pass with the remarks, and write the page."""
    if args.html:
        page = Report(f"{os.path.basename(report.graph.file)} after {args.pass_name}", report.graph)
        page.add_remarks(report.remarks)
        page.write(args.html)
    if args.json:
        print_json({"graph": report.graph, "remarks": [remark._asdict() for remark in report.remarks]})
    else:
        print(_graph_text(report.graph))
        print("\n" + "\n".join(printable(str(remark)) for remark in report.remarks))


def _head(graph: GraphReport) -> str:
    opsets = ", ".join(f"{printable(domain) or 'ai.onnx'} {version}" for domain, version in graph.opsets.items())
    totals = f"{quantity(graph.parameters)} parameters, {quantity(graph.macs)} multiplications"
    lines = [f"{printable(graph.file)}: {opsets}; {plural(len(graph.nodes), 'node')}, {totals}"]
    for what, tensors in (("input ", graph.inputs), ("output", graph.outputs)):
        lines += [f"{what}  {_tensor_text(tensor)}" for tensor in tensors]
    lines += [f"caution  {printable(caution)}" for caution in graph.cautions]
    lines += [warn(f"problem  {printable(problem)}") for problem in problems_of(graph)]
    return "\n".join(lines)


def _tensor_text(tensor: Tensor) -> str:
    return f"{printable(tensor.name)}  {tensor.type or '?'}  {shape_text(tensor.shape)}"


def _graph_text(graph: GraphReport) -> str:
    rows = [("node", "op", "name", "result", "parameters", "MACs", "bytes")]
    for node in graph.nodes:
        domain = f"{'! ' if node.problem else ''}{node.domain}{'.' if node.domain else ''}"
        shapes = ", ".join(shape_text(t.shape) for t in node.outputs if t is not None)
        costs = quantity(node.parameters), quantity(node.macs), quantity(node.bytes)
        rows.append((str(node.index), domain + node.op, node.path, shapes, *costs))
    problems = {i for i, node in enumerate(graph.nodes, 1) if node.problem}
    return f"{_head(graph)}\n\n{table(rows, right=(0, 4, 5, 6), problems=problems)}"


def _plan_text(graph: GraphReport, plan: PlanReport) -> str:
    rows = [("step", "kind", "op", "name", "result", "MACs", "arena", "kernels, or why numpy", "made of")]
    for number, step in enumerate(plan.steps):
        place = "" if step.offset is None else f"{step.offset}+{step.bytes}"
        shape = shape_text(step.output.shape if step.output is not None else None)
        how = " ".join(step.kernels) if step.kind == "kernel" else step.why
        how += "".join(f"; {reason}" for reason in step.reasons)
        origin = " + ".join(step.origin) if step.origin != [step.name] else ""
        rows.append((str(number), step.kind, step.op, step.name, shape, quantity(step.macs), place, how, origin))
    return f"{_head(graph)}\nplan    {_plan_head(plan)}\n\n{table(rows, right=(0, 5, 6))}"


def _plan_head(plan: PlanReport) -> str:
    kinds = [step.kind for step in plan.steps]
    counts = ", ".join(
        plural(kinds.count(kind), f"{kind} step") for kind in ("kernel", "layout", "numpy") if kind in kinds
    )
    memory = f"arena {quantity(plan.arena_bytes, 'B')}, constants of numpy steps {quantity(plan.constant_bytes, 'B')}"
    return f"{counts}; {memory}"
