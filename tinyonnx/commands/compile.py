"""`tinyonnx compile`: a model as a shared library or an executable."""

from __future__ import annotations

import argparse

from tinyonnx.codegen.targets import DEFAULT, TARGETS
from tinyonnx.commands._shared import add_model, feeds_of, open_session
from tinyonnx.errors import printable
from tinyonnx.ort.options import PRECISIONS

HELP = "make a library or an executable of a model"

DESCRIPTION = """\
Link a model and its kernels, for inputs of fixed shapes, into one file that needs nothing else: a shared
library with a C header, or an executable from raw numbers on standard input to raw numbers on standard
output. TINYONNX_CPU=v2 or v3 makes an executable for x86-64 use the kernels of a lower CPU level."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="FILE.so (Windows: .dll, macOS: .dylib): a library, and FILE.h; for wasm a module, and FILE.mjs; else an"
        " executable",
    )
    parser.add_argument(
        "--target", choices=tuple(TARGETS), default=DEFAULT, help=f"machine and system (default: {DEFAULT})"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=PRECISIONS[0], dest="stored",
        help="bfloat16: weights of large products in two bytes; their other operands are rounded, too, where the"
        " processor has AVX512-BF16 (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    from tinyonnx.native.products import compile_model

    session = open_session(args)
    for file in compile_model(args.model, feeds_of(args, session), args.output, args.target, args.stored):
        print(f"{printable(str(file))}: {file.stat().st_size:,} bytes")
    return 0
