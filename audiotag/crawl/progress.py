"""How a run goes: on a terminal a line that is rewritten, elsewhere a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from audiotag.console import on_terminal, say, show
from audiotag.errors import Error, printable

REDRAW_SECONDS = 0.1
LOG_SECONDS = 60.0


class Progress:
    """Counts files, errors and seconds of audio.

    Args:
        done: files that earlier runs did,
        failures: and those of them that failed.
        count: finds out how many there are in all; called in a thread once it is worth it.
        log_every: seconds between lines where there is no terminal, 0 for none.
    """

    def __init__(
        self,
        done: int = 0,
        failures: int = 0,
        count: Callable[[], int | None] | None = None,
        log_every: float = LOG_SECONDS,
    ) -> None:
        self._done = done
        self._count = count
        self._total: int | None = None
        self._files, self._failures = 0, failures
        self._seconds = 0.0
        self._current = ""
        self._terminal = on_terminal()
        self._interval = REDRAW_SECONDS if self._terminal else log_every
        self._began = time.monotonic()
        self._next = self._began + self._interval
        self._told = False

    def start(self, name: str) -> None:
        """A clip begins, the only one at this time."""
        if self._terminal:
            self._current = f", {printable(name)}"
            show(self._line())

    def add(self, seconds: float, failed: bool) -> None:
        """A clip of so many seconds is done."""
        self._files += 1
        self._failures += failed
        self._seconds += seconds
        if failed and self._terminal and self._told:
            self._next = 0.0  # what was said of it took the place of the line
        self.tick()

    def tick(self) -> None:
        """Tell, if it is time to."""
        now = time.monotonic()
        if not self._interval or now < self._next:
            return
        self._next = now + self._interval
        self._told = True
        if self._count is not None:
            threading.Thread(target=self._find_total, args=(self._count,), daemon=True).start()
            self._count = None
        (show if self._terminal else say)(self._line())

    def finish(self) -> None:
        """Sum up, unless it went too fast to be worth it."""
        if self._told and self._files > 1:
            self._total, self._current = None, ""
            say(f"{self._line()}, {_clock(time.monotonic() - self._began)}")
        elif self._terminal:
            show("")

    def _find_total(self, count: Callable[[], int | None]) -> None:
        with suppress(Error):  # which those who need the files see, too
            self._total = count()

    def _line(self) -> str:
        elapsed = max(time.monotonic() - self._began, 1e-3)
        files = self._done + self._files
        text = f"{files:,}"
        if self._total:
            text += f" of {self._total:,} ({100 * files // self._total} %)"
        text += f" files, {self._failures:,} errors"
        if self._files:
            rate = self._files / elapsed
            text += f", {rate:.1f} files/s, {self._seconds / elapsed:.0f} × real time"
            if self._total:
                text += f", {_clock(max(0, self._total - files) / rate)} left"
        return text + self._current


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours or days else f"{minutes}:{seconds:02d}"
    return f"{days} d {clock}" if days else clock
