"""Conversion of window scores to events: a class with its start and end time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiotag.labels import LabelSet
    from tinyonnx.ir import Array

WINDOW, HOP = 2.0, 0.5
"""Default window length and hop in seconds."""

TICK = 1e-6
"""Minimum length of an event in seconds; a clip without samples has no event."""

ON, OFF = 0.5, 0.6
"""Default onset threshold, and the offset threshold as a fraction of it."""


@dataclass(frozen=True)
class EventOptions:
    """Thresholds that define when an event begins and ends.

    Args:
        on: an event begins when the score of its class reaches this onset threshold.
        off: it ends when the score falls below this offset threshold (hysteresis).
        classes: (index, on, off) of classes with their own thresholds.
        only: ignore all classes that are not in `classes`.
        min_duration: omit shorter events; seconds.
        max_gap: join events of a class separated by at most this time; seconds.

    Raises:
        ValueError: not 0 < off <= on <= 1, or a negative time.
    """

    on: float = ON
    off: float = OFF * ON
    classes: tuple[tuple[int, float, float], ...] = ()
    only: bool = False
    min_duration: float = 0.0
    max_gap: float = 0.0

    def __post_init__(self) -> None:
        for on, off in ((self.on, self.off), *((on, off) for _, on, off in self.classes)):
            # NaN fails this form of the comparison
            if not 0 < off <= on <= 1:
                raise ValueError(f"thresholds {on:g}:{off:g} must satisfy 0 < OFF <= ON <= 1")
        for name, value in (("min_duration", self.min_duration), ("max_gap", self.max_gap)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number >= 0, not {value:g}")


_THRESHOLDS = r"\s*([-+.\d]+)\s*(?::\s*([-+.\d]+))?\s*(?:,|$)"
_FOR_ALL, _FOR_ONE = re.compile("()" + _THRESHOLDS), re.compile("([^=]+)=" + _THRESHOLDS)


def parse(text: str, labels: LabelSet | None = None) -> EventOptions:
    """Parse comma-separated thresholds: "ON[:OFF]" for all classes, "CLASS=ON[:OFF]" for one class of `labels`.

    Without an item for all classes, only the named ones are reported. OFF defaults to 0.6 * ON.

    Raises LabelError, ValueError.
    """
    from audiotag.labels import audioset

    known = audioset() if labels is None else labels
    general: tuple[float, float] | None = None
    classes: dict[int, tuple[float, float]] = {}
    at = 0
    while at < len(text) or not text:
        item = _FOR_ALL.match(text, at) or _FOR_ONE.match(text, at)
        if item is None:
            raise ValueError(
                f"{text[at:]!r} is not ON, ON:OFF, CLASS=ON or CLASS=ON:OFF, for example 0.5:0.3 or Dog=0.5"
            )
        at = item.end()
        name, on = item[1], float(item[2])
        thresholds = on, float(item[3]) if item[3] else OFF * on
        if not name:
            general = thresholds
        else:
            classes[known.find(name.strip()).index] = thresholds
    options = tuple((index, *pair) for index, pair in sorted(classes.items()))
    return EventOptions(*(general or (ON, OFF * ON)), options, only=general is None)


@dataclass(frozen=True)
class Event:
    """One occurrence of a class: its index `label`, begin and end in seconds, and its highest score."""

    label: int
    start: float
    end: float
    score: float


class Segmenter:
    """Converts the scores of successive windows to events.

    Of overlapping or adjacent windows, each determines the time that is nearer to its middle than
    to the middle of its neighbours. An event continues across a gap between windows only if the gap
    is at most `max_gap`.

    Args:
        options: when an event begins and ends.
        classes: number of classes.
        among: indices of the classes to report; None for all.
    """

    def __init__(self, options: EventOptions, classes: int, among: tuple[int, ...] | None = None) -> None:
        import numpy as np

        self._options = options
        self._on, self._off = (np.full(classes, float(x)) for x in (options.on, options.off))
        wanted = np.full(classes, not options.only)
        for index, on, off in options.classes:
            self._on[index], self._off[index], wanted[index] = on, off, True
        if among is not None:
            wanted &= np.isin(np.arange(classes), among)
        self._on[~wanted] = np.inf
        self._active: dict[int, Event] = {}
        self._ended: dict[int, Event] = {}
        self._window: tuple[float, float] | None = None

    def push(self, start: float, end: float, scores: Array) -> Iterator[Event]:
        """Add the next window with its scores (classes,); yield the events that can't change any more."""
        left, right = self._borders(start, end)
        self._window = start, end
        for index, event in list(self._active.items()):
            self._active[index] = replace(event, end=left)
            if not (scores[index] >= self._off[index] and right - left <= self._options.max_gap):
                self._ended[index] = self._active.pop(index)
        for index in (scores >= self._on).nonzero()[0].tolist():
            if index not in self._active:
                self._active[index] = self._begin(index, right)
        for index, event in self._active.items():
            self._active[index] = replace(event, end=end, score=max(event.score, float(scores[index])))
        yield from self._take(right)

    def finish(self) -> Iterator[Event]:
        """End the clip; yield the remaining events."""
        self._ended |= self._active
        self._active = {}
        yield from self._take(float("inf"))

    def _borders(self, start: float, end: float) -> tuple[float, float]:
        """Return times at which the previous window ends and this one begins to count."""
        if self._window is None:
            return start, start
        first, last = self._window
        if start > last:
            return last, start
        middle = round((first + last + start + end) / 4, 6)
        return middle, middle

    def _begin(self, index: int, start: float) -> Event:
        ended = self._ended.get(index)
        if ended is not None and start - ended.end <= self._options.max_gap:
            return self._ended.pop(index)
        return Event(index, start, start, 0.0)

    def _take(self, now: float) -> Iterator[Event]:
        """Remove and yield the events that ended too long ago to be joined, in the order of their start."""
        done = [event for event in self._ended.values() if now - event.end >= self._options.max_gap]
        for event in sorted(done, key=lambda event: (event.start, event.label)):
            del self._ended[event.label]
            if event.end - event.start >= max(self._options.min_duration, TICK):
                yield event
