"""`tinyonnx trace`: show statistics of every activation."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import Any

from tinyonnx.commands._shared import (
    add_html,
    add_json,
    add_model,
    checked,
    feeds_of,
    new_report,
    open_session,
    print_json,
    session_options,
    shape_text,
    table,
)
from tinyonnx.errors import Error, ModelError, printable
from tinyonnx.ort.session import InferenceSession
from tinyonnx.tools.inspect import read_outline
from tinyonnx.tools.runnable import runnable_part
from tinyonnx.tools.trace import ActivationReport, matching, saving, trace

HELP = "show shape, range, zeros and NaNs of every activation"

DESCRIPTION = """\
Runs the file's own nodes one by one. One line per activation, in the order of execution; results that follow
from shapes and constants come last. If a node fails, the results before it are shown, then the error; of a
model that can't be loaded the part that can run is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "--optimized", action="store_true", help="run the fused nodes of the plan instead of the file's own"
    )
    parser.add_argument("--save", metavar="FILE.npz", help="also write every activation as soon as it is computed")
    parser.add_argument(
        "--only",
        type=checked(matching),
        default="",
        metavar="REGEX",
        help="show and save only tensors whose names match",
    )
    add_html(parser)
    add_json(
        parser,
        "{first_non_finite: a tensor's name or null, error: a message or null, activations: "
        "[tinyonnx.tools.trace.ActivationReport]}",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    session, error = _open(args)
    feeds = feeds_of(args, session)
    activations: list[ActivationReport] = []
    report = new_report("trace of", session, feeds) if args.html else None
    bad = None
    with saving(args.save) if args.save else nullcontext() as save:

        def read(activation: ActivationReport, value: Any) -> None:
            nonlocal bad
            if bad is None and not activation.finite:
                bad = activation
            if report is not None:
                report.add_activation(activation, value)
            if args.only(activation.name):
                activations.append(activation)
                if save is not None:
                    save(activation, value)

        try:
            trace(session, feeds, read, constants=not args.optimized)
        except Error as failed:
            error = error or failed
    verdict = (
        f"first non-finite: {printable(bad.name)} ({bad.op} {printable(bad.path)})" if bad else "all numbers are finite"
    )
    if report is not None:
        report.verdict = f"{error}; before it, {verdict}" if error else verdict
        report.failed = bad is not None or error is not None
        report.write(args.html)
    if args.json:
        message = None if error is None else str(error)
        print_json({"first_non_finite": bad.name if bad else None, "error": message, "activations": activations})
    else:
        print(f"{_text(activations)}\n\n{verdict}", flush=True)
    if error is not None:
        raise error
    return 0


def _open(args: argparse.Namespace) -> tuple[InferenceSession, Error | None]:
    """Load a model; if that fails, the part of it that can run, and the error."""
    try:
        return open_session(args, optimised=args.optimized), None
    except ModelError as error:
        outline = read_outline(args.model)
        graph = runnable_part(outline.graph)
        if not graph.nodes:
            raise
        return InferenceSession.of_graph(graph, args.model, session_options(args.optimized)), error


def _text(activations: list[ActivationReport]) -> str:
    rows: list[tuple[str, ...]] = [
        ("node", "op", "tensor", "type", "shape", "min", "max", "mean", "std", "zeros", "NaN/Inf")
    ]
    for a in activations:
        numbers = [_number(n) for n in (a.minimum, a.maximum, a.mean, a.std)]
        zeros = "" if a.zeros is None else f"{a.zeros:.1%}"
        bad = "" if a.finite else f"{a.nans}/{a.infinities}"
        rows.append((a.path, a.op, a.name, a.type, a.value or shape_text(a.shape), *numbers, zeros, bad))
    problems = {i for i, a in enumerate(activations, 1) if not a.finite}
    return table(rows, right=(5, 6, 7, 8, 9, 10), problems=problems)


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"
