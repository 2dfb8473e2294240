"""`tinyonnx run`: run a model on arrays."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tinyonnx.commands._shared import add_model, add_precision, feeds_of, open_session
from tinyonnx.errors import printable

HELP = "run a model on arrays"
DESCRIPTION = "Run a model on arrays."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_precision(parser)
    parser.add_argument(
        "--output",
        action="append",
        metavar="NAME",
        help="a tensor of the graph (default: all outputs)",
    )
    parser.add_argument("--save", metavar="FILE.npz", help="write the results instead of printing a summary")


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    session = open_session(args, threads=0)
    names = args.output or [arg.name for arg in session.get_outputs()]
    results = session.run(names, feeds_of(args, session))
    if args.save:
        with open(args.save, "wb") as file:
            np.savez(file, **dict(zip(names, results, strict=True)))
        return 0
    for name, result in zip(names, results, strict=True):
        print(f"{printable(name)}: {_summary(result)}")
    return 0


def _summary(result: Any) -> str:
    if not isinstance(result, np.ndarray):
        return repr(result)
    text = f"{result.dtype}{list(result.shape)}"
    if result.size == 0 or result.dtype.kind not in "fiub":
        return text
    numbers = result.astype(np.float64)
    return f"{text} min {numbers.min():.6g} max {numbers.max():.6g} mean {numbers.mean():.6g}"
