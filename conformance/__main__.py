"""`python -m conformance COMMAND`: the commands of `onnx-conformance`, and the checks of this project's models."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import audiotag
import tinyonnx
from audiotag.models.catalog import resolve
from audiotag.models.network import Network
from conformance import esc10, golden, precision
from conformance.resampling import table
from onnx_conformance import cli
from tinyonnx.commands._shared import at_least, checked, plural
from tinyonnx.commands.compare import layer_table
from tinyonnx.tools import compare
from tinyonnx.tools.feeds import DEFAULT_SIZE, make_feeds, parse_dim
from tinyonnx.tools.oracles import reference_values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return cli.main(argv, "python -m conformance", (*cli.COMMANDS, _declare), (audiotag.Error,))


def _declare(commands: Any) -> None:
    model_help = "FILE.onnx, CHECKPOINT.pt, or a name that `audiotag models list` knows"

    command = commands.add_parser("layers", help="compare every layer with onnx.reference")
    command.add_argument("model", metavar="MODEL", help=model_help)
    command.add_argument("--golden", type=Path, metavar="FILE.npz", help="PyTorch's results for this model")
    command.add_argument("--audio", type=Path, metavar="DIR", help="recordings of --golden, to check log-mels as well")
    command.add_argument(
        "--dim",
        type=checked(parse_dim),
        action="append",
        default=[],
        metavar="NAME=N",
        help=f"size of a symbolic dimension (default: 1 if it is the first one of an input, else {DEFAULT_SIZE})",
    )
    command.add_argument("--seed", type=at_least(0), default=0, help="seed of the noise that is fed without --golden")
    command.add_argument(
        "--tolerance",
        type=at_least(0, float),
        default=compare.TOLERANCE,
        help="greatest error relative to each layer's scale (default: %(default)g)",
    )
    command.add_argument("--unfused", action="store_true", help="run the file's own nodes in numpy, without kernels")
    command.set_defaults(run=_layers)

    command = commands.add_parser("esc10", help="measure zero-shot accuracy on ESC-10")
    command.add_argument("folder", type=Path, metavar="DIR", help="a folder per class with files FOLD-*.ogg")
    command.add_argument("--model", required=True, help=model_help)
    command.add_argument("--folds", type=_folds, default="1,2,3,4", metavar="LIST", help="folds (default: %(default)s)")
    command.add_argument(
        "--at-least", type=at_least(0), default=0, metavar="N", help="fail with fewer correct decisions"
    )
    command.add_argument("--against", choices=["onnxruntime"], help="fail if it decides differently")
    command.add_argument("--json", action="store_true", help="print counts and every decision as JSON")
    command.set_defaults(run=_esc10)

    command = commands.add_parser("precision", help="compare bfloat16 with float32 on recordings")
    command.add_argument("model", metavar="MODEL", help=model_help)
    command.add_argument("folder", type=Path, metavar="DIR", help="recordings; also ESC-10's, a folder per class")
    command.add_argument("--json", action="store_true", help="print the numbers as JSON")
    command.set_defaults(run=_precision)

    command = commands.add_parser("resampling", help="compare the standalone program's resampler with soxr's")
    command.set_defaults(run=_resampling)


def _folds(text: str) -> list[int]:
    folds = text.split(",")
    if not all(fold.strip().isdecimal() for fold in folds):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of folds like 1,2,3")
    return [int(fold) for fold in folds]


def _layers(args: argparse.Namespace) -> bool:
    clips = golden.read_clips(args.golden) if args.golden else []
    options = tinyonnx.SessionOptions()
    if args.unfused:
        options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = resolve(args.model).source
    session = tinyonnx.InferenceSession(source, options)
    feeds = golden.feeds(session, clips[0]) if clips else make_feeds(session, None, dict(args.dim), args.seed)
    comparison = compare.compare_layers(session, feeds, reference_values(source, feeds))
    checks = list(golden.check_model(session, clips)) if clips else []
    if clips and args.audio:
        checks.append(golden.check_features(clips, args.audio))

    culprit = comparison.first_over(args.tolerance)
    worst = comparison.worst
    print(
        f"{args.model}: {plural(len(comparison.layers), 'layer')} against onnx.reference, tolerance {args.tolerance:g}"
    )
    print(f"worst: {worst.name}: {worst.problem or f'{worst.relative:.1e} of its scale'}")
    if culprit:
        print(f"FAILED, first in: {culprit.name} ({culprit.title}): {culprit.problem or f'{culprit.relative:.1e}'}")
    if comparison.unmatched:
        print(f"not in the reference, not compared: {', '.join(comparison.unmatched)}")
    print(f"\n{layer_table(comparison, args.tolerance)}")
    if clips:
        print(f"\nagainst PyTorch's numbers, tolerance {golden.TOLERANCE:g}")
        print("\n".join(map(str, checks)))
        if not args.audio:
            print("skipped melspec: no recordings (--audio DIR)")
    compared = len(comparison.layers) >= len(comparison.unmatched)
    return culprit is None and compared and all(check.ok for check in checks)


def _precision(args: argparse.Namespace) -> bool:
    result = precision.compare(args.model, args.folder).summary()
    print(json.dumps(result, indent=1) if args.json else precision.report(result))
    return True


def _resampling(_: argparse.Namespace) -> bool:
    print(table())
    return True


def _esc10(args: argparse.Namespace) -> bool:
    clips = esc10.find_clips(args.folder, args.folds)
    source = resolve(args.model).source
    other = esc10.onnxruntime_logits(source) if args.against else None
    ours, theirs = esc10.decide(clips, Network(source, args.model), other)
    result = esc10.summary(ours)
    differing = esc10.differing(ours, theirs) if theirs else []
    if theirs:
        result["against"] = {"runtime": args.against, "differing": [str(a.path) for a, _ in differing]}
    print(json.dumps(result, indent=1) if args.json else esc10.report(result))
    for a, b in differing:
        decisions = f"{a.predicted} by {a.margin:.4f}, {args.against}: {b.predicted} by {b.margin:.4f}"
        print(f"{a.path}: {decisions}", file=sys.stderr)
    if result["correct"] < args.at_least:
        print(f"FAILED: {result['correct']} correct decisions, at least {args.at_least} required", file=sys.stderr)
    return result["correct"] >= args.at_least and not differing


if __name__ == "__main__":
    sys.exit(main())
