"""The `tinyonnx` command. Exit codes: 0 success, 1 the model or an input failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence

import tinyonnx
from tinyonnx.commands import compare, compile, completion, extract, inspect, ops, profile, reduce, run, trace
from tinyonnx.commands._process import CommandParser, exit_code, parse
from tinyonnx.commands._terminal import CHOICES, set_color
from tinyonnx.errors import printable

COMMANDS = (run, inspect, trace, compare, profile, extract, reduce, compile, ops, completion)
"""Modules of the commands, in the order of the help text."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return exit_code("tinyonnx", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    args = parse(make_parser(), argv)
    args.whole = make_parser
    set_color(args.color)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("tinyonnx").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    with warnings.catch_warnings():
        # numpy warns of infinities and NaN, which are results like any other
        warnings.simplefilter("ignore", RuntimeWarning)
        code: int = args.run(args)
    sys.stdout.flush()
    return code


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = CommandParser(prog="tinyonnx", description="Run ONNX models and look inside them.")
    parser.add_argument("--verbose", action="store_true", help="log what each pass rewrote and refused, and why")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        command.set_defaults(run=module.run, parser=command)
        module.add_arguments(command)
    for each in (parser, *commands.choices.values()):
        each.add_argument("--version", action="version", version=f"tinyonnx {tinyonnx.__version__}")
        each.add_argument(
            "--color", choices=CHOICES, default="auto" if each is parser else argparse.SUPPRESS,
            help="colours in tables: on terminals unless NO_COLOR is set (auto, the default), always, or never",
        )  # fmt: skip
    return parser
