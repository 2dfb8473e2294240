"""`audiotag standalone`: builds an executable that tags sounds on any machine of a kind."""

from __future__ import annotations

import argparse
from pathlib import Path

from audiotag.commands import add_model, check_outputs
from audiotag.errors import OutputError
from audiotag.options import precision

HELP = "build an executable without dependencies"

DESCRIPTION = """\
Write an executable that tags WAV files and standard input with a model and has no
dependencies: copy it to any machine of the target. Building it, on any machine, needs the
package ziglang (pip install 'tinyonnx[standalone]') and takes a minute or two the first time,
while all kernels are compiled for every CPU level of the target.

The executable takes WAV files or - and prints what `audiotag tag` prints for them
(text, or rows with --json); ./FILE --help lists its options."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "--target",
        type=target,
        default="x86_64-linux",
        metavar="TARGET",
        help="machine and system, such as aarch64-linux or wasm (default: x86_64-linux)",
    )
    parser.add_argument(
        "--precision", type=precision, default="float32", metavar="TYPE",
        help="of large products: float32 (default), or bfloat16: weights take two bytes, and processors with"
        " AVX512-BF16 multiply in bfloat16",
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="path of the executable")


def target(text: str) -> str:
    """Check the name of a target, which takes importing the engine."""
    from tinyonnx.codegen.targets import TARGETS

    if text not in TARGETS:
        raise argparse.ArgumentTypeError(f"{text} is not one of {', '.join(TARGETS)}")
    return text


def run(args: argparse.Namespace) -> int:
    """Build the executable and return the exit code."""
    from audiotag.models.catalog import resolve
    from audiotag.standalone.build import build_program

    check_outputs(files=[args.output])
    output = Path(args.output)
    try:
        built = build_program(resolve(args.model), output, args.target, args.precision)
        files = [(file, file.stat().st_size) for file in built]
    except OSError as error:
        raise OutputError(args.output, error.strerror or str(error)) from None
    for file, size in files:
        print(f"{file}: {size:,} bytes")
    return 0
