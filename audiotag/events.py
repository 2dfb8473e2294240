"""From scores of windows to events: a class, and from when to when it is heard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyonnx.ir import Array

WINDOW, HOP = 2.0, 0.5
"""Seconds of the windows that are looked at, and from one to the next, if nothing else is said."""

TICK = 1e-6
"""Seconds that an event has at least: a clip without samples has none."""

ON, OFF = 0.5, 0.6
"""The score that begins an event, and the part of it below which it ends."""


@dataclass(frozen=True)
class EventOptions:
    """When an event begins and ends.

    Args:
        on: an event begins where the score of its class reaches this,
        off: and ends where it falls below this (hysteresis).
        classes: (index, on, off) for classes with thresholds of their own.
        only: leave out the classes that are not among these.
        min_duration: leave out shorter events, in seconds.
        max_gap: join events of a class with no more than this between them, in seconds.

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
            # written so that NaN fails it
            if not 0 < off <= on <= 1:
                raise ValueError(f"thresholds {on:g}:{off:g} are not on:off with 0 < off <= on <= 1")
        for name, value in (("min_duration", self.min_duration), ("max_gap", self.max_gap)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must not be negative, is {value:g}")


_THRESHOLDS = r"\s*([-+.\d]+)\s*(?::\s*([-+.\d]+))?\s*(?:,|$)"
_FOR_ALL, _FOR_ONE = re.compile("()" + _THRESHOLDS), re.compile("([^=]+)=" + _THRESHOLDS)


def parse(text: str) -> EventOptions:
    """Thresholds as the command line gives them: "ON[:OFF]" for all classes, "CLASS=ON[:OFF]" for one, with commas.

    Without the first, only the named classes are looked for. OFF is 0.6 of ON where it isn't given.

    Raises LabelError, ValueError.
    """
    from audiotag.labels import find

    general: tuple[float, float] | None = None
    classes: dict[int, tuple[float, float]] = {}
    at = 0
    while at < len(text) or not text:
        item = _FOR_ALL.match(text, at) or _FOR_ONE.match(text, at)
        if item is None:
            raise ValueError(f"{text[at:]!r} is no ON, ON:OFF, CLASS=ON or CLASS=ON:OFF, such as 0.5:0.3 or Dog=0.5")
        at = item.end()
        name, on = item[1], float(item[2])
        thresholds = on, float(item[3]) if item[3] else OFF * on
        if not name:
            general = thresholds
        else:
            classes[find(name.strip()).index] = thresholds
    options = tuple((index, *pair) for index, pair in sorted(classes.items()))
    return EventOptions(*(general or (ON, OFF * ON)), options, only=general is None)


@dataclass(frozen=True)
class Event:
    """A class, `label`, by its index, when it is heard in seconds, and its best score."""

    label: int
    start: float
    end: float
    score: float


class Segmenter:
    """Makes events of windows as they come.

    Where windows overlap, or follow each other, each speaks for the time that is nearer to its
    middle than to those of its neighbours; between windows with a gap nothing is heard, and an
    event goes on there only if the gap is no longer than `max_gap`.

    Args:
        options: when an event begins and ends.
        among: indices of the classes that are looked for; None for all.
    """

    def __init__(self, options: EventOptions, among: tuple[int, ...] | None = None) -> None:
        import numpy as np

        from audiotag.labels import N_CLASSES

        self._options = options
        self._on, self._off = (np.full(N_CLASSES, float(x)) for x in (options.on, options.off))
        wanted = np.full(N_CLASSES, not options.only)
        for index, on, off in options.classes:
            self._on[index], self._off[index], wanted[index] = on, off, True
        if among is not None:
            wanted &= np.isin(np.arange(N_CLASSES), among)
        self._on[~wanted] = np.inf
        self._heard: dict[int, Event] = {}
        self._ended: dict[int, Event] = {}
        self._window: tuple[float, float] | None = None

    def push(self, start: float, end: float, scores: Array) -> Iterator[Event]:
        """The next window, with a score (527,) for each class; gives the events that can't change any more."""
        left, right = self._borders(start, end)
        self._window = start, end
        for index, event in list(self._heard.items()):
            self._heard[index] = replace(event, end=left)
            if not (scores[index] >= self._off[index] and right - left <= self._options.max_gap):
                self._ended[index] = self._heard.pop(index)
        for index in (scores >= self._on).nonzero()[0].tolist():
            if index not in self._heard:
                self._heard[index] = self._begin(index, right)
        for index, event in self._heard.items():
            self._heard[index] = replace(event, end=end, score=max(event.score, float(scores[index])))
        yield from self._take(right)

    def finish(self) -> Iterator[Event]:
        """The clip is over."""
        self._ended |= self._heard
        self._heard = {}
        yield from self._take(float("inf"))

    def _borders(self, start: float, end: float) -> tuple[float, float]:
        """When the window before stops to speak, and this one begins."""
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
        """Events that ended too long ago to go on, in the order of their beginning."""
        done = [event for event in self._ended.values() if now - event.end >= self._options.max_gap]
        for event in sorted(done, key=lambda event: (event.start, event.label)):
            del self._ended[event.label]
            if event.end - event.start >= max(self._options.min_duration, TICK):
                yield event
