"""`audiotag completion`: a script that lets a shell complete commands and options."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "completion",
        help="print a script that lets a shell complete commands and options",
        description='For bash and zsh: eval "$(audiotag completion bash)" in the file that the shell reads at its '
        "start. For fish: audiotag completion fish > ~/.config/fish/completions/audiotag.fish",
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from tinyonnx.tools.completion import script

    print(script(args.whole(), args.shell), end="")
    return 0
