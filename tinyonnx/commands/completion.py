"""`tinyonnx completion`: a script that lets a shell complete commands and options."""

from __future__ import annotations

import argparse
from typing import Any

from tinyonnx.tools.completion import SHELLS, script


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "completion",
        help="print a script that lets a shell complete commands and options",
        description='For bash and zsh: eval "$(tinyonnx completion bash)" in the file that the shell reads at its '
        "start. For fish: tinyonnx completion fish > ~/.config/fish/completions/tinyonnx.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=_run, parser=parser)


def _run(args: argparse.Namespace) -> int:
    print(script(args.whole(), args.shell), end="")
    return 0
