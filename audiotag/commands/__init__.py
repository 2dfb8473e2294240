"""The subcommands of `audiotag`, one module each: `add_parser(subparsers)` and `run(args) -> exit code`."""

from __future__ import annotations

import argparse


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the option that most commands have."""
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="name, ONNX file or checkpoint (default: the bundled model)"
    )
