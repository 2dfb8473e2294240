"""From the sound of a request to the content of its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from audiotag.errors import AudioError
from audiotag.features.mel import log_mel
from audiotag.labels import N_CLASSES, select
from audiotag.sound import audio
from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE, RAW_ENCODINGS, SAMPLE_RATE, RawFormat
from audiotag.sound.windows import Grid
from audiotag.tagger import Tagger
from tinyonnx.tools.report import small_picture

OVERLAP = 20
"""How often a sound of the greatest length may be tagged, in windows that overlap."""

SHORTEST = 2.0
"""Seconds of a window that takes as much work as shorter ones."""

MAX_TAGS = 400_000
"""Of one answer: an hour in seconds with a hundred tags each, or ten minutes with all classes."""


class TooLongError(AudioError):
    """A sound is longer than the server takes, or there would be too many windows of it."""


@dataclass(frozen=True)
class Query:
    """What a request asks for, in its query string."""

    name: str | None = None
    top: int = 10
    threshold: float | None = None
    labels: Sequence[int] | None = None
    grid: Grid | None = None
    raw: RawFormat | None = None
    spectrogram: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        """Parse a query string.

        Raises ValueError, LabelError.
        """
        known = {"name", "top", "threshold", "labels", "window", "hop", "raw", "rate", "channels", "spectrogram"}
        unknown = sorted(set(parameters) - known)
        if unknown:
            raise ValueError(f"no parameter is called {unknown[0]!r}; there are {', '.join(sorted(known))}")
        given = _Given(parameters)
        window, hop = given.number("window", 0, math.inf), given.number("hop", 0, math.inf)
        if hop is not None and window is None:
            raise ValueError("hop needs window")
        return cls(
            name=parameters.get("name"),
            top=int(given.number("top", 0, 1 << 20, whole=True) or 0) if "top" in parameters else 10,
            threshold=given.number("threshold", 0, 1),
            labels=select(parameters["labels"]) if "labels" in parameters else None,
            grid=None if window is None else Grid(window, window if hop is None else hop),
            raw=given.raw(),
            spectrogram=given.flag("spectrogram"),
        )


@dataclass(frozen=True)
class _Given:
    parameters: Mapping[str, str]

    def number(self, name: str, low: float, high: float, whole: bool = False) -> float | None:
        if name not in self.parameters:
            return None
        text = self.parameters[name]
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"{name}={text} is no {'whole ' * whole}number in {low:g}..{high:g}")
        return value

    def flag(self, name: str) -> bool:
        text = self.parameters.get(name, "0")
        if text not in ("0", "1"):
            raise ValueError(f"{name}={text} is neither 0 nor 1")
        return text == "1"

    def raw(self) -> RawFormat | None:
        encoding = self.parameters.get("raw")
        rate = self.number("rate", MIN_RATE, MAX_RATE, whole=True)
        channels = self.number("channels", 1, MAX_CHANNELS, whole=True)
        if encoding is None:
            if rate is not None or channels is not None:
                raise ValueError("rate and channels describe raw samples: a file says its own")
            return None
        if encoding not in RAW_ENCODINGS or rate is None:
            raise ValueError(f"raw is one of {', '.join(RAW_ENCODINGS)} and needs rate")
        return RawFormat(encoding, int(rate), int(channels or 1))


@dataclass(frozen=True)
class Answer:
    """What goes back, and how many seconds of sound it took."""

    content: Any
    duration: float


def analyse(tagger: Tagger, file: IO[bytes], name: str, query: Query, max_seconds: float) -> Answer:
    """Decode and tag a sound.

    Raises TooLongError, AudioError, ModelError.
    """
    samples = _read(file, name, query.raw, max_seconds)
    _check_windows(query, name, len(samples) / SAMPLE_RATE, max_seconds)
    options: dict[str, Any] = {"top": query.top, "threshold": query.threshold, "labels": query.labels, "name": name}
    content: Any
    if query.grid is None:
        content = tagger.tag(samples, SAMPLE_RATE, **options).to_dict()
    else:
        windows = tagger.tag_windows(samples, query.grid.window, query.grid.hop, rate=SAMPLE_RATE, **options)
        content = [row.to_dict() for row in windows]
    if query.spectrogram:
        content = {"results": content, "spectrogram": small_picture(log_mel(samples), flip=True).src}
    return Answer(content, len(samples) / SAMPLE_RATE)


def _check_windows(query: Query, name: str, seconds: float, max_seconds: float) -> None:
    """Raise TooLongError if a sound of that length makes more work, or a longer answer, than a request may."""
    if query.grid is None:
        return
    windows = 1 + max(0, math.ceil((seconds - query.grid.window) / query.grid.hop))
    tags = windows * min(query.top, N_CLASSES if query.labels is None else len(query.labels))
    each = max(min(query.grid.window, seconds), SHORTEST)
    if windows * each > OVERLAP * max_seconds + SHORTEST or tags > MAX_TAGS:
        raise TooLongError(
            name, f"{windows} windows and {tags} tags are too many for one answer, take a longer hop or a smaller top"
        )


def _read(file: IO[bytes], name: str, raw: RawFormat | None, max_seconds: float) -> Any:
    """The sound, unless it turns out to be longer than allowed."""
    blocks, size = [np.empty(0, np.float32)], 0
    for block in audio.stream(file, raw=raw, name=name):
        blocks.append(block)
        size += len(block)
        if size > max_seconds * SAMPLE_RATE:
            raise TooLongError(name, f"longer than {max_seconds:g} s")
    return np.concatenate(blocks)
