"""`tinyonnx compare`: find the layer where two runs of a model diverge."""

from __future__ import annotations

import argparse
import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

from tinyonnx.commands._shared import (
    add_against,
    add_html,
    add_json,
    add_model,
    add_precision,
    feeds_of,
    new_report,
    open_session,
    plural,
    print_json,
    shape_text,
    table,
)
from tinyonnx.errors import InputError, printable
from tinyonnx.ort.session import InferenceSession
from tinyonnx.tools import compare
from tinyonnx.tools.compare import (
    Comparison,
    LayerComparison,
    RunningValues,
    SavedValues,
    compare_layers,
    layer_names,
)

HELP = "compare layer by layer with another runtime, model or saved activations"
DESCRIPTION = "Exit code 1 if a layer differs by more than the tolerance."

_MANY_ULPS = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_precision(parser)
    add_against(parser, activations=True)
    parser.add_argument("--unoptimized", action="store_true", help="compare the file's own nodes in numpy")
    add_html(parser)
    add_json(
        parser,
        "{first_over: a layer's name or null, tolerance, worst: tinyonnx.tools.compare.LayerComparison, "
        "layers: [LayerComparison], unmatched: [names]}",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    session = open_session(args, optimised=not args.unoptimized)
    feeds = feeds_of(args, session)
    other = _other(args, session, feeds)
    report = new_report(f"against {os.path.basename(args.against)}:", session, feeds) if args.html else None
    comparison = (
        compare_layers(session, feeds, other, report.add_sides) if report else compare_layers(session, feeds, other)
    )
    culprit = comparison.first_over(args.tolerance)
    if report is not None:
        report.add_comparison(comparison, args.tolerance)
        report.verdict, report.failed = " · ".join(_summary(comparison, culprit, args)), culprit is not None
        report.write(args.html)
    if args.json:
        print_json(
            {
                "first_over": culprit.name if culprit else None,
                "tolerance": args.tolerance,
                "worst": comparison.worst,
                "layers": comparison.layers,
                "unmatched": comparison.unmatched,
            }
        )
    else:
        print("\n".join(_summary(comparison, culprit, args)), layer_table(comparison, args.tolerance), sep="\n\n")
    return 1 if culprit else 0


def _other(args: argparse.Namespace, session: InferenceSession, feeds: Mapping[str, Any]) -> compare.Values:
    names = [*layer_names(session, feeds), *(arg.name for arg in session.get_outputs())]
    match args.against:
        case "reference":
            from tinyonnx.tools.oracles import reference_values

            return reference_values(args.model, feeds)
        case "onnxruntime":
            from tinyonnx.tools.oracles import onnxruntime_values

            return onnxruntime_values(args.model, feeds, names)
        case "unoptimized":
            return RunningValues(args.model, feeds, names)
        case path if path.endswith(".npz") or zipfile.is_zipfile(path):
            return SavedValues(path)
        case path if not os.path.exists(path):
            raise InputError(f"--against {path}: is neither a file nor one of reference, onnxruntime, unoptimized")
        case path:
            return RunningValues(path, feeds, names)


def _summary(comparison: Comparison, culprit: LayerComparison | None, args: argparse.Namespace) -> list[str]:
    worst = comparison.worst
    layers = plural(len(comparison.layers), "layer")
    lines = [f"{printable(args.model)} against {args.against}: {layers}, tolerance {args.tolerance:g}"]
    if culprit:
        lines.append(f"FIRST OVER: {printable(culprit.name)} ({printable(culprit.title)}): {_verdict(culprit)}")
    lines.append(f"worst: {printable(worst.name)}: {_verdict(worst)}")
    quanta = comparison.quanta(args.tolerance)
    if quanta:
        lines.append(
            f"{plural(quanta, 'layer')} over the tolerance by one quantum of bytes, or by what follows from it: "
            "exact sums of bytes may round to another byte than sums of floats"
        )
    if comparison.unmatched:
        names = ", ".join(map(printable, comparison.unmatched))
        lines.append(f"not on the other side, not compared: {names}")
    return lines


def _verdict(layer: LayerComparison) -> str:
    return layer.problem or f"{layer.relative:.1e} of its scale"


def layer_table(comparison: Comparison, tolerance: float) -> str:
    """Format one line per layer: absolute error, error relative to its scale and in ULP, and the cosine."""
    rows = [("layer", "op", "shape", "max |Δ|", "relative", "ULP", "cosine", "")]
    for layer in comparison.layers:
        measured = _error(layer.error), _error(layer.relative), ulp_text(layer, tolerance), _cosine(layer.cosine)
        numbers = ("",) * 4 if layer.problem else measured
        within = "quantum" if layer.relative > tolerance else ""
        verdict = layer.problem or (within if layer.within(tolerance) else "OVER")
        rows.append((layer.name, layer.title, shape_text(layer.shape), *numbers, verdict))
    over = {i for i, layer in enumerate(comparison.layers, 1) if not layer.within(tolerance)}
    return table(rows, right=(3, 4, 5, 6), problems=over)


def ulp_text(layer: LayerComparison, tolerance: float) -> str:
    """Return the distance in representable numbers, or words for a great one between numbers near 0.

    Neighbours of 0 are billions of representable numbers apart from it: such a distance says nothing where the
    difference is small beside the layer's scale.
    """
    return "near 0" if layer.ulp > _MANY_ULPS and layer.within(tolerance) else f"{layer.ulp:,}"


def _error(number: float) -> str:
    return "0" if not number else "" if math.isinf(number) else f"{number:.1e}"


def _cosine(number: float) -> str:
    return "NaN" if math.isnan(number) else f"{number:.9f}"
