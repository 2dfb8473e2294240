"""`onnx-conformance COMMAND`. Exit codes: 0 conforms, 1 does not or couldn't be run, 2 wrong usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import tinyonnx
from onnx_conformance import ConformanceError, accuracy
from onnx_conformance.fuzz import command as fuzz
from onnx_conformance.suite import command as backend
from tinyonnx.commands._terminal import settle_output
from tinyonnx.errors import printable

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
    if sys.stdout is None:
        print("conformance: standard output is closed", file=sys.stderr)
        return 1
    expected: tuple[type[Exception], ...] = (ConformanceError, tinyonnx.Error, *errors)
    try:
        return 0 if _run(_parser(program, commands), argv) else 1
    except BrokenPipeError:
        return 1  # the reader has closed the pipe: the verdict is lost
    except KeyboardInterrupt:
        print("conformance: interrupted", file=sys.stderr)
        return 130
    except expected as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        name = printable(str(error.filename or "standard output"))
        print(f"conformance: {name}: {error.strerror or error}", file=sys.stderr)
        return 1
    finally:
        settle_output()


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> bool:
    try:
        args = parser.parse_args(argv)
    except SystemExit:
        sys.stdout.flush()  # help
        raise
    conforms: bool = args.run(args)
    sys.stdout.flush()
    return conforms


def command() -> None:
    """Run the installed command."""
    sys.exit(main())


class _CommandParser(argparse.ArgumentParser):
    """Reports wrong usage in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)} (see {self.prog} --help)\n")


def _parser(program: str, commands: Sequence[Declare]) -> argparse.ArgumentParser:
    parser = _CommandParser(prog=program, description="Check ONNX runtimes against each other and onnx.")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    for declare in commands:
        declare(actions)
    return parser
