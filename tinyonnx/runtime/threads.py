"""Threads that wait to help: shared by all sessions, at most one per processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

Job = Callable[[int, int], None]
"""Runs shares until none is left, together with the other threads in the same call."""


def available() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Helper(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="tinyonnx", daemon=True)
        self.wake = threading.Semaphore(0)
        self.task: tuple[Job, int, int] | None = None
        self.start()

    def run(self) -> None:
        while True:
            self.wake.acquire()
            assert self.task is not None
            job, a, b = self.task
            job(a, b)


# lists because their append and pop are atomic: a fork never finds a lock held
_idle: list[_Helper] = []
_places: list[None] = []


def run_shared(job: Job, a: int, b: int, threads: int) -> None:
    """Run job(a, b) on the calling thread and on helpers that are idle: all in all up to `threads`.

    Returns when the caller's call does. A helper may be still on its way out, or have been too
    late to do anything; it is used again nevertheless.
    """
    helpers: list[_Helper] = []
    try:
        _take(min(threads, available()) - 1, helpers)
        for helper in helpers:
            helper.task = job, a, b
            helper.wake.release()
        job(a, b)
    finally:
        _idle.extend(helpers)


def _take(count: int, helpers: list[_Helper]) -> None:
    while len(helpers) < count:
        try:
            helpers.append(_idle.pop())
        except IndexError:
            _places.append(None)  # beforehand: of two callers at once none may take a place too many
            if len(_places) >= available():
                _places.pop()
                return
            try:
                helpers.append(_Helper())
            except RuntimeError:  # the system has no room for more
                _places.pop()
                return


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    _idle.clear()
    _places.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
