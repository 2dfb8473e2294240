"""`audiotag standalone`: one file that tags sounds on any x86-64 Linux machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from audiotag.errors import OutputError

DESCRIPTION = """\
Write an executable that tags WAV files and standard input with a model, and needs nothing
else: copy it to any x86-64 Linux machine. Building it takes the package ziglang
(pip install 'tinyonnx[standalone]')."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "standalone",
        help="make one executable that needs nothing else",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="a model's name or an ONNX file (default: the shipped one)"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the executable")


def run(args: argparse.Namespace) -> int:
    """Build it and return the exit code."""
    from audiotag.models.catalog import resolve
    from audiotag.standalone.build import build_program

    output = Path(args.output)
    try:
        build_program(resolve(args.model), output)
        size = output.stat().st_size
    except OSError as error:
        raise OutputError(args.output, error.strerror or str(error)) from None
    print(f"{output}: {size:,} bytes")
    return 0
