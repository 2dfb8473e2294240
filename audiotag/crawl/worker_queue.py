"""One worker process as the pool sees it: its files, its pace and the rows it has sent so far."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from audiotag.crawl import dispatch
from audiotag.crawl.job import EncodedRows, End, JobEvent
from audiotag.crawl.read_ahead import WorkItem
from audiotag.crawl.workers import CHUNK, Process

SPOOL = 1 << 20
"""Bytes of one file's rows kept in memory until the file is finished; more go to a temporary file."""


class WorkerQueue:
    """A worker process and the work items assigned to it; the first one is the file it works on."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._pid: int | None = None  # known once the worker is ready
        self.pipe, self.origin = process.pipe, process.origin
        self.items: deque[WorkItem] = deque()
        self.since = self._paced_at = 0.0
        """Time at which the work on the first item began, and from which the pace is measured."""
        self._unsent: list[str] = []
        self._path_bytes = 0
        self._spool: IO[bytes] | None = None
        self._pace = dispatch.Pace()
        self._finished = 0  # files since the pace was last updated

    def __len__(self) -> int:
        return len(self.items)

    def mark_ready(self, pid: int) -> None:
        """Note that the process has loaded the model and accepts files."""
        self._pid = pid
        self.since = self._paced_at = time.monotonic()

    @property
    def ready(self) -> bool:
        return self._pid is not None

    def room(self, share: int) -> int:
        """Return the number of further files to assign, given its fair share of the remaining ones."""
        return dispatch.room(len(self.items), self._path_bytes, self._pace.seconds, share) if self.ready else 0

    @property
    def queued_seconds(self) -> float:
        """Estimated seconds of work on the items after the first."""
        return self._pace.seconds * (len(self.items) - 1)

    def assign(self, item: WorkItem) -> None:
        """Append an item; `send` transmits it."""
        if not self.items:
            self.since = self._paced_at = time.monotonic()
        self.items.append(item)
        self._path_bytes += item.size
        self._unsent.append(item.path)

    def send(self) -> None:
        """Send the assigned items to the process, if it is ready."""
        if self.ready and self._unsent:
            with suppress(OSError):  # the process died: reading its reply will show that
                self.pipe.send(self._unsent)
            self._unsent = []

    def receive(self, data: bytes, end: End | None) -> Iterator[JobEvent]:
        """Store rows of the first item; when it has ended, yield all its rows and its end.

        Raises OSError if the temporary file can't be written.
        """
        if end is None or self._spool is not None:
            self._spool = self._spool or tempfile.SpooledTemporaryFile(SPOOL)  # noqa: SIM115  kept open until the file ends
            self._spool.write(data)
        if end is None:
            return
        self._path_bytes -= self.items.popleft().size
        self._finished += 1
        self.since = time.monotonic()
        if self._spool is None:
            yield EncodedRows(data)
        else:
            with self._spool as spool:
                self._spool = None
                spool.seek(0)
                while data := spool.read(CHUNK):
                    yield EncodedRows(data)
        yield end

    def update_pace(self) -> None:
        """Include the files finished since the last call in the pace."""
        if self._finished:
            self._pace.add(self._finished, self.since - self._paced_at)
            self._paced_at, self._finished = self.since, 0

    def end(self, patience: float = 0) -> int | None:
        """End the process as `Process.end` describes, and discard rows of an unfinished file."""
        if self._spool is not None:
            self._spool.close()
        return self._process.end(self._pid, patience)
