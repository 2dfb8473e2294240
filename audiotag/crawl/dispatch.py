"""Policy of the pool: how many workers to start, and which worker gets the next file.

It handles neither processes nor pipes. Goals: all workers are busy until the end, also those that
are still starting; a worker has enough queued files to bridge the latency of this process; the
queued paths fit into a pipe, so that sending never blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

QUEUED_SECONDS = 0.2
"""Seconds of work queued per worker beyond its current file, to cover this process's scheduling latency on a busy
machine."""

QUEUED_FILES = 100
"""Maximum number of files queued per worker beyond its current one."""

QUEUED_BYTES = 4096
"""Maximum bytes of queued paths per worker (a single longer path is allowed): more could fill the pipe and block the
parent."""

PACE_FILES = 16
"""Number of files over which a worker's pace is averaged."""


class Queue(Protocol):
    """The files assigned to one worker."""

    def __len__(self) -> int:
        """Return the number of files assigned and not finished."""
        ...

    def room(self, share: int) -> int:
        """Return the number of further files to assign, given the worker's fair share of the remaining ones."""
        ...


Q = TypeVar("Q", bound=Queue)


def workers_to_start(limit: int, started: int, idle: int, waiting: int) -> int:
    """Number of workers to start for `waiting` files, given `started` workers of which `idle` have no file yet."""
    return max(0, min(limit - started, waiting - idle))


def fair_share(limit: int, waiting: int, assigned: int, complete: bool) -> int:
    """Return the maximum number of files of one of `limit` workers, so that the last files are spread over all of them.

    Args:
        limit: maximum number of workers.
        waiting: files that are known and not assigned.
        assigned: files that are assigned and not finished.
        complete: whether all files are known.
    """
    return -(-(waiting + assigned) // limit) if complete else QUEUED_FILES


def room(assigned: int, path_bytes: int, pace: float, share: int) -> int:
    """Return the number of further files to assign to a worker that is ready.

    Args:
        assigned: files it has.
        path_bytes: total length of their paths.
        pace: seconds that it takes for a file.
        share: its fair share, see `fair_share`.
    """
    if assigned and path_bytes >= QUEUED_BYTES:
        return 0
    ahead = min(int(QUEUED_SECONDS / max(pace, 1e-6)), QUEUED_FILES)
    return min(1 + ahead, share) - assigned


def takers(queues: Sequence[Q], share: int, waiting: int, starting: int) -> Iterator[Q]:
    """Yield the queue for each file to assign, the shortest first; the caller appends a file before it continues.

    Ends when no queue has room or no file is left. The last `starting` files are kept for workers
    that are still starting: no worker gets a second file from them.
    """
    open_queues = [queue for queue in queues if queue.room(share) > 0]
    while open_queues and waiting:
        queue = min(open_queues, key=len)
        if len(queue) and waiting <= starting:
            return
        yield queue
        waiting -= 1
        if queue.room(share) <= 0:
            open_queues.remove(queue)


class Pace:
    """Moving average of the seconds that a worker takes for a file."""

    def __init__(self) -> None:
        self.seconds = 1.0
        self._files = 0

    def add(self, files: int, seconds: float) -> None:
        """Include files that were finished within `seconds`."""
        self._files += files
        weight = min(1.0, files / min(self._files, PACE_FILES))
        self.seconds += (seconds / files - self.seconds) * weight
