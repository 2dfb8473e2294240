"""`audiotag completion`: a script that lets a shell complete commands and options."""

from __future__ import annotations

import argparse

HELP = "print a script that lets a shell complete commands and options"

DESCRIPTION = """\
For bash and zsh: eval "$(audiotag completion bash)" in the file that the shell reads at its start.
For fish: audiotag completion fish > ~/.config/fish/completions/audiotag.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from tinyonnx.tools.completion import script

    print(script(args.whole(), args.shell), end="")
    return 0
