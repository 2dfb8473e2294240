"""Compare the length that libsndfile read with the length in the file's header.

libsndfile reduces lengths to the size of the file; for most formats only its log mentions that.
"""

from __future__ import annotations

import os
import re
from typing import Any

from audiotag.sound.pcm import ENDS_EARLY

_TRACES = ("should be", "truncated")
"""Parts of lines of libsndfile's log about lengths that don't match the file."""

_COUNTED = ("AVR", "MAT4", "MAT5", "MPC2K")
"""Formats of which libsndfile logs the number of frames in the header."""

_FILLED = ("SDS",)
"""Formats for which libsndfile logs the number of frames in all blocks and pads with zeros."""

_FRAMES = re.compile(r"\b(?:Frames|Cols) *: *(\d+)$", re.MULTILINE)
"""A number of frames in libsndfile's log: the last one is that of the sound."""

_CHUNK = re.compile(r"\bsize *: *(\d+)$", re.MULTILINE | re.IGNORECASE)
"""The size of a part of the file in libsndfile's log, as of XI."""

_NIST_FRAMES = re.compile(rb"^sample_count -i (\d+)\s", re.MULTILINE)
"""Number of frames in the header of a NIST SPHERE file, which libsndfile doesn't log."""

_NIST_HEADER = 1024
"""Bytes of that header."""

_UNCOUNTED = ("IRCAM", "PAF", "PVF")
"""Formats without a length in the header: the sound continues to the end of the file."""

_WIDTHS = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    **{"PCM_16": 2, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}
"""Bytes per sample in these formats; libsndfile checks the 24-bit samples that PAF stores in blocks."""


class Promise:
    """The length that a file's header declares; created when libsndfile has just opened the file.

    Args:
        file: a soundfile.SoundFile.
        source: the file that it reads, at the position of the first sample, where it stays.
    """

    def __init__(self, file: Any, source: Any) -> None:
        self._file = file
        start = source.tell()
        self._size = source.seek(0, os.SEEK_END)
        self._frames = int(file.frames)
        """Number of frames that the header declares."""
        self._held = self._frames
        """Number of frames that the size of the file allows."""
        self._part = 0
        """Bytes after the last whole frame."""
        if file.format in _UNCOUNTED and file.subtype in _WIDTHS:
            self._part = (self._size - start) % (file.channels * _WIDTHS[file.subtype])
        counts: list[Any] = []
        if file.format in (*_COUNTED, *_FILLED):
            counts = _FRAMES.findall(file.extra_info)
        elif file.format == "NIST":
            source.seek(0)
            counts = _NIST_FRAMES.findall(source.read(_NIST_HEADER))
        if counts and file.format in _FILLED:
            self._held = min(self._held, int(counts[-1]))
        elif counts:
            self._frames = max(self._frames, int(counts[-1]))
        source.seek(start)

    def shortfall(self, total: int) -> str | None:
        """Describe how `total` frames, all that could be read, differ from the declared length."""
        rate, there = self._file.samplerate, min(total, self._held)
        if there < self._frames < 1 << 62:
            return ENDS_EARLY.format(self._frames / rate, there / rate)
        if self._part:
            return "ends within a sample: it may be cut off"
        log = self._file.extra_info
        odd = [line.strip(" *") for line in log.splitlines() if any(trace in line for trace in _TRACES)]
        odd += [found[0] for found in _CHUNK.finditer(log) if int(found[1]) > self._size]
        return f"its length differs from its header: it may be cut off ({odd[-1]})" if odd else None
