"""`tinyonnx extract`: the nodes of a model between tensors, as a model of its own."""

from __future__ import annotations

import argparse
import os

from tinyonnx.commands._shared import plural
from tinyonnx.errors import printable

HELP = "write the nodes between tensors as a model of their own"

DESCRIPTION = """\
The part has the weights that its nodes read. An input of the model that is needed besides --from stays one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument(
        "--from", dest="sources", nargs="+", default=[], metavar="TENSOR",
        help="tensors that become inputs (default: the model's inputs)",
    )  # fmt: skip
    parser.add_argument(
        "--to", dest="targets", nargs="+", default=[], metavar="TENSOR",
        help="tensors that become outputs (default: the model's outputs)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, metavar="PART.onnx", help="file to write")


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    from tinyonnx.tools.surgery import extract, save

    if os.path.exists(args.output) and os.path.exists(args.model) and os.path.samefile(args.model, args.output):
        args.parser.error(f"--output {printable(args.output)} would overwrite the model")
    part = extract(args.model, args.sources, args.targets)
    save(part, args.output)
    inputs, outputs = (", ".join(printable(v.name) for v in side) for side in (part.graph.input, part.graph.output))
    nodes = plural(len(part.graph.node), "node")
    print(f"{printable(args.output)}: {nodes}; inputs {inputs or 'none'}; outputs {outputs}")
    return 0
