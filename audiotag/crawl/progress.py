"""Progress of a run: a status line on a terminal, otherwise a log line at regular intervals."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from audiotag.console import on_terminal, say, show
from audiotag.crawl.job import LONG
from audiotag.errors import Error, printable

REDRAW_SECONDS = 0.1
LOG_SECONDS = 60.0


@dataclass
class _Clip:
    """A clip in progress: the position, when and where the work on it was first seen, and its length if known."""

    position: float = 0.0
    first: float = 0.0
    since: float = field(default_factory=lambda: time.monotonic())
    length: float | None = None


class Progress:
    """Counts files, errors and seconds of audio.

    Args:
        done: number of files finished by earlier runs.
        failures: number of those that failed.
        count: returns the total number of files, None if unknown; called in a thread when progress is first shown.
        log_every: seconds between log lines if stderr is not a terminal; 0 disables them.
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
        self._path = ""
        self._clips: dict[str, _Clip] = {}
        self._terminal = on_terminal()
        self._interval = REDRAW_SECONDS if self._terminal else log_every
        self._began = time.monotonic()
        self._next = self._began + self._interval
        self._shown = False

    def start(self, name: str) -> None:
        """Note the clip that begins, and show its name; for runs that process one clip at a time."""
        self._path = name
        self._clips[name] = _Clip()
        if self._terminal:
            show(self._line())

    def reach(self, name: str, seconds: float) -> None:
        """Note the position in a clip, in seconds."""
        clip = self._clips.get(name)
        if clip is None:
            clip = self._clips[name] = _Clip(seconds, seconds)
        if seconds < clip.position:  # another process has begun it anew
            clip.first, clip.since = seconds, time.monotonic()
        if seconds >= LONG and clip.length is None:
            clip.length = math.nan  # looked for once
            threading.Thread(target=self._find_length, args=(name, clip), daemon=True).start()
        clip.position = seconds
        self.tick()

    def add(self, name: str, seconds: float, failed: bool) -> None:
        """Count a finished clip of the given length in seconds."""
        self._files += 1
        self._clips.pop(name, None)
        self._failures += failed
        self._seconds += seconds
        if failed and self._terminal and self._shown:
            self._next = 0.0  # its error message has replaced the status line
        self.tick()

    def tick(self) -> None:
        """Show the progress if the interval has passed."""
        now = time.monotonic()
        if not self._interval or now < self._next:
            return
        self._next = now + self._interval
        self._shown = True
        if self._count is not None:
            threading.Thread(target=self._find_total, args=(self._count,), daemon=True).start()
            self._count = None
        (show if self._terminal else say)(self._line())

    def finish(self) -> None:
        """Print a summary if progress has been shown and there was more than one file; clear the status line."""
        if self._shown and self._files > 1:
            self._total, self._path = None, ""
            self._clips.clear()
            say(f"{self._line()}, {_clock(time.monotonic() - self._began)}")
        elif self._terminal:
            show("")

    def _find_length(self, path: str, clip: _Clip) -> None:
        clip.length = clip_seconds(path) or math.nan

    def _find_total(self, count: Callable[[], int | None]) -> None:
        with suppress(Error):  # the run itself reports errors of the lists
            self._total = count()

    def _line(self) -> str:
        elapsed = max(time.monotonic() - self._began, 1e-3)
        files = self._done + self._files
        text, plural = f"{files:,}", "s" * ((self._total or files) != 1)
        if self._total:
            text += f" of {self._total:,} ({100 * files // self._total} %)"
        text += f" file{plural}, {self._failures:,} error{'s' * (self._failures != 1)}"
        if self._files:
            rate = self._files / elapsed
            text += f", {rate:.1f} files/s, {self._seconds / elapsed:.0f} × real time"
            if self._total:
                text += f", {_clock(max(0, self._total - files) / rate)} left"
        return text + self._current()

    def _current(self) -> str:
        """Return the name of the clip in progress, the position in a long one, and the time left if that is known.

        Of several long clips, it is the one that began first.
        """
        name, clip = next(((n, c) for n, c in self._clips.items() if c.position >= LONG), ("", None))
        if clip is None:
            return f", {printable(self._path)}" if self._path and self._terminal else ""
        text = f", {printable(name)} at {_clock(clip.position)}"
        done = clip.position - clip.first
        if clip.length is not None and clip.length >= clip.position and done:
            pace = (time.monotonic() - clip.since) / done
            text += f" of {_clock(clip.length)}, {_clock((clip.length - clip.position) * pace)} left"
        return text


def clip_seconds(path: str) -> float | None:
    """Return the length that the header of a sound file states; None if it states none, or is no regular file.

    libsndfile never gets the name: it would read and close standard input for "-", and guess formats from suffixes.
    """
    import soundfile

    try:
        if path == "-" or not os.path.isfile(path):  # bytes of a pipe can be read only once, by the decoder
            return None
        with open(path, "rb") as file:
            length = float(soundfile.info(file).duration)
    except (RuntimeError, OSError, TypeError):
        return None
    return length if 0 < length < 1e7 else None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours or days else f"{minutes}:{seconds:02d}"
    return f"{days} d {clock}" if days else clock
