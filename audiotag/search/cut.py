"""Detections cut out of their recordings for listening."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audiotag.errors import Error, OutputError, printable
from audiotag.sound import audio

if TYPE_CHECKING:
    from tinyonnx.ir import Array

RATE = 48_000
"""Sample rate of the clips in Hz."""


class Detection(NamedTuple):
    """A class in a part of a recording, from `start` to `end` in seconds."""

    path: str
    start: float
    end: float
    label: str
    score: float


def read_detections(path: str) -> list[Detection]:
    """Read the tags of results in JSONL or CSV as `audiotag tag` writes them.

    Raises Error: the file can't be read or has no such rows.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read()
    except OSError as error:
        raise Error(printable(f"{path}: can't be read: {error.strerror}")) from None
    try:
        found = list(_from_jsonl(text) if text.lstrip()[:1] == "{" else _from_csv(text))
    except KeyError as error:
        raise Error(printable(f"{path}: is not JSONL or CSV of audiotag tag: it has no {error}")) from None
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise Error(printable(f"{path}: is not JSONL or CSV of audiotag tag: {error}")) from None
    if not found:
        raise Error(printable(f"{path}: has no tags"))
    return found


def _from_jsonl(text: str) -> Iterator[Detection]:
    for line in filter(str.strip, text.split("\n")):
        row = json.loads(line)
        for tag in row.get("tags", ()):
            yield _detection(row, tag)


def _from_csv(text: str) -> Iterator[Detection]:
    for row in csv.DictReader(io.StringIO(text, newline="")):
        if row["label"]:
            yield _detection(row, row)


def _detection(row: dict[str, Any], tag: dict[str, Any]) -> Detection:
    start, end, score = float(row["start"]), float(row["end"]), float(tag["score"])
    if not isinstance(row["path"], str) or not isinstance(tag["label"], str):
        raise ValueError("path and label must be text")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError("start and end must be finite numbers")
    return Detection(row["path"], start, end, tag["label"], score)


def best_of_each(detections: list[Detection], count: int | None) -> list[Detection]:
    """Return the `count` detections of each class with the highest scores; all for None."""
    taken: dict[str, int] = {}
    chosen = []
    for detection in sorted(detections, key=lambda each: -each.score):
        taken[detection.label] = taken.get(detection.label, 0) + 1
        if count is None or taken[detection.label] <= count:
            chosen.append(detection)
    return chosen


class _Span(NamedTuple):
    """A detection, and the samples from `start` to `end` that are cut out for it."""

    start: int
    end: int
    detection: Detection


def cut(path: str, detections: list[Detection], margin: float, folder: str, taken: set[str]) -> list[str]:
    """Write the detections of a recording as WAV files, mono with 16 bits, in a sub-folder for each class.

    `margin` is in seconds and added at both ends. Reads the recording once and keeps as many samples as the longest
    detection needs. Returns the files; detections after the end of the recording have none. Names in `taken`, to which
    those of the files are added, get a number. Raises AudioError, OutputError.
    """
    spans = [_Span(max(0, round((d.start - margin) * RATE)), round((d.end + margin) * RATE), d) for d in detections]
    waiting = deque(sorted(spans, key=lambda span: span.start))
    begun: list[_Span] = []
    kept: deque[Array] = deque()
    first = at = 0  # positions of the first kept sample, and after the last one
    written = []

    def write(span: _Span) -> None:
        pieces, position = [np.empty(0, np.float32)], first
        for block in kept:
            pieces.append(block[max(0, span.start - position) : max(0, span.end - position)])
            position += len(block)
        written.append(_write(np.concatenate(pieces), span.detection, folder, taken))

    for block in audio.stream(path, notes=[], target=RATE):
        kept.append(np.array(block))
        at += len(block)
        while waiting and waiting[0].start < at:
            begun.append(waiting.popleft())
        for span in begun:
            if span.end <= at:
                write(span)
        begun = [span for span in begun if span.end > at]
        needed = min((span.start for span in begun), default=at)
        while kept and first + len(kept[0]) <= needed:
            first += len(kept.popleft())
    for span in begun:
        write(span)
    return written


def _write(samples: Array, detection: Detection, folder: str, taken: set[str]) -> str:
    """Write one detection and return its file, whose name is added to `taken`. Raises OutputError."""
    import soundfile

    stem = os.path.join(_word(detection.label), _name(detection))
    name, number = stem, 1
    while name.casefold() in taken:  # recordings of one name in different folders
        number += 1
        name = f"{stem}_{number}"
    taken.add(name.casefold())
    target = os.path.join(folder, f"{name}.wav")
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            soundfile.write(file, np.clip(samples, -1, 1 - 2**-15), RATE, format="WAV", subtype="PCM_16")
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from None
    return target


def _name(detection: Detection) -> str:
    stem = _word(os.path.splitext(os.path.basename(detection.path))[0])
    return f"{detection.score:.3f}_{stem}_{detection.start:.2f}-{detection.end:.2f}"


def _word(text: str) -> str:
    """Return a text as part of a file name: only letters, digits and ". -_"."""
    return re.sub(r"[^\w. -]+", "_", text).strip(". ") or "_"
