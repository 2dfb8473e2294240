"""Reading of paths ahead of the workers, in a thread, because the next path may be slow to arrive."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from audiotag.results import Failure

MAX_PATHS = 1000
"""Number of paths that are read ahead."""


@dataclass
class WorkItem:
    """A file to work on, and how many workers have died on it."""

    path: str
    attempts: int = 0

    @cached_property
    def size(self) -> int:
        """Length of the path in bytes."""
        return len(self.path.encode(errors="surrogatepass"))


class ReadAhead:
    """Iterates over paths in a thread, at most `MAX_PATHS` ahead of the consumer."""

    def __init__(self, paths: Iterable[str | Failure]) -> None:
        self._items: deque[WorkItem] = deque()
        self._failures: deque[Failure] = deque()
        self._error: Exception | None = None
        self._refill = threading.Event()
        self.complete = False
        """Whether all paths have been read."""
        threading.Thread(target=self._read, args=(paths,), daemon=True).start()

    def _read(self, paths: Iterable[str | Failure]) -> None:
        try:
            for path in paths:
                if isinstance(path, Failure):
                    self._failures.append(path)
                else:
                    self._items.append(WorkItem(path))
                if self._pending > MAX_PATHS:
                    self._refill.clear()
                    # checked after clear(): the consumer may have emptied the queue in between
                    if self._pending > MAX_PATHS // 2:
                        self._refill.wait()
        except Exception as error:
            self._error = error
        self.complete = True

    @property
    def _pending(self) -> int:
        return len(self._items) + len(self._failures)

    @property
    def waiting(self) -> int:
        """Number of work items that have been read and not taken."""
        return len(self._items)

    @property
    def exhausted(self) -> bool:
        """Whether all paths have been taken. Raises the iterator's error after the paths read before it."""
        if not self.complete or self._pending:
            return False
        if self._error is not None:
            raise self._error
        return True

    def take(self) -> WorkItem:
        """Remove and return the next work item; requires `waiting`."""
        item = self._items.popleft()
        self._wake()
        return item

    def failures(self) -> Iterator[Failure]:
        """Remove and yield the failures that came instead of paths."""
        while self._failures:
            yield self._failures.popleft()
            self._wake()

    def _wake(self) -> None:
        # refill in batches: waking the reader for every path dominates the cost
        if self._pending <= MAX_PATHS // 2 and not self._refill.is_set():
            self._refill.set()
