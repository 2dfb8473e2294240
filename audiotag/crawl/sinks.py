"""Output files and folders that know up to which position their content is durable."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from audiotag.errors import OutputError

if TYPE_CHECKING:
    from audiotag.outputs.interface import PartWriter
    from audiotag.results import Failure, Result

SYNC_SECONDS = 1.0
"""Interval between fsyncs of a file: the work that a power cut may cost."""

PART_SECONDS = 600.0
PART_BYTES = 64 << 20
"""A part is written after this time or size: the work that a power cut may cost, and the memory needed."""

PACK_ROWS = 1000
"""Number of rows that are packed together."""

TAIL_BYTES = 4096
"""Bytes before a position whose checksum identifies the output."""

JOURNAL_SUFFIX = ".journal"


class Sink(Protocol):
    """An output that takes rows; positions in it grow with the rows, 0 is empty."""

    name: str
    """The path as the user gave it, for messages."""

    path: str
    """The real path, without links."""

    empty_size: int
    """The position of an output that has no rows yet."""

    def size(self) -> int | None:
        """Return the position at the end of an existing output, None if there is none. Raises OutputError."""
        ...

    def lock(self) -> None:
        """Lock an existing output against other runs, whichever name they use. Raises OutputError, OSError."""
        ...

    def create(self) -> None:
        """Create and lock the output unless `lock` has found it. Raises OutputError, OSError."""
        ...

    def identity(self) -> int | None:
        """Return the inode number of the output, None if it does not exist."""
        ...

    def checksum(self, position: int) -> int:
        """Return the CRC-32 of the last bytes before a position. Raises OSError."""
        ...

    def truncate(self, position: int) -> None:
        """Remove everything beyond a position and prepare for writing there. Raises OSError."""
        ...

    def put(self, data: bytes) -> None:
        """Append rows of the current clip. Raises OSError."""
        ...

    def end(self) -> None:
        """Mark the current clip as complete."""
        ...

    def due(self) -> bool:
        """Return whether it is time for `sync`."""
        ...

    def sync(self) -> int | None:
        """Make all complete clips durable; return the position after them, None if there is none. Raises OSError."""
        ...

    def close(self) -> None:
        """Remove rows of an incomplete clip and close the output. Raises OSError."""
        ...

    def release(self) -> None:
        """Close and unlock the output without changing it."""
        ...


class FileSink:
    """A text file; positions are byte offsets."""

    def __init__(self, path: str, header: str) -> None:
        self.name, self.path = path, real_path(path)
        self._header = header.encode()
        self.empty_size = len(self._header)
        self._file: io.FileIO | None = None
        self._end = 0  # position after the last complete clip
        self._whole = 0  # position after the last completely written row
        self._synced = time.monotonic()

    def size(self) -> int | None:
        if os.path.isdir(self.path):
            raise OutputError(self.name, "is a folder")
        return os.path.getsize(self.path) if os.path.exists(self.path) else None

    def lock(self) -> None:
        if os.path.exists(self.path):
            self.create()

    def create(self) -> None:
        if self._file is None:
            self._file = open_locked(self.path, self.name)

    def identity(self) -> int | None:
        return None if self._file is None else os.fstat(self._file.fileno()).st_ino

    def checksum(self, position: int) -> int:
        file = self._opened
        before = file.tell()
        file.seek(max(0, position - TAIL_BYTES))
        data = file.read(min(position, TAIL_BYTES))
        file.seek(before)
        return zlib.crc32(data)

    def truncate(self, position: int) -> None:
        file = self._opened
        file.truncate(position)
        self._end = self._whole = file.seek(position)
        if not position:
            self.put(self._header)
            self.end()
        sync_folder(self.path)

    def put(self, data: bytes) -> None:
        write_all(self._opened, data if self._end else data.removeprefix(b"\n"))
        self._whole = self._opened.tell()

    def end(self) -> None:
        self._end = self._whole

    def due(self) -> bool:
        return time.monotonic() - self._synced >= SYNC_SECONDS

    def sync(self) -> int:
        os.fsync(self._opened.fileno())
        self._synced = time.monotonic()
        return self._end

    def close(self) -> None:
        with self._opened as file:
            file.truncate(self._end)

    def release(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def _opened(self) -> io.FileIO:
        assert self._file is not None
        return self._file


class PartSink:
    """A folder of files `part-00000.parquet`, ...; it takes pickled rows, and positions count the parts."""

    empty_size = 0

    def __init__(self, path: str, writer: PartWriter) -> None:
        self.name = path.rstrip(os.sep) or path
        self.path = real_path(self.name)
        self._writer = writer
        self._parts = self._synced_parts = 0
        self._synced = time.monotonic()
        self._split = False  # whether a written part contains rows of an incomplete clip
        self._clear_rows()

    def _clear_rows(self) -> None:
        self._rows: list[Result | Failure] = []
        self._packs: list[Any] = []
        self._bytes = 0
        self._count = self._whole = 0  # rows since the last part, and those of complete clips among them

    def size(self) -> int | None:
        if not os.path.lexists(self.path):
            return None
        if not os.path.isdir(self.path):
            raise OutputError(self.name, "is not a folder")
        names = [name for name in os.listdir(self.path) if not name.startswith(".")]
        numbers = [int(match[1]) for name in names if (match := _PART.fullmatch(name))]
        if len(numbers) < len(names):
            raise OutputError(self.name, "is a folder with other files")
        return max(numbers, default=-1) + 1

    def lock(self) -> None:
        """Do nothing: folders have no hard links, so that the lock on the journal is enough."""

    def create(self) -> None:
        os.makedirs(self.path, exist_ok=True)

    def identity(self) -> int | None:
        return os.stat(self.path).st_ino if os.path.exists(self.path) else None

    def checksum(self, position: int) -> int:
        crc = 0
        for name in sorted(os.listdir(self.path)):
            match = _PART.fullmatch(name)
            if match and int(match[1]) == position - 1:
                with open(os.path.join(self.path, name), "rb") as file:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                    crc = zlib.crc32(file.read(), crc)
        return crc

    def truncate(self, position: int) -> None:
        self._remove(position)
        self._parts = self._synced_parts = position
        sync_folder(self.path)
        sync_folder(os.path.dirname(self.path) or ".")

    def put(self, data: bytes) -> None:
        source = io.BytesIO(data)
        while source.tell() < len(data):
            self._rows.append(pickle.load(source))
            self._count += 1
        if len(self._rows) >= PACK_ROWS:
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
        # the first part is written even without rows, because it defines the columns
        if self._whole or not self._parts:
            self._pack()
            self._write(self._whole)
        sync_folder(self.path)
        self._synced, self._synced_parts = time.monotonic(), self._parts
        return self._parts

    def close(self) -> None:
        if self._split:
            self._remove(self._synced_parts)

    def release(self) -> None:
        """Do nothing: no file is open between writes."""

    def _remove(self, position: int) -> None:
        """Remove parts from a position on, and all temporary files."""
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
        self._clear_rows()


_PART = re.compile(r"part-(\d+)\.\w+")


# -- files ----------------------------------------------------------------------------------


def real_path(path: str) -> str:
    """Return the path by which an output and its journal are known, whichever of its links is given.

    Symbolic links are resolved. Of a file with several hard links in its folder, the name that has
    a journal is used.
    """
    if os.path.islink(path):
        path = os.path.realpath(path)
    if os.path.exists(path + JOURNAL_SUFFIX) or not os.path.isfile(path) or os.stat(path).st_nlink < 2:
        return path
    folder = os.path.dirname(path)
    for entry in sorted(os.listdir(folder or ".")):
        other = os.path.join(folder, entry.removesuffix(JOURNAL_SUFFIX))
        if entry.endswith(JOURNAL_SUFFIX) and os.path.exists(other) and os.path.samefile(other, path):
            return other
    return path


def open_locked(path: str, output: str) -> io.FileIO:
    """Open a file for reading and writing, created but not truncated, with an exclusive lock.

    Raises OutputError, which names `output`, if another run holds the lock.
    """
    file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+")
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # some network file systems have no locks
            if error.errno in (errno.EAGAIN, errno.EACCES):
                file.close()
                raise OutputError(output, "another run is writing it") from None
    return file


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write all data; retry after a short write, so that a full disk raises the actual error."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def sync_folder(path: str) -> None:
    """Fsync a folder, or the folder of a file, so that created and removed entries survive a crash."""
    if os.name == "posix":
        folder = os.open(path if os.path.isdir(path) else os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
