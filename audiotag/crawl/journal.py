"""The journal of an output: which files are done, so that an interrupted run resumes without losing or doubling a row.

The journal `OUTPUT.journal` lies beside the output and consists of lines `CRC32 JSON`. The first
line has the settings of the run; each further line records that the rows of some files are durable in
the output up to a position (bytes of a file, parts of a folder), and has a checksum of the bytes
before it. The output is made durable before such a line is written. To resume, the output is
truncated to the position of the last complete line, and the files of all lines are skipped. A
journal whose checksum does not fit the output belongs to another run and is refused.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from audiotag import __version__
from audiotag.console import say
from audiotag.crawl.inputs import FINGERPRINT, fingerprint
from audiotag.crawl.signals import deferred
from audiotag.crawl.sinks import JOURNAL_SUFFIX, Sink, open_locked, sync_folder, write_all
from audiotag.errors import OutputError, printable

_VERSION, _IDENTITY = "audiotag", "output"
"""Keys of the header that are not settings: the version of audiotag, and the inode number of the output."""


class Journal:
    """An output with its journal, locked against other runs.

    Args:
        sink: the output.
        settings: everything that its rows depend on, JSON-compatible.
        resume: continue an existing output.
        overwrite: discard an existing output.

    Raises:
        OutputError: there is an output already (and neither `resume` nor `overwrite`), another run
            is writing it, it was made with other settings, its journal is missing, damaged or of
            another run, or something can't be written.
    """

    def __init__(self, sink: Sink, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        self.path = sink.path + JOURNAL_SUFFIX
        self.failures = 0
        self._sink = sink
        self._fingerprints = bytearray()
        self._new_failures = 0
        self._doubtful = False
        found = sink.size()
        if found and not resume and not overwrite:
            ways = "--resume continues it, " if os.path.exists(self.path) else ""
            raise OutputError(sink.name, f"exists already: {ways}--overwrite replaces it")
        if found and resume and not os.path.exists(self.path):
            raise OutputError(sink.name, f"can't be resumed: its journal ({self.path}) is missing")
        header = json.loads(json.dumps({_VERSION: __version__, **settings}))
        with ExitStack() as undo, self._explained():
            self._file = undo.enter_context(open_locked(self.path, sink.name))
            undo.callback(sink.release)
            sink.lock()
            done, position, length = self._read(header, found) if resume else (b"", 0, 0)
            sink.create()
            self._file.truncate(length)
            self._file.seek(length)
            if not length:
                self._append(header | {_IDENTITY: sink.identity()})
                sync_folder(self.path)
            sink.truncate(position)
            undo.pop_all()
        # 16 bytes of memory per file
        fingerprints = np.frombuffer(done, f"S{FINGERPRINT}")
        self._done, counts = np.unique(fingerprints, return_counts=True)
        self._counts = counts.astype(np.uint32)
        self.n_done = len(fingerprints)

    def done_before(self, path: str) -> bool:
        """Return whether an earlier run has done the file; True as often as the file has been done."""
        key = np.array(fingerprint(path), self._done.dtype)
        left, right = np.searchsorted(self._done, key), np.searchsorted(self._done, key, "right")
        if left == right or not self._counts[left]:
            return False
        self._counts[left] -= 1
        return True

    def put(self, data: bytes) -> None:
        """Append rows of a file. Raises OutputError."""
        with self._explained():
            self._sink.put(data)

    def end(self, path: str, failed: bool) -> None:
        """Record that all rows of a file have been appended; commits happen at intervals. Raises OutputError."""
        with deferred(), self._explained():
            self._sink.end()
            self._fingerprints += fingerprint(path)
            self._new_failures += failed
            if self._sink.due():
                self._commit()

    def close(self, *, remove: bool = False) -> None:
        """Commit everything that is done and close the output; `remove` the journal if it is not needed any more.

        Raises OutputError.
        """
        with deferred(), self._explained(), self._file:
            try:
                self._commit()
                if remove:
                    os.unlink(self.path)
                    sync_folder(self.path)
            finally:
                self._sink.close()

    def _commit(self) -> None:
        # after a failed fsync the data may be lost although a later fsync reports success
        if self._doubtful:
            return
        self._doubtful = True
        position = self._sink.sync()
        if position is not None and self._fingerprints:
            self._note(position)
        self._doubtful = False

    def _note(self, position: int) -> None:
        """Append the entry for all files since the last one."""
        files = base64.b64encode(self._fingerprints).decode()
        crc = self._sink.checksum(position)
        self._append({"at": position, "crc": crc, "failures": self._new_failures, "files": files})
        self.failures += self._new_failures
        self._fingerprints.clear()
        self._new_failures = 0

    def _append(self, entry: Mapping[str, Any]) -> None:
        text = json.dumps(entry).encode()
        write_all(self._file, b"%08x %s\n" % (zlib.crc32(text), text))
        os.fsync(self._file.fileno())

    def _read(self, header: Mapping[str, Any], found: int | None) -> tuple[bytes, int, int]:
        """Read the entries that the output contains.

        Args:
            header: the header of this run.
            found: the size of the output, None if there is none.

        Returns:
            Fingerprints of the files, the position in the output, the length of the journal.
        """
        name = self._sink.name
        entries = _entries(self.path)
        begin, length = next(entries, (None, 0))
        if begin is None:
            if found:
                raise OutputError(name, f"can't be resumed: its journal ({self.path}) is damaged")
            return b"", 0, 0
        _compare(begin, header, name)
        done, position, crc, shorter = bytearray(), 0, None, False
        for entry, end in entries:
            if entry["at"] > (found or 0):
                if found is None:
                    raise OutputError(name, f"is gone, but its journal is left; remove {self.path} to start anew")
                shorter = True
                break
            done += base64.b64decode(entry["files"])
            position, length, crc = entry["at"], end, entry.get("crc")
            self.failures += entry["failures"]
        if found and not self._describes(begin, found, position, crc):
            raise OutputError(name, f"is not the output of the run that wrote its journal ({self.path})")
        if shorter:
            say(f"{printable(name)}: is shorter than its journal records; missing files are done again")
        return bytes(done), position, length

    def _describes(self, begin: Mapping[str, Any], found: int, position: int, crc: int | None) -> bool:
        """Return whether the journal is the output's, by the rows up to `position` or, without rows, by the inode."""
        if crc is not None and crc != self._sink.checksum(position):
            return False
        if crc is not None and position > self._sink.empty_size:
            return True
        return found <= position or begin.get(_IDENTITY) in (None, self._sink.identity())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Convert OSError to an OutputError that names the output."""
        try:
            yield
        except OSError as error:
            raise OutputError(self._sink.name, error.strerror or str(error)) from None


def _entries(path: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the entry of each line and the offset of its end, up to the first incomplete or damaged line."""
    with open(path, "rb") as file:
        end = 0
        for line in file:
            crc, _, text = line.removesuffix(b"\n").partition(b" ")
            if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
                return
            end += len(line)
            yield json.loads(text), end


def _compare(then: Mapping[str, Any], now: Mapping[str, Any], output: str) -> None:
    """Raise OutputError if the settings differ; a different version of audiotag is reported and accepted."""
    changed = [
        f"{name} was {json.dumps(then.get(name))}, is {json.dumps(now.get(name))}"
        for name in {**then, **now}
        if then.get(name) != now.get(name) and name not in (_VERSION, _IDENTITY)
    ]
    if changed:
        raise OutputError(output, f"was started with other settings: {'; '.join(changed)}")
    if then[_VERSION] != now[_VERSION]:
        say(f"{printable(output)}: was started by audiotag {then[_VERSION]}, continues with {now[_VERSION]}")
