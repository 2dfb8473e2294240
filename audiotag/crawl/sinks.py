"""Files and folders of encoded rows, of which is known how far they are safe."""

from __future__ import annotations

import io
import os
import pickle
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from audiotag.errors import OutputError

if TYPE_CHECKING:
    from audiotag.outputs import PartWriter
    from audiotag.results import Failure, Result

SYNC_SECONDS = 1.0
"""How often a file is made durable: the work that a power cut costs."""

PART_SECONDS = 600.0
PART_BYTES = 64 << 20
"""When a part is written: the work that a power cut costs, the memory that it takes."""

PACK = 1000
"""Rows that are packed together."""


class Sink(Protocol):
    """Takes rows; positions in it grow with them, 0 is empty."""

    path: str

    def size(self) -> int | None:
        """The position at the end of what is there, None if nothing is. Raises OutputError."""
        ...

    def cut(self, position: int) -> None:
        """Open it, without what lies beyond a position. Raises OSError."""
        ...

    def put(self, data: bytes) -> None:
        """Some rows of the present clip. Raises OSError."""
        ...

    def end(self) -> None:
        """The clip has no more rows."""
        ...

    def due(self) -> bool:
        """Whether it is time for `sync`."""
        ...

    def sync(self) -> int | None:
        """Make all clips that ended durable; the position after them, None if there is none. Raises OSError."""
        ...

    def close(self) -> None: ...


class FileSink:
    """Text in a file; positions are bytes."""

    def __init__(self, path: str, header: str) -> None:
        self.path = path
        self._header = header.encode()
        self._end = 0  # after the clips that ended,
        self._whole = 0  # and after the last row that fitted on the disk
        self._synced = time.monotonic()

    def size(self) -> int | None:
        if os.path.isdir(self.path):
            raise OutputError(self.path, "is a folder")
        return os.path.getsize(self.path) if os.path.exists(self.path) else None

    def cut(self, position: int) -> None:
        with ExitStack() as undo:
            self._file = undo.enter_context(open_raw(self.path))
            self._file.truncate(position)
            self._end = self._whole = self._file.seek(position)
            if not position:
                self.put(self._header)
                self.end()
            sync_folder(self.path)
            undo.pop_all()

    def put(self, data: bytes) -> None:
        write_all(self._file, data if self._end else data.removeprefix(b"\n"))
        self._whole = self._file.tell()

    def end(self) -> None:
        self._end = self._whole

    def due(self) -> bool:
        return time.monotonic() - self._synced >= SYNC_SECONDS

    def sync(self) -> int:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()
        return self._end

    def close(self) -> None:
        with self._file:
            self._file.truncate(self._end)


class PartSink:
    """Pickled rows, to a folder of files `part-00000.parquet` and so on; positions count the files."""

    def __init__(self, path: str, writer: PartWriter) -> None:
        self.path = path.rstrip(os.sep) or path
        self._writer = writer
        self._parts = self._synced_parts = 0
        self._synced = time.monotonic()
        self._split = False  # a part has rows of a clip that has not ended
        self._forget()

    def _forget(self) -> None:
        self._rows: list[Result | Failure] = []
        self._packs: list[Any] = []
        self._bytes = 0
        self._count = self._whole = 0  # rows since the last part; those of clips that ended

    def size(self) -> int | None:
        if not os.path.lexists(self.path):
            return None
        if not os.path.isdir(self.path):
            raise OutputError(self.path, "is no folder")
        names = [name for name in os.listdir(self.path) if not name.startswith(".")]
        numbers = [int(match[1]) for name in names if (match := _PART.fullmatch(name))]
        if len(numbers) < len(names):
            raise OutputError(self.path, "is a folder with other files")
        return max(numbers, default=-1) + 1

    def cut(self, position: int) -> None:
        os.makedirs(self.path, exist_ok=True)
        self._remove(position)
        self._parts = self._synced_parts = position
        sync_folder(self.path)
        sync_folder(os.path.dirname(self.path) or ".")

    def put(self, data: bytes) -> None:
        source = io.BytesIO(data)
        while source.tell() < len(data):
            self._rows.append(pickle.load(source))
            self._count += 1
        if len(self._rows) >= PACK:
            self._pack()
        if self._bytes >= PART_BYTES:
            self._write(self._count)
            self._split = True

    def end(self) -> None:
        self._whole = self._count
        self._split = False

    def due(self) -> bool:
        return self._parts > self._synced_parts or time.monotonic() - self._synced >= PART_SECONDS

    def sync(self) -> int | None:
        if self._split:
            return None
        # the first part even without rows: what a folder has says its columns
        if self._whole or not self._parts:
            self._pack()
            self._write(self._whole)
        sync_folder(self.path)
        self._synced, self._synced_parts = time.monotonic(), self._parts
        return self._parts

    def close(self) -> None:
        if self._split:
            self._remove(self._synced_parts)

    def _remove(self, position: int) -> None:
        """Remove the parts from there on, and what is left of those that were being written."""
        for name in os.listdir(self.path):
            match = _PART.fullmatch(name.removeprefix(".").removesuffix(".tmp"))
            if match and (name.startswith(".") or int(match[1]) >= position):
                os.unlink(os.path.join(self.path, name))

    def _pack(self) -> None:
        pack, size = self._writer.pack(self._rows)
        self._packs.append(pack)
        self._bytes += size
        self._rows = []

    def _write(self, rows: int) -> None:
        self._writer.write(self._packs, rows, self.path, self._parts)
        self._parts += 1
        self._forget()


_PART = re.compile(r"part-(\d+)\.\w+")


def open_raw(path: str) -> io.FileIO:
    """A file to read and write, made if it isn't there, not emptied if it is."""
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+")


def write_all(file: io.FileIO, data: bytes) -> None:
    """What a write leaves over, as on a disk that is nearly full, is written again, which says why."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def sync_folder(path: str) -> None:
    """Make durable which files there are beside one, or in a folder."""
    if os.name == "posix":
        folder = os.open(path if os.path.isdir(path) else os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
