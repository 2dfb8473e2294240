"""The `tinyonnx` command. Exit codes: 0 success, 1 the model or an input failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import tinyonnx
from tinyonnx.commands import compare, compile, completion, extract, inspect, ops, profile, reduce, run, trace
from tinyonnx.commands._terminal import CHOICES, set_color, settle_output
from tinyonnx.errors import printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    if sys.stdout is None:
        print("tinyonnx: standard output is closed", file=sys.stderr)
        return 1
    try:
        return _run(argv)
    except BrokenPipeError:
        return 0  # the reader has closed the pipe, which is not an error
    except KeyboardInterrupt:
        print("tinyonnx: interrupted", file=sys.stderr)
        return 130
    except tinyonnx.Error as error:
        print(f"tinyonnx: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        name = printable(str(error.filename or "standard output"))
        print(f"tinyonnx: {name}: {error.strerror or error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"tinyonnx: {error or 'out of memory'}", file=sys.stderr)
        return 1
    finally:
        settle_output()


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit:
        sys.stdout.flush()  # help, or the version
        raise
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


class _CommandParser(argparse.ArgumentParser):
    """Reports wrong usage in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _CommandParser(prog="tinyonnx", description="Run ONNX models and look inside them.")
    parser.add_argument("--verbose", action="store_true", help="log what each pass rewrote and refused, and why")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for command in (run, inspect, trace, compare, profile, extract, reduce, compile, ops, completion):
        command.add(commands)
    for each in (parser, *commands.choices.values()):
        each.add_argument("--version", action="version", version=f"tinyonnx {tinyonnx.__version__}")
        each.add_argument(
            "--color", choices=CHOICES, default="auto" if each is parser else argparse.SUPPRESS,
            help="colours in tables: on terminals unless NO_COLOR is set (auto, the default), always, or never",
        )  # fmt: skip
    return parser
