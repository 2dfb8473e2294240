"""The `audiotag` command.

Exit codes: 0 success; 1 a file or the model failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from audiotag.console import relay_engine, say, separate_native_output, settle_output
from audiotag.errors import Error

COMMANDS = (
    "tag",
    "serve",
    "demo",
    "models",
    "standalone",
    "web",
    "train",
    "evaluate",
    "search",
    "segments",
    "completion",
)


def command() -> int:
    """Run `main` as the whole of a process, without garbage collection during start and exit.

    Imported modules and loaded models live until the command ends, so that collecting garbage wastes CPU time.
    Commands that run long enable collection with `audiotag.crawl.job.resume_collection`.

    `tag` computes with the engine's kernels, threads and processes. So numpy's BLAS gets one thread, unless the user
    sets another number: each further one spins for some 20 ms when numpy is imported.
    """
    gc.disable()
    if sys.argv[1:2] == ["tag"]:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is imported
    if sys.argv[1:2] in (["tag"], ["serve"], ["demo"]):
        separate_native_output()
    try:
        return main()
    finally:
        gc.freeze()  # so that the interpreter's last collection finds nothing to scan


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; wrong usage raises SystemExit(2) as argparse does."""
    if sys.stdout is None:
        say("standard output is closed")
        return 1
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # a label or file name that the terminal's encoding can't express must not end the run
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(argv)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        return 0  # the reader has closed the pipe, which is not an error
    except Error as error:
        say(str(error))
        return 1
    except OSError as error:
        # commands convert errors of their files; errors that arrive here are of writes to standard output
        say(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return 1
    finally:
        settle_output()


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parse(argv)
    except SystemExit:
        sys.stdout.flush()  # help, or the version
        raise
    args.whole = make_parser
    relay_engine()
    code: int = args.run(args)
    sys.stdout.flush()
    return code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; unlike argparse, accept options between the paths of a subcommand."""
    given = sys.argv[1:] if argv is None else list(argv)
    # only the command in use is imported, because each takes long
    parser = make_parser(given[:1] if given and given[0] in COMMANDS else COMMANDS)
    args, rest = parser.parse_known_args(argv)
    if rest and hasattr(args, "paths") and all(arg == "-" or not arg.startswith("-") for arg in rest):
        args.paths += rest
    elif rest:
        files = [arg for arg in rest if os.path.lexists(arg)]
        hint = f"; {files[0]} is a file: write ./{files[0]}" if files else ""
        args.parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    return args


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _ShowVersion(argparse.Action):
    """Print the version, which takes importing the engine, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from audiotag import __version__

        print(f"audiotag {__version__}")
        parser.exit(0)


def make_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Make the parser of the command line with the given commands."""
    parser = _Parser(prog="audiotag", description="Tag sounds with the 527 classes of AudioSet.", allow_abbrev=False)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in commands:
        module = importlib.import_module(f"audiotag.commands.{name}")
        each = subparsers.add_parser(
            name, help=module.HELP, description=module.DESCRIPTION, epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip
        each.set_defaults(run=module.run, parser=each)
        module.add_arguments(each)
        each.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    return parser
