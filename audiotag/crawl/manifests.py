"""Lists of files, streamed: lines of text, a column of a table, or names separated by NUL."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

from audiotag.errors import Error, ManifestError, printable

COLUMN = "path"
"""Default name of the column with the paths."""

LONGEST = 1 << 12
"""Maximum path length in characters; a longer entry means that the file is not a list (probably audio)."""

_BATCH = 10_000


class Manifest(NamedTuple):
    """A list of files: `path` is `-` for standard input, `column` applies to tables, `separator` to plain lists."""

    path: str
    column: str = COLUMN
    separator: bytes = b"\n"

    @classmethod
    def of(cls, text: str) -> Manifest:
        """Parse the text after the @: FILE, or TABLE:COLUMN."""
        table, colon, column = text.rpartition(":")
        if colon and column and os.path.splitext(table)[1].lower() in _TABLES and not os.path.exists(text):
            return cls(table, column)
        return cls(text)

    @property
    def repeatable(self) -> bool:
        """Whether the list can be read more than once; a pipe, such as the shell's `<(find .)`, or a terminal can't."""
        return os.path.isfile(self.path)

    def check(self) -> None:
        """Raise ManifestError if the list can't be opened, before any work on the paths in front of it."""
        # opening a named pipe here would make its writer believe that it has a reader
        if self.repeatable or os.path.isdir(self.path) or (self.path != "-" and not os.path.exists(self.path)):
            with _explained(self.path), open(self.path, "rb"):
                pass

    def __iter__(self) -> Iterator[str]:
        """Yield the paths as they are written in the list.

        Raises ManifestError.
        """
        with _explained(self.path):
            for path in self._read():
                if len(path) >= LONGEST or "\0" in path:
                    raise ManifestError(self.path, "is not a list of paths")
                yield path

    def _read(self) -> Iterator[str]:
        read = _TABLES.get(os.path.splitext(self.path)[1].lower())
        if read is not None and self.separator == b"\n":
            yield from read(self.path, self.column)
        elif self.path != "-":
            with open(self.path, "rb") as file:
                yield from map(os.fsdecode, _names(file, self.separator))
        elif sys.stdin is None:
            raise ManifestError(self.path, "standard input is closed")
        else:
            # not sys.stdin: the interpreter can't shut down while a thread waits in it
            with open(0, "rb", closefd=False) as file:
                yield from map(os.fsdecode, _names(file, self.separator))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Convert OSError and parse errors to a ManifestError that names the list."""
    try:
        yield
    except OSError as error:
        raise ManifestError(name, error.strerror or str(error)) from None
    except (ValueError, csv.Error) as error:  # pyarrow's own errors are ValueErrors
        raise ManifestError(name, printable(str(error).partition("\n")[0])) from None


def _names(file: IO[bytes], separator: bytes) -> Iterator[bytes]:
    if separator == b"\n":
        while line := file.readline(LONGEST):
            if name := line.rstrip(b"\r\n"):
                yield name
        return
    rest = b""
    # read1 returns the bytes that a pipe has now, so that names that arrive slowly are tagged at once
    while data := file.read1(1 << 16):  # type: ignore[attr-defined]  # buffered files have it, IO doesn't say so
        *names, rest = (rest + data).split(separator)
        yield from filter(None, names)
        if len(rest) >= LONGEST:
            break
    if rest:
        yield rest


def _csv(path: str, column: str) -> Iterator[str]:
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.reader(file, "excel-tab" if path.lower().endswith(".tsv") else "excel")
        header = next(rows, [])
        index = _position(path, column, header)
        yield from (row[index] for row in rows if len(row) > index and row[index])


def _jsonl(path: str, column: str) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get(column), str):
                    raise ManifestError(path, f"line {number} has no string field {column!r}")
                yield row[column]


def _parquet(path: str, column: str) -> Iterator[str]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise Error(f"{printable(path)}: needs pyarrow: pip install 'tinyonnx[parquet]'") from None
    with pyarrow.parquet.ParquetFile(path) as file:
        _position(path, column, file.schema_arrow.names)
        for batch in file.iter_batches(_BATCH, columns=[column]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, str | None):
                    raise ManifestError(path, f"{column!r} is not text")
                if value:
                    yield value


def _position(path: str, column: str, columns: list[str]) -> int:
    if column not in columns:
        listed = ", ".join(columns) or "none"
        raise ManifestError(path, f"has no column {column!r}, but {listed}; name one: @{path}:COLUMN")
    return columns.index(column)


_TABLES: dict[str, Callable[[str, str], Iterator[str]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
