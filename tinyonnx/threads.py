"""Threads that wait to help: shared by all sessions, at most one per processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

Job = Callable[[int, int], None]
"""Does share `part` of `parts`; returns when all shares are done."""


def available() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Helper(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="tinyonnx", daemon=True)
        self.wake = threading.Semaphore(0)
        self.job: Job | None = None
        self.part = self.parts = 0
        self.start()

    def run(self) -> None:
        while True:
            self.wake.acquire()
            assert self.job is not None
            self.job(self.part, self.parts)


# lists because their append and pop are atomic: a fork never finds a lock held
_idle: list[_Helper] = []
_all: list[_Helper] = []


def run_shared(job: Job, threads: int) -> None:
    """Run a job on the calling thread and on helpers that are idle: all in all up to `threads`.

    The shares must end together, as those of a program with barriers do: when the caller's
    is done, the helpers are taken to be free.
    """
    helpers = _take(min(threads, available()) - 1)
    parts = len(helpers) + 1
    for part, helper in enumerate(helpers, 1):
        helper.job, helper.part, helper.parts = job, part, parts
        helper.wake.release()
    job(0, parts)
    _idle.extend(helpers)


def _take(count: int) -> list[_Helper]:
    helpers: list[_Helper] = []
    while len(helpers) < count:
        try:
            helpers.append(_idle.pop())
        except IndexError:
            if len(_all) >= available() - 1:
                break
            helpers.append(_Helper())
            _all.append(helpers[-1])
    return helpers


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    _idle.clear()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
