"""`onnx-conformance COMMAND`. Exit codes: 0 conforms, 1 does not or couldn't be run, 2 wrong usage."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tinyonnx
from onnx_conformance import ConformanceError, accuracy
from onnx_conformance.fuzz import command as fuzz
from onnx_conformance.suite import command as backend

Declare = Callable[[Any], None]
"""A function that declares commands on the sub-parsers."""

COMMANDS: tuple[Declare, ...] = (backend.add, fuzz.add, accuracy.add)


def main(
    argv: Sequence[str] | None = None,
    program: str = "onnx-conformance",
    commands: Sequence[Declare] = COMMANDS,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run a command and return its exit code; `errors` are further ones that are a line on stderr."""
    args = _parser(program, commands).parse_args(argv)
    expected: tuple[type[Exception], ...] = (ConformanceError, tinyonnx.Error, OSError, *errors)
    try:
        conforms: bool = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader is gone: without this the interpreter reports an error when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("conformance: interrupted", file=sys.stderr)
        return 130
    except expected as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    return 0 if conforms else 1


def command() -> None:
    """Run the installed command."""
    sys.exit(main())


def _parser(program: str, commands: Sequence[Declare]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Check ONNX runtimes against each other and onnx.")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    for declare in commands:
        declare(actions)
    return parser
