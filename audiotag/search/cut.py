"""Detections cut out of their recordings for listening."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

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
    except (KeyError, ValueError, TypeError) as error:
        raise Error(printable(f"{path}: is not JSONL or CSV of audiotag tag: {error}")) from None
    if not found:
        raise Error(printable(f"{path}: has no tags"))
    return found


def _from_jsonl(text: str) -> Iterator[Detection]:
    for line in text.splitlines():
        row = json.loads(line)
        for tag in row.get("tags", ()):
            yield Detection(row["path"], float(row["start"]), float(row["end"]), tag["label"], float(tag["score"]))


def _from_csv(text: str) -> Iterator[Detection]:
    for row in csv.DictReader(text.splitlines()):
        if row["label"]:
            yield Detection(row["path"], float(row["start"]), float(row["end"]), row["label"], float(row["score"]))


def best_of_each(detections: list[Detection], count: int | None) -> list[Detection]:
    """The `count` detections of each class with the highest scores; all for None."""
    taken: dict[str, int] = {}
    chosen = []
    for detection in sorted(detections, key=lambda each: -each.score):
        taken[detection.label] = taken.get(detection.label, 0) + 1
        if count is None or taken[detection.label] <= count:
            chosen.append(detection)
    return chosen


def cut(path: str, detections: list[Detection], margin: float, folder: str) -> list[str]:
    """Write the detections of a recording as WAV files, mono with 16 bits, in a sub-folder for each class.

    `margin` is in seconds and added at both ends. Reads the recording once. Returns the files.

    Raises AudioError, OutputError.
    """
    import soundfile

    spans = [(max(0, round((d.start - margin) * RATE)), round((d.end + margin) * RATE)) for d in detections]
    pieces: list[list[Array]] = [[] for _ in detections]
    at = 0
    for block in audio.stream(path, notes=[], target=RATE):
        for piece, (start, end) in zip(pieces, spans, strict=True):
            if at < end and at + len(block) > start:
                piece.append(np.array(block[max(0, start - at) : end - at]))
        at += len(block)
    written = []
    for detection, piece in zip(detections, pieces, strict=True):
        if not piece:
            continue
        target = os.path.join(folder, _word(detection.label), _name(detection))
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            samples = np.clip(np.concatenate(piece), -1, 1 - 2**-15)
            with open(target, "wb") as file:
                soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
        except OSError as error:
            raise OutputError(target, error.strerror or str(error)) from None
        written.append(target)
    return written


def _name(detection: Detection) -> str:
    stem = _word(os.path.splitext(os.path.basename(detection.path))[0])
    return f"{detection.score:.3f}_{stem}_{detection.start:.2f}-{detection.end:.2f}.wav"


def _word(text: str) -> str:
    """Text as part of a file name: letters, digits and ". -_", nothing else."""
    return re.sub(r"[^\w. -]+", "_", text).strip(". ") or "_"
