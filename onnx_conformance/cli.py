"""`onnx-conformance COMMAND`. Exit codes: 0 conforms, 1 does not or couldn't be run, 2 wrong usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from onnx_conformance import ConformanceError, accuracy
from onnx_conformance.fuzz import command as fuzz
from onnx_conformance.suite import command as backend
from tinyonnx.commands._process import CommandParser, exit_code, parse

Declare = Callable[[Any], None]
"""A function that declares commands on the sub-parsers."""

COMMANDS: tuple[Declare, ...] = (backend.add, fuzz.add, accuracy.add)


def main(
    argv: Sequence[str] | None = None,
    program: str = "onnx-conformance",
    commands: Sequence[Declare] = COMMANDS,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run a command and return its exit code; exceptions in `errors` are also reported in one line on stderr."""

    def run() -> int:
        args = parse(_parser(program, commands), argv)
        conforms: bool = args.run(args)
        sys.stdout.flush()
        return 0 if conforms else 1

    return exit_code("conformance", run, (ConformanceError, *errors), unread=1)  # a closed pipe loses the verdict


def command() -> None:
    """Run the installed command."""
    sys.exit(main())


def _parser(program: str, commands: Sequence[Declare]) -> argparse.ArgumentParser:
    parser = CommandParser(prog=program, description="Check ONNX runtimes against each other and onnx.")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    for declare in commands:
        declare(actions)
    return parser
