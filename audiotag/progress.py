"""What is being done, on a terminal only."""

from __future__ import annotations

import shutil
import sys

from audiotag.errors import printable


class Progress:
    """One line on stderr that is rewritten for every clip; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._count = 0

    def start(self, name: str) -> None:
        """A clip begins."""
        self._count += 1
        if self._shown:
            text = f"{self._count}: {printable(name)}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for other output."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
