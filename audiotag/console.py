"""Messages on stderr, and on a terminal a status line.

A stderr that is closed or full is ignored, because results matter more than messages.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from audiotag.errors import printable

_shown = False


def separate_native_output() -> None:
    """Give `sys.stdout` and `sys.stderr` descriptors of their own, and point descriptors 1 and 2 to the null device.

    Decoders print notes about damaged files there, which would stand among rows and messages.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream.fileno() != descriptor:
            continue
        stream.flush()
        own = open(  # noqa: SIM115  it lives as long as the process
            os.dup(descriptor),
            "w",
            encoding=stream.encoding,
            errors=stream.errors,
            buffering=1 if stream.line_buffering else -1,
        )
        own.reconfigure(write_through=stream.write_through)
        setattr(sys, name, own)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


def own_descriptor(path: str) -> str:
    """Return the path to open for an alias of standard output or error, which `separate_native_output` has moved."""
    for name, stream in (("1", sys.stdout), ("2", sys.stderr)):
        aliases = (f"/dev/{'stdout' if name == '1' else 'stderr'}", f"/dev/fd/{name}", f"/proc/self/fd/{name}")
        if path in aliases and stream is not None:
            return f"/dev/fd/{stream.fileno()}"
    return path


def settle_output() -> None:
    """Discard what standard output did not take, so that the interpreter's own flush at exit does not fail as well."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print a message line, with control characters escaped; it replaces the status line."""
    _write(f"{_clearing()}audiotag: {printable(text)}\n")


class _Relay(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        passing = getattr(record, "passing", False) and on_terminal()
        (show if passing else say)(record.getMessage())


def relay_engine() -> None:
    """Print log messages of the engine, such as that it compiles kernels; its progress in place on a terminal."""
    logger = logging.getLogger("tinyonnx")
    if not any(isinstance(handler, _Relay) for handler in logger.handlers):
        logger.addHandler(_Relay(logging.INFO))
        logger.setLevel(logging.INFO)


def on_terminal() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def show(text: str) -> None:
    """Replace the status line on a terminal; an empty text clears it."""
    global _shown
    if (text or _shown) and on_terminal():
        import shutil  # takes 3 ms, which commands without a terminal save

        _write(f"{_clearing()}{printable(text)[: shutil.get_terminal_size().columns - 1]}")
        _shown = bool(text)


def _clearing() -> str:
    global _shown
    shown, _shown = _shown, False
    return "\r\x1b[K" if shown else ""


def _write(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
