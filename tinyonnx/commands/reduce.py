"""`tinyonnx reduce`: the smallest part of a model that differs from another runtime, or fails."""

from __future__ import annotations

import argparse
import json
import os
import sys

import numpy as np

from tinyonnx.commands._shared import add_against, add_model, at_least, feeds_of, open_session, plural
from tinyonnx.errors import printable
from tinyonnx.files import check_folder, write_text

HELP = "shrink a model that differs from another runtime, or fails, to a few nodes"

DESCRIPTION = """\
Writes a folder with the part, its inputs, the other side's results and a script that compares them. Exit code
1 if the model neither differs nor fails."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_against(parser)
    parser.add_argument(
        "--seconds", type=at_least(1, float), default=120.0, metavar="S",
        help="time after which the smallest part found so far is written (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", dest="folder", required=True, metavar="FOLDER", help="folder to write, which must not exist"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    from tinyonnx.tools.other_sides import other_side
    from tinyonnx.tools.reduce import reduce_model
    from tinyonnx.tools.surgery import open_model, save

    if os.path.exists(args.folder):
        args.parser.error(f"--output {printable(args.folder)} exists already")
    check_folder(args.folder)
    feeds = feeds_of(args, open_session(args))
    reduced = reduce_model(
        open_model(args.model), feeds, other_side(args.against), args.tolerance, args.seconds,
        lambda text: print(f"tinyonnx: {printable(text)}", file=sys.stderr),
    )  # fmt: skip
    if reduced is None:
        print(f"{printable(args.model)} does not differ from {printable(args.against)} by more than {args.tolerance:g}")
        return 1
    os.makedirs(args.folder)
    save(reduced.model, os.path.join(args.folder, "model.onnx"))
    for name, arrays in (("inputs", reduced.feeds), ("expected", reduced.expected)):
        np.savez(os.path.join(args.folder, f"{name}.npz"), **arrays)  # type: ignore[arg-type]
    write_text(os.path.join(args.folder, "compare.py"), _SCRIPT.format(against=json.dumps(args.against)))
    graph = reduced.model.graph
    operators = ", ".join(node.op_type for node in graph.node)
    shapes = ", ".join(f"{printable(name)} {list(array.shape)}" for name, array in reduced.feeds.items())
    print(f"{printable(args.folder)}: {plural(len(graph.node), 'node')} ({operators}), inputs {shapes or 'none'}")
    print(printable(reduced.fault))
    return 0


_SCRIPT = '''"""Run model.onnx on inputs.npz with tinyonnx and compare with expected.npz, from the other side."""

from pathlib import Path

import numpy as np

import tinyonnx

AGAINST = {against}
here = Path(__file__).parent
feeds, expected = dict(np.load(here / "inputs.npz")), np.load(here / "expected.npz")
results = tinyonnx.InferenceSession(here / "model.onnx").run(list(expected.files), feeds)
for name, result in zip(expected.files, results):
    wanted = expected[name]
    ours, theirs = (f"{{x.dtype}}{{list(x.shape)}}" for x in (result, wanted))
    print(f"{{name}}: {{ours}}, the other side ({{AGAINST}}) {{theirs}}")
    if result.shape == wanted.shape:
        error = np.abs(result.astype(np.float64) - wanted.astype(np.float64))
        print(f"  greatest difference {{error.max()}} beside a scale of {{np.abs(wanted).max()}}")
'''
