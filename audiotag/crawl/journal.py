"""Which files are done, so that a run that was cut off, however hard, goes on without losing or doubling a row.

Beside an output lies `OUTPUT.journal`, lines of `CRC32 JSON`. The first one has the run's
settings; each other one says that the rows of some files are safely in the output, up to a
position in it (bytes of a file, parts of a folder). The output reaches the disk before
such a line is written. To go on, the output is cut back to the position of the last whole
line, and the files of all lines are left out.
"""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from audiotag import __version__
from audiotag.console import say
from audiotag.crawl.inputs import FINGERPRINT, fingerprint
from audiotag.crawl.signals import undisturbed
from audiotag.crawl.sinks import Sink, open_raw, sync_folder, write_all
from audiotag.errors import OutputError, printable

SUFFIX = ".journal"


class Journal:
    """An output with its journal, locked against other runs.

    Args:
        sink: the output.
        settings: what its rows depend on, fit for JSON.
        resume: go on with what is there.
        overwrite: throw away what is there.

    Raises:
        OutputError: there is an output already (and neither `resume` nor `overwrite`), another
            run is writing it, it was made with other settings, there is no way to know what is
            done of it, or something can't be written.
    """

    def __init__(self, sink: Sink, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        self.path = sink.path + SUFFIX
        self.failures = 0
        self._sink = sink
        self._fingerprints = bytearray()
        self._new_failures = 0
        self._doubtful = False
        found = sink.size()
        if found and not resume and not overwrite:
            raise OutputError(sink.path, "exists already: --resume goes on with it, --overwrite begins anew")
        if found and resume and not os.path.exists(self.path):
            raise OutputError(sink.path, f"has no journal ({self.path}), which would say what is done")
        header = json.loads(json.dumps({"audiotag": __version__, **settings}))
        with ExitStack() as undo, self._explained():
            self._file = undo.enter_context(_open_locked(self.path, sink.path))
            done, position, length = self._read(header, found) if resume else (b"", 0, 0)
            self._file.truncate(length)
            self._file.seek(length)
            if not length:
                self._append(header)
                sync_folder(self.path)
            sink.cut(position)
            undo.pop_all()
        # 16 bytes for each file
        fingerprints = np.frombuffer(done, f"S{FINGERPRINT}")
        self._done, counts = np.unique(fingerprints, return_counts=True)
        self._counts = counts.astype(np.uint32)
        self.n_done = len(fingerprints)

    def done_before(self, path: str) -> bool:
        key = np.array(fingerprint(path), self._done.dtype)
        left, right = np.searchsorted(self._done, key), np.searchsorted(self._done, key, "right")
        if left == right or not self._counts[left]:
            return False
        self._counts[left] -= 1
        return True

    def put(self, data: bytes) -> None:
        """Add rows of a file. Raises OutputError."""
        with self._explained():
            self._sink.put(data)

    def end(self, path: str, failed: bool) -> None:
        """Note that all rows of a file are there; they become durable now and then, in groups. Raises OutputError."""
        with undisturbed(), self._explained():
            self._sink.end()
            self._fingerprints += fingerprint(path)
            self._new_failures += failed
            if self._sink.due():
                self._commit()

    def close(self) -> None:
        """Make durable what is done. Raises OutputError."""
        with undisturbed(), self._explained(), self._file:
            try:
                self._commit()
            finally:
                self._sink.close()

    def _commit(self) -> None:
        # where that fails once, what it should have written may be gone, and yet it succeeds the next time
        if self._doubtful:
            return
        self._doubtful = True
        position = self._sink.sync()
        if position is not None and self._fingerprints:
            self._note(position)
        self._doubtful = False

    def _note(self, position: int) -> None:
        files = base64.b64encode(self._fingerprints).decode()
        self._append({"at": position, "failures": self._new_failures, "files": files})
        self.failures += self._new_failures
        self._fingerprints.clear()
        self._new_failures = 0

    def _append(self, entry: Mapping[str, Any]) -> None:
        text = json.dumps(entry).encode()
        write_all(self._file, b"%08x %s\n" % (zlib.crc32(text), text))
        os.fsync(self._file.fileno())

    def _read(self, header: Mapping[str, Any], found: int | None) -> tuple[bytes, int, int]:
        """What is noted and in the output: fingerprints, the position in the output, the length of the journal."""
        entries = _entries(self.path)
        begin, length = next(entries, (None, 0))
        if begin is None:
            if found:
                raise OutputError(self._sink.path, f"its journal ({self.path}) is damaged: no way to know what is done")
            return b"", 0, 0
        _compare(begin, header, self._sink.path)
        done, position = bytearray(), 0
        for entry, end in entries:
            if entry["at"] > (found or 0):
                if found is None:
                    raise OutputError(
                        self._sink.path, f"is gone, but its journal is here; remove {self.path} to begin anew"
                    )
                say(f"{printable(self._sink.path)}: shorter than its journal says; what is missing is done again")
                break
            done += base64.b64decode(entry["files"])
            position, length = entry["at"], end
            self.failures += entry["failures"]
        return bytes(done), position, length

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(self._sink.path, error.strerror or str(error)) from None


def _entries(path: str) -> Iterator[tuple[dict[str, Any], int]]:
    """The entries of whole lines, up to the first one that is none, and where they end."""
    with open(path, "rb") as file:
        end = 0
        for line in file:
            crc, _, text = line.removesuffix(b"\n").partition(b" ")
            if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
                return
            end += len(line)
            yield json.loads(text), end


def _compare(then: Mapping[str, Any], now: Mapping[str, Any], output: str) -> None:
    """Raise OutputError if the settings differ; another version of audiotag may go on."""
    changed = [
        f"{name} was {json.dumps(then.get(name))}, is {json.dumps(now.get(name))}"
        for name in {**then, **now}
        if then.get(name) != now.get(name) and name != "audiotag"
    ]
    if changed:
        raise OutputError(output, f"was begun with other settings: {'; '.join(changed)}")
    if then["audiotag"] != now["audiotag"]:
        say(f"{printable(output)}: was begun by audiotag {then['audiotag']}, goes on with {now['audiotag']}")


def _open_locked(path: str, output: str) -> io.FileIO:
    file = open_raw(path)
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
