"""A command as a process: its parser, and the errors that end it with one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tinyonnx.commands._terminal import settle_output
from tinyonnx.errors import Error, printable


class CommandParser(argparse.ArgumentParser):
    """Reports wrong usage in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)} (see {self.prog} --help)\n")


def exit_code(program: str, run: Callable[[], int], errors: tuple[type[Exception], ...] = (), unread: int = 0) -> int:
    """Call `run` and return its exit code; errors are reported in one line on stderr.

    Args:
        program: name that begins the line.
        run: prints to standard output.
        errors: expected exceptions besides those of the engine and OSError.
        unread: the exit code if the reader of standard output has closed the pipe.

    Returns:
        The exit code of `run`; 1 after an error, 130 after an interrupt.
    """
    if sys.stdout is None:
        print(f"{program}: standard output is closed", file=sys.stderr)
        return 1
    expected: tuple[type[Exception], ...] = (Error, *errors)
    try:
        return run()
    except BrokenPipeError:
        return unread
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except expected as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        name = printable(str(error.filename or "standard output"))
        print(f"{program}: {name}: {error.strerror or error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"{program}: {error or 'out of memory'}", file=sys.stderr)
        return 1
    finally:
        settle_output()


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; raise OSError if help, or the version, can't be printed."""
    try:
        return parser.parse_args(argv)
    except SystemExit:
        sys.stdout.flush()
        raise
