"""`audiotag standalone`: builds an executable that tags sounds on any x86-64 Linux machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from audiotag.errors import OutputError

DESCRIPTION = """\
Write an executable that tags WAV files and standard input with a model and has no
dependencies: copy it to any x86-64 Linux machine. Building it needs the package ziglang
(pip install 'tinyonnx[standalone]') and takes a minute or two the first time, while all
kernels are compiled for three CPU levels.

The executable takes WAV files or - and prints what `audiotag tag` prints for them
(text, or rows with --json); ./FILE --help lists its options."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "standalone",
        help="build an executable without dependencies",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="name, ONNX file or checkpoint (default: the bundled model)"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="path of the executable")


def run(args: argparse.Namespace) -> int:
    """Build the executable and return the exit code."""
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
