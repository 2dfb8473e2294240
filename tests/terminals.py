"""Reading of pseudo terminals."""

from __future__ import annotations

import os
from contextlib import suppress


def read_terminal(descriptor: int) -> str:
    """Read our side of a pseudo terminal to its end, and close it."""
    screen = b""
    with suppress(OSError):  # the end of a pseudo terminal
        while data := os.read(descriptor, 1 << 16):
            screen += data
    os.close(descriptor)
    return screen.decode()
