"""Entry points of the installed commands: Ctrl-C during their imports ends the process quietly, with code 130.

Outside of the packages, because importing a package may take as long as importing its command.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module
from types import FrameType

_IMPORTS = "<frozen importlib._bootstrap>"
"""File of the functions that import modules, as it stands in frames."""


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
    """Import and run a command, and return its exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # shells start background jobs without it
        code: int = getattr(import_module(module), function)()
        return code
    signal.signal(signal.SIGINT, _end)
    run = getattr(import_module(module), function)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        code = run()
    finally:
        signal.signal(signal.SIGINT, _end)  # output is flushed: nothing is left to do
    return code


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(130)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but end the process within an import: modules in C turn it into errors of their own."""
    caller = frame
    while caller is not None:
        if caller.f_code.co_filename == _IMPORTS:
            _end(number, frame)
        caller = caller.f_back
    raise KeyboardInterrupt
