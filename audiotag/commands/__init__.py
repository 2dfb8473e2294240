"""The subcommands of `audiotag`, one module each.

A module has `HELP` (its line in the list of commands), `DESCRIPTION`, perhaps `EPILOG`, `add_arguments(parser)` and
`run(args) -> exit code`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audiotag.errors import OutputError


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the option that most commands have."""
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="name, ONNX file or checkpoint (default: the bundled model)"
    )


def check_outputs(*, files: Sequence[str | None] = (), folders: Sequence[str | None] = ()) -> None:
    """Refuse, before the work, outputs that can't be written; None stands for an absent option.

    Raises OutputError.
    """
    from tinyonnx.files import check_file, check_folder

    for check, paths in ((check_file, files), (check_folder, folders)):
        for path in filter(None, paths):
            try:
                check(path)
            except OSError as error:
                raise OutputError(path, error.strerror or str(error)) from None
