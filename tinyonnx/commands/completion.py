"""`tinyonnx completion`: a script that lets a shell complete commands and options."""

from __future__ import annotations

import argparse

from tinyonnx.tools.completion import SHELLS, script

HELP = "print a script that lets a shell complete commands and options"

DESCRIPTION = """\
For bash and zsh: eval "$(tinyonnx completion bash)" in the file that the shell reads at its start. For fish:
tinyonnx completion fish > ~/.config/fish/completions/tinyonnx.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    print(script(args.whole(), args.shell), end="")
    return 0
