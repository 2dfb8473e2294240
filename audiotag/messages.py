"""What is said on stderr: messages, and on a terminal the progress.

Results matter more than messages: a stderr that is closed, or full, stops nothing.
"""

from __future__ import annotations

import logging
import shutil
import sys
from contextlib import suppress

from audiotag.errors import printable


def say(text: str) -> None:
    """One line of the program's own."""
    _write(f"audiotag: {text}\n")


class _Relay(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        show("")
        say(record.getMessage())


def relay_engine() -> None:
    """Say what the engine has to say, such as that it compiles."""
    logger = logging.getLogger("tinyonnx")
    if not any(isinstance(handler, _Relay) for handler in logger.handlers):
        logger.addHandler(_Relay(logging.INFO))
        logger.setLevel(logging.INFO)


def on_terminal() -> bool:
    """Whether somebody watches stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


def show(text: str) -> None:
    """Rewrite the line of progress, on a terminal; an empty text clears it."""
    if on_terminal():
        _write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")


def _write(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


class Progress:
    """The clip that is being done."""

    def __init__(self) -> None:
        self._count = 0

    def start(self, name: str) -> None:
        """A clip begins."""
        self._count += 1
        show(f"{self._count}: {printable(name)}")

    def clear(self) -> None:
        """Make room for other output."""
        show("")
