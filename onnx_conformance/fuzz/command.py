"""`onnx-conformance fuzz`: random models on several runtimes, until the time is over."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import onnx

from onnx_conformance import ConformanceError
from onnx_conformance.fuzz.campaign import Campaign, CampaignState, Settings
from onnx_conformance.generate.mutate import all_operators
from onnx_conformance.suite.command import checked_runtime
from tinyonnx.commands._shared import at_least, table
from tinyonnx.files import check_folder

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def add(commands: Any) -> None:
    """Declare the command."""
    command = commands.add_parser("fuzz", help="find models on which runtimes differ")
    command.add_argument(
        "--runtime", type=checked_runtime, action="append", metavar="NAME",
        help="at least two, the one to be tested first (default: tinyonnx, onnxruntime, reference)",
    )  # fmt: skip
    command.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="default: %(default)s")
    command.add_argument("--time", type=_duration, default=600.0, metavar="10m", help="default: 10 minutes")
    command.add_argument(
        "--output", type=Path, default=Path("findings"), metavar="DIR",
        help="folder of findings; a run with the same options goes on there (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--operator", action="append", default=[], metavar="NAME", help="only models with this one")
    command.add_argument(
        "--only", default="", metavar="NAME", help="keep only differences that put this runtime in doubt"
    )
    command.add_argument(
        "--timeout", type=at_least(1, float), default=10.0, metavar="SECONDS", help="of a model (default: %(default)g)"
    )
    command.add_argument(
        "--memory", type=at_least(0.25, float), default=4.0, metavar="GB", help="of a process (default: %(default)g)"
    )
    command.set_defaults(run=_fuzz)


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 90, 90s, 15m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def _fuzz(args: argparse.Namespace) -> bool:
    runtimes = args.runtime or [checked_runtime(name) for name in ("tinyonnx", "onnxruntime", "reference")]
    names = [runtime.name for runtime in runtimes]
    if len(set(names)) < 2:
        raise ConformanceError("needs two runtimes to compare: --runtime A --runtime B")
    if args.only and args.only not in names:
        raise ConformanceError(f"--only {args.only}: is not one of {', '.join(names)}")
    for runtime in runtimes:
        runtime.check_installed()
    check_folder(str(args.output))
    _check_operators(args.operator)
    settings = Settings(
        args.seed, args.time, args.output, args.timeout, int(args.memory * (1 << 30)), args.only,
        frozenset(args.operator),
    )  # fmt: skip
    campaign = Campaign(runtimes, settings, lambda text: print(text, file=sys.stderr, flush=True))
    try:
        state = campaign.run()
    except KeyboardInterrupt:
        print(f"{campaign.line()}\nthe same command goes on from here", file=sys.stderr, flush=True)
        raise
    print(text_report(state))
    print(f"\n{campaign.line()}")
    if missing := campaign.coverage.missing():
        print(f"operators not met: {', '.join(missing)}")
    if "tinyonnx" in names and (missing := campaign.coverage.missing_passes()):
        print(f"passes not met: {', '.join(missing)}")
    return not any(names[0] in cause["suspects"] for cause in state.causes.values())


def _check_operators(names: Sequence[str]) -> None:
    """Raise ConformanceError for an operator that the installed onnx lacks."""
    known = {operator for (_, operator), _ in all_operators()}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ConformanceError(f"--operator {name}: onnx {onnx.__version__} has no such operator{hint}")


def text_report(state: CampaignState) -> str:
    """Return a table of the causes, the most frequent first, and counts by suspect."""
    if not state.causes:
        return "no differences"
    causes = sorted(state.causes.values(), key=lambda cause: (cause["suspects"], cause["operators"]))
    rows = [("in doubt", "kind", "operators", "nodes", "folder")]
    rows += [
        (", ".join(c["suspects"]), c["kind"], ", ".join(c["operators"][:3]), str(c["nodes"]), c["folder"])
        for c in causes
    ]
    by_suspect = Counter(", ".join(cause["suspects"]) for cause in causes)
    counts = "; ".join(f"{name}: {count}" for name, count in by_suspect.most_common())
    return f"{table(rows, right=[3])}\n\n{counts}; {median(c['nodes'] for c in causes):g} nodes (median)"
