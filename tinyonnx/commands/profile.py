"""`tinyonnx profile`: measure the time of each step."""

from __future__ import annotations

import argparse
import json

from tinyonnx.commands._shared import (
    add_html,
    add_json,
    add_model,
    add_precision,
    at_least,
    feeds_of,
    new_report,
    open_session,
    plural,
    print_json,
    quantity,
    shape_text,
    table,
)
from tinyonnx.files import write_text
from tinyonnx.tools.profile import Profile, profile

HELP = "measure time per step, operator and fused group"

DESCRIPTION = """\
Medians of several runs. roof: the share of a step's time that it would take at the highest measured rate of
operations or of memory traffic."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_precision(parser)
    parser.add_argument("--repeats", type=at_least(1), default=20, metavar="N", help="runs (default: %(default)s)")
    parser.add_argument(
        "--threads",
        type=at_least(0),
        default=1,
        metavar="N",
        help="0 for all (default: %(default)s)",
    )
    parser.add_argument("--trace", metavar="OUT.json", help="write a timeline for Perfetto or chrome://tracing")
    add_html(parser)
    add_json(
        parser,
        "{profile: tinyonnx.tools.profile.Profile, by_op and by_group: [[name, steps, seconds]]}",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    session = open_session(args, threads=args.threads)
    feeds = feeds_of(args, session)
    result = profile(session, feeds, args.repeats)
    if args.trace:
        write_text(args.trace, json.dumps(result.chrome_trace(), allow_nan=False))
    if args.html:
        report = new_report("profile of", session, feeds)
        report.add_profile(result)
        report.verdict = _head(result)
        report.write(args.html)
    if args.json:
        print_json({"profile": result, "by_op": result.by_op(), "by_group": result.by_group()})
    else:
        print(_text(result))
    return 0


def _head(result: Profile) -> str:
    machine = f"{quantity(result.machine.flops, 'FLOP/s')}, {quantity(result.machine.bandwidth, 'B/s')} on one thread"
    runs = plural(result.repeats, "run")
    if not result.undisturbed:
        runs += ", all of them disturbed by other processes"
    elif result.undisturbed < result.repeats:
        runs = f"{result.undisturbed} undisturbed ones of {runs}"
    steps = plural(len(result.steps), "step")
    return (
        f"{result.total * 1e3:.3f} ms in {steps}, {result.unprofiled * 1e3:.3f} ms unprofiled "
        f"(medians of {runs}, threads: {result.threads}); machine: {machine}"
    )


def _text(result: Profile) -> str:
    rows = [
        ("step", "kind", "op", "name", "result", "µs", "share", "GFLOP/s", "bytes", "roof", "made of, or why numpy")
    ]
    for number, step in enumerate(result.steps):
        rate = "" if step.gflops is None else f"{step.gflops:.1f}"
        roof = "" if step.roof is None else f"{step.roof:.0%}"
        made = step.why or (" + ".join(step.origin) if len(step.origin) > 1 else "")
        rows.append(
            (
                str(number),
                step.kind,
                step.op,
                step.name,
                shape_text(step.shape),
                f"{step.seconds * 1e6:.1f}",
                _share(step.seconds, result.total),
                rate,
                quantity(step.bytes),
                roof,
                made,
            )
        )
    parts = [_head(result), table(rows, right=(0, 5, 6, 7, 8, 9))]
    for title, groups in (("operator", result.by_op()), ("fused group", result.by_group())):
        lines = [(title, "steps", "µs", "share")]
        lines += [(key, str(n), f"{t * 1e6:.1f}", _share(t, result.total)) for key, n, t in groups]
        parts.append(table(lines, right=(1, 2, 3)))
    return "\n\n".join(parts)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""
