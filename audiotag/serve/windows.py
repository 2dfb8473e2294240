"""POST /windows: the scores of all classes in every window of a recording, line by line while it is analysed.

An upload goes to a file on disk, from which a decoder process reads, also while it arrives; neither the sound nor the
scores are kept, so that a recording may last for hours. The answer has one JSON object on each line:

    {"labels": […], "model": name, "window": s, "hop": s}         first; 0.2 s for models with frame-wise scores
    {"start": s, "end": s, "peak": p, "scores": base64}           for each window
    {"duration": s, "tags": […], "of": …, "spectrogram": …, …}    last, or {"error": message}

`scores` are unsigned 16-bit integers, little endian: 65535 times the score of each class.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from audiotag.results import Tag
from audiotag.scoring import Clip, Scored
from audiotag.serve.decoders import ClientGoneError, Decoders, Sound
from audiotag.sound.audio import RawFormat
from audiotag.sound.windows import Grid
from audiotag.tagger import Tagger
from tinyonnx.ir import Array
from tinyonnx.tools.report import small_picture

KEPT_SECONDS = 600.0
"""Longest sound whose samples are kept for a spectrogram and for tags of the whole clip."""

TOP = 10
"""Number of tags of the whole recording."""

CELL = 0.2
"""Seconds of the windows of a model with frame-wise scores."""

MOST_OVERLAP = 20
"""Maximum number of windows that may cover one moment."""


@dataclass(frozen=True)
class WindowsRequest:
    """A recording in a file, and the windows to score; `abandoned` is set when the client has left.

    With `length`, the file is still being written, while `arriving` returns True, and will have so many bytes.
    """

    path: str
    name: str
    grid: Grid
    max_seconds: float
    raw: RawFormat | None = None
    channel: str | int = "mean"
    length: int | None = None
    arriving: Callable[[], bool] = lambda: False
    abandoned: threading.Event = field(default_factory=threading.Event)


def lines(tagger: Tagger, decoders: Decoders, request: WindowsRequest) -> Generator[dict[str, Any], None, None]:
    """Yield the lines of an answer.

    Raises AudioError, CrashError, TooLongError, ModelError, ClientGoneError; before the first line if the sound can't
    be read at all.
    """
    notes: list[str] = []
    tape = _Passing(tagger.rate)
    sound = Sound(
        request.name, b"", request.max_seconds, request.raw, request.channel, tagger.rate, request.path, request.length
    )
    blocks = tape.recorded(decoders.stream(sound, request.abandoned, notes, request.arriving))
    scored = score(tagger, request.grid, blocks)
    first = next(scored)
    frame_wise = tagger.network.description.frames is not None
    yield {
        "labels": [label.name for label in tagger.labels],
        "model": tagger.model.name,
        "window": CELL if frame_wise else request.grid.window,
        "hop": CELL if frame_wise else request.grid.hop,
    }
    best: Array = np.zeros(len(tagger.labels))
    for window, peak in _chain(first, scored):
        if request.abandoned.is_set():
            raise ClientGoneError
        best = np.maximum(best, window.scores)
        yield {"start": round(window.start, 3), "end": round(window.end, 3), "peak": round(peak, 4)} | {
            "scores": encoded(window.scores)
        }
    yield _last(tagger, tape, best, notes)


def score(tagger: Tagger, grid: Grid, blocks: Iterator[Array]) -> Iterator[tuple[Scored, float]]:
    """Yield the scores of each window, and the greatest magnitude of its samples.

    A model with frame-wise scores has windows of its own, `CELL` long, each with the greatest scores of its frames. No
    other function decides which parts of a recording get scores of their own.
    """
    if tagger.network.description.frames is not None:
        yield from _frame_wise(tagger, blocks)
        return
    rate = tagger.rate
    tagger.scorer.checked(grid)
    for start, samples in replace(grid, rate=rate).cut(blocks):
        peak = float(np.abs(samples).max(initial=0.0))
        scored = tagger.scorer.clip(Clip(samples, rate, None, ""), False, [])
        yield scored._replace(start=start / rate, end=(start + len(samples)) / rate), peak


def _frame_wise(tagger: Tagger, blocks: Iterator[Array]) -> Iterator[tuple[Scored, float]]:
    rate, size = tagger.rate, round(CELL * tagger.rate)
    peaks: dict[int, float] = {}

    def pieces() -> Iterator[tuple[int, Array]]:
        for start, samples in tagger.scorer.piece_grid().cut(blocks):
            for cell in range(start // size, -(-(start + len(samples)) // size)):
                part = samples[max(0, cell * size - start) : (cell + 1) * size - start]
                peaks[cell] = max(peaks.get(cell, 0.0), float(np.abs(part).max()))
            yield start, samples

    held: Scored | None = None
    place = 0
    for frame in tagger.scorer.frames(pieces()):
        cell = int((frame.start + frame.end) / 2 * rate) // size
        if held is None or cell != place:
            if held is not None:
                yield held, peaks.pop(place, 0.0)
            held, place = frame, cell
        else:
            held = held._replace(end=frame.end, scores=np.maximum(held.scores, frame.scores))
    if held is not None:
        yield held, peaks.pop(place, 0.0)


def encoded(scores: Array) -> str:
    """Return probabilities as base64 of unsigned 16-bit integers."""
    return base64.b64encode(np.round(np.clip(scores, 0, 1) * 65535).astype("<u2").tobytes()).decode()


def as_line(content: dict[str, Any]) -> bytes:
    """Return an object as a line of JSON."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _last(tagger: Tagger, tape: _Passing, best: Array, notes: list[str]) -> dict[str, Any]:
    """Return the line after the last window."""
    content: dict[str, Any] = {"duration": round(tape.seconds, 3)}
    samples = tape.samples
    if samples is None:
        order = np.argsort(-best, kind="stable")[:TOP]
        labels = list(tagger.labels)
        tags = [Tag(labels[i].name, labels[i].mid, int(i), float(best[i])) for i in order]
        content |= {"of": "strongest windows", "tags": [tag.to_dict() for tag in tags]}
    else:
        result = tagger.tag(samples, tagger.rate, TOP).with_warnings(notes)
        picture = small_picture(tagger.network.description.spectrogram(samples), flip=True).src
        content |= {"of": "clip", "tags": result.to_dict()["tags"], "spectrogram": picture}
    if notes:
        content["warning"] = "; ".join(notes)
    return content


class _Passing:
    """Counts the samples that pass, and keeps them as long as there are few."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._size = 0
        self._blocks: list[Array] | None = []

    def recorded(self, blocks: Iterator[Array]) -> Iterator[Array]:
        """Yield the blocks unchanged."""
        for block in blocks:
            self._size += len(block)
            if self._size > KEPT_SECONDS * self._rate:
                self._blocks = None
            elif self._blocks is not None:
                self._blocks.append(block)
            yield block

    @property
    def seconds(self) -> float:
        """Seconds of samples that have passed."""
        return self._size / self._rate

    @property
    def samples(self) -> Array | None:
        """All samples; None if there were too many."""
        return None if self._blocks is None else np.concatenate(self._blocks)
