"""Where results go: one writer per format, all of them in `FORMATS`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol, TextIO

from audiotag.errors import printable
from audiotag.results import Failure, Result


class Writer(Protocol):
    """Writes results one by one, each complete once `write` returns."""

    def write(self, row: Result | Failure) -> None: ...


class TextWriter:
    """For people: the clip, then its tags. Failures are left to stderr."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._first = True

    def write(self, row: Result | Failure) -> None:
        if isinstance(row, Failure):
            return
        lines = [] if self._first else [""]
        self._first = False
        warning = "" if row.trained else ": untrained, scores mean nothing"
        lines.append(f"{printable(row.path)}  ({row.duration:.2f} s)  [{printable(row.model)}{warning}]")
        lines += [f"  {tag.score:6.4f}  {tag.label}" for tag in row.tags] or ["  (no tag reaches the threshold)"]
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()


class JsonlWriter:
    """For programs: one JSON object a line, failures too."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: Result | Failure) -> None:
        self._file.write(json.dumps(row.to_dict()) + "\n")
        self._file.flush()


FORMATS: dict[str, Callable[[TextIO], Writer]] = {"text": TextWriter, "jsonl": JsonlWriter}
