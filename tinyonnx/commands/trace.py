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
    shape_text,
    shown,
    table,
)
from tinyonnx.tools.trace import Activation, matching, saving, trace


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "trace",
        help="show shape, range, zeros and NaNs of every activation",
        description="Runs the file's own nodes one by one. One line per activation, in the order of execution.",
    )
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
    add_json(parser, "{first_non_finite: a tensor's name or null, activations: [tinyonnx.tools.trace.Activation]}")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    session = open_session(args, optimised=args.optimized)
    feeds = feeds_of(args, session)
    activations: list[Activation] = []
    report = new_report("trace of", session, feeds) if args.html else None
    bad = None
    with saving(args.save) if args.save else nullcontext() as save:

        def read(activation: Activation, value: Any) -> None:
            nonlocal bad
            if bad is None and not activation.finite:
                bad = activation
            if report is not None:
                report.add_activation(activation, value)
            if args.only(activation.name):
                activations.append(activation)
                if save is not None:
                    save(activation, value)

        trace(session, feeds, read, constants=not args.optimized)
    verdict = f"first non-finite: {shown(bad.name)} ({bad.op} {shown(bad.path)})" if bad else "all numbers are finite"
    if report is not None:
        report.verdict, report.failed = verdict, bad is not None
        report.write(args.html)
    if args.json:
        print_json({"first_non_finite": bad.name if bad else None, "activations": activations})
        return 0
    print(f"{_text(activations)}\n\n{verdict}")
    return 0


def _text(activations: list[Activation]) -> str:
    rows: list[tuple[str, ...]] = [
        ("node", "op", "tensor", "type", "shape", "min", "max", "mean", "std", "zeros", "NaN/Inf")
    ]
    for a in activations:
        numbers = [_number(n) for n in (a.minimum, a.maximum, a.mean, a.std)]
        zeros = "" if a.zeros is None else f"{a.zeros:.1%}"
        bad = "" if a.finite else f"{a.nans}/{a.infinities}"
        rows.append((a.path, a.op, a.name, a.type, a.value or shape_text(a.shape), *numbers, zeros, bad))
    return table(rows, right=(5, 6, 7, 8, 9, 10))


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"
