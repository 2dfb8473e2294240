"""Where rows go: standard output, a file, or a folder of parts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from audiotag.errors import OutputError
from audiotag.outputs import FORMATS, PARTS, Encoder, PartWriter

if TYPE_CHECKING:
    from audiotag.results import Failure, Result
    from audiotag.work import Options

PART_ROWS = 10_000
"""Rows of one part: what is in memory at most, and lost when the process dies."""


class Sink(Protocol):
    """Takes rows one by one."""

    def write(self, row: Result | Failure) -> None: ...


class TextSink:
    """Rows as text; each is out once `write` returns, for those who read along."""

    def __init__(self, file: TextIO, encoder: Encoder) -> None:
        self._file = file
        self._encoder = encoder
        self._put(encoder.header())

    def write(self, row: Result | Failure) -> None:
        self._put(self._encoder.encode(row))

    def _put(self, text: str) -> None:
        if text:
            self._file.write(text)
            self._file.flush()


class PartSink:
    """Rows in a folder of parts."""

    def __init__(self, folder: str, writer: PartWriter) -> None:
        os.makedirs(folder, exist_ok=True)
        if os.listdir(folder):
            raise OutputError(folder, "is a folder that is not empty")
        self._folder = folder
        self._writer = writer
        self._rows: list[Result | Failure] = []
        self._parts = 0

    def write(self, row: Result | Failure) -> None:
        self._rows.append(row)
        if len(self._rows) == PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows so far; the first part even if there are none, as what a folder has says its columns."""
        if self._rows or not self._parts:
            self._writer.write(self._rows, self._folder, self._parts)
            self._parts += 1
            self._rows = []


@contextmanager
def open_sink(format: str, output: str | None, options: Options) -> Iterator[Sink]:
    """The sink for a format and a path, None for standard output.

    Raises:
        OutputError: rows can't be written.
        BrokenPipeError: the reader has gone.
        Error: the format needs a package that isn't there.
    """
    try:
        if format in PARTS:
            if output is None:
                raise OutputError("standard output", f"{format} needs a folder: --output FOLDER")
            parts = PartSink(output, PARTS[format](options))
            try:
                yield parts
            finally:
                parts.flush()
        elif output is None:
            yield TextSink(sys.stdout, FORMATS[format](options))
        else:
            with open(output, "w", encoding="utf-8", errors="backslashreplace") as file:
                yield TextSink(file, FORMATS[format](options))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(output or "standard output", error.strerror or str(error)) from None
