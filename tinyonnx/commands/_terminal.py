"""Width and colours of the terminal on standard output."""

from __future__ import annotations

import os
import shutil
import sys

CHOICES = ("auto", "always", "never")

_RED = "\x1b[31m"
_END = "\x1b[0m"
_choice = "auto"


def set_color(choice: str) -> None:
    """Choose when colours are printed: on a terminal unless NO_COLOR is set (auto), always, or never."""
    global _choice
    _choice = choice


def warn(text: str) -> str:
    """Return text in the colour of problems, if colours are printed."""
    return f"{_RED}{text}{_END}" if text and _is_coloured() else text


def settle_output() -> None:
    """Discard what standard output did not take, so that the interpreter's own flush at exit does not fail as well."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def width() -> int | None:
    """Return the columns of the terminal on standard output; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _is_coloured() -> bool:
    if _choice != "auto":
        return _choice == "always"
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()
