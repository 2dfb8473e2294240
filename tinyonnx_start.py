"""Entry points of the installed commands: Ctrl-C during their imports ends the process quietly, with code 130.

Outside of the packages, because importing a package may take as long as importing its command.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module


def audiotag() -> int:
    """Run `audiotag`."""
    return _run("audiotag.cli", "command")


def tinyonnx() -> int:
    """Run `tinyonnx`."""
    return _run("tinyonnx.cli", "main")


def onnx_conformance() -> int:
    """Run `onnx-conformance`."""
    return _run("onnx_conformance.cli", "main")


def _run(module: str, function: str) -> int:
    """Import a command, run it with Python's own handler of Ctrl-C, and return its exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # shells start background jobs without it
        code: int = getattr(import_module(module), function)()
        return code
    signal.signal(signal.SIGINT, _end)
    run = getattr(import_module(module), function)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = run()
    finally:
        signal.signal(signal.SIGINT, _end)  # output is flushed: nothing is left to do
    return code


def _end(_number: int, _frame: object) -> None:
    os._exit(130)
