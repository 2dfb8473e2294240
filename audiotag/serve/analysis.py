"""Analysis of a request: parameters, tagging of the sound, and content of the answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from audiotag.labels import LabelSet
from audiotag.serve.decoders import ClientGoneError, Decoders, Sound, TooLongError
from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE, RAW_ENCODINGS, RawFormat
from audiotag.sound.channels import parse_channel
from audiotag.sound.windows import Grid
from audiotag.tagger import Tagger
from tinyonnx.tools.report import small_picture

OVERLAP = 20
"""Maximum work of a request: this many times a sound of the maximum length, in overlapping windows."""

SHORTEST = 2.0
"""Window length in seconds below which the work per window does not decrease."""

MAX_TAGS = 400_000
"""Maximum number of tags in one answer: 4,000 windows with 100 tags, or 760 with all classes."""


@dataclass(frozen=True)
class Query:
    """The parameters in the query string of a request."""

    name: str | None = None
    top: int = 10
    threshold: float | None = None
    labels: Sequence[int] | None = None
    grid: Grid | None = None
    raw: RawFormat | None = None
    spectrogram: bool = False
    channel: str | int = "mean"

    @classmethod
    def of(cls, parameters: Mapping[str, str], known: LabelSet) -> Query:
        """Parse a query string, `known` being the classes of the model.

        Raises ValueError, LabelError.
        """
        parts = {"name", "top", "threshold", "labels", "window", "hop", "raw", "rate", "channels"}
        parts |= {"spectrogram", "channel", "model"}
        unknown = sorted(set(parameters) - parts)
        if unknown:
            raise ValueError(f"unknown parameter {unknown[0]!r}; known are {', '.join(sorted(parts))}")
        given = _Given(parameters)
        window, hop = given.number("window", 0, math.inf), given.number("hop", 0, math.inf)
        if hop is not None and window is None:
            raise ValueError("hop needs window")
        return cls(
            name=parameters.get("name"),
            top=int(given.number("top", 0, 1 << 20, whole=True) or 0) if "top" in parameters else 10,
            threshold=given.number("threshold", 0, 1),
            labels=known.select(parameters["labels"]) if "labels" in parameters else None,
            grid=None if window is None else Grid(window, window if hop is None else hop),
            raw=given.raw(),
            spectrogram=given.flag("spectrogram"),
            channel=parse_channel(parameters.get("channel", "mean")),
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
            raise ValueError(f"{name}={text} is not {'an integer' if whole else 'a number'} in {low:.9g}..{high:.9g}")
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
                raise ValueError("rate and channels need raw: files contain their own rate and channels")
            return None
        if encoding not in RAW_ENCODINGS or rate is None:
            raise ValueError(f"raw must be one of {', '.join(RAW_ENCODINGS)}, and needs rate")
        return RawFormat(encoding, int(rate), int(channels or 1))


@dataclass(frozen=True)
class Answer:
    """The JSON-compatible content of an answer, and the length of the sound in seconds."""

    content: Any
    duration: float


@dataclass(frozen=True)
class AnalysisRequest:
    """An uploaded file to analyse; `abandoned` is set when the client has left."""

    file: IO[bytes]
    name: str
    query: Query
    max_seconds: float
    abandoned: threading.Event = field(default_factory=threading.Event)


def analyse(tagger: Tagger, decoders: Decoders, request: AnalysisRequest) -> Answer:
    """Decode and tag a sound; stop early when the request is abandoned.

    Raises TooLongError, AudioError, CrashError, ModelError, ClientGoneError.
    """
    query = request.query
    # read now, because a large upload stays on disk while it waits
    sound = Sound(request.name, request.file.read(), request.max_seconds, query.raw, query.channel, tagger.rate)
    notes: list[str] = []
    samples = decoders.decode(sound, request.abandoned, notes)
    seconds = len(samples) / tagger.rate
    _check_windows(query, request.name, seconds, request.max_seconds, len(tagger.labels))
    options: dict[str, Any] = {
        "top": query.top, "threshold": query.threshold, "labels": query.labels, "name": request.name
    }  # fmt: skip
    content: Any
    if query.grid is None:
        content = tagger.tag(samples, tagger.rate, **options).with_warnings(notes).to_dict()
    else:
        content = []
        for row in tagger.tag_windows(samples, query.grid.window, query.grid.hop, rate=tagger.rate, **options):
            if request.abandoned.is_set():
                raise ClientGoneError
            content.append(row.with_warnings(() if content else notes).to_dict())
    if query.spectrogram:
        content = {
            "results": content,
            "spectrogram": small_picture(tagger.network.description.spectrogram(samples), flip=True).src,
        }
    return Answer(content, seconds)


def _check_windows(query: Query, name: str, seconds: float, max_seconds: float, classes: int) -> None:
    """Raise TooLongError if the windows of a sound exceed the work or the answer size of a request."""
    if query.grid is None:
        return
    windows = 1 + max(0, math.ceil((seconds - query.grid.window) / query.grid.hop))
    tags = windows * min(query.top, classes if query.labels is None else len(query.labels))
    each = max(min(query.grid.window, seconds), SHORTEST)
    if windows * each > OVERLAP * max_seconds + SHORTEST or tags > MAX_TAGS:
        raise TooLongError(
            name, f"{windows} windows and {tags} tags are too many for one answer: use a longer hop or a smaller top"
        )
