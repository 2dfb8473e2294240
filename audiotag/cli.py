"""The `audiotag` command.

Exit codes: 0 all is well; 1 a file or the model failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from audiotag import garbage
from audiotag.console import relay_engine, say
from audiotag.errors import Error

COMMANDS = ("tag", "serve", "demo", "models", "standalone")


def command() -> int:
    """`main` as a process of its own."""
    garbage.pause()
    try:
        return main()
    finally:
        garbage.leave()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; wrong usage raises SystemExit(2) as argparse does."""
    if sys.stdout is None:
        say("standard output is closed")
        return 1
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # a label or file name that the terminal's encoding lacks must not end the run
            stream.reconfigure(errors="backslashreplace")
    args = _parse(argv)
    relay_engine()
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        # the reader has what it wanted; python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Error as error:
        say(str(error))
        return 1
    except OSError as error:
        # commands name the files that they fail on: what is left is the full disk behind print()
        say(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with options also between paths, which argparse can't do below a subcommand."""
    given = sys.argv[1:] if argv is None else list(argv)
    # each command takes a while to import
    parser = make_parser(given[:1] if given and given[0] in COMMANDS else COMMANDS)
    args, rest = parser.parse_known_args(argv)
    if rest and hasattr(args, "paths") and all(arg == "-" or not arg.startswith("-") for arg in rest):
        args.paths += rest
    elif rest:
        args.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


class _Parser(argparse.ArgumentParser):
    """Says what is wrong without pages of usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _ShowVersion(argparse.Action):
    """Print the version, which takes importing the engine, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from audiotag import __version__

        print(f"audiotag {__version__}")
        parser.exit(0)


def make_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line, with some of its commands."""
    parser = _Parser(prog="audiotag", description="Tag sounds with the 527 classes of AudioSet.", allow_abbrev=False)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in commands:
        importlib.import_module(f"audiotag.commands.{name}").add_parser(subparsers)
    return parser
