"""Threads that help with runs: shared by all sessions, at most one per processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

Job = Callable[[int, int], None]
"""Runs shares until none is left, together with the other threads in the same call."""


def available() -> int:
    """Return the number of processors that this process may use."""
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
    """Run job(a, b) on the calling thread and on idle helpers, on up to `threads` threads in total.

    Returns when the caller's call does. A helper may still be finishing, or may have come too late to do anything; it
    is used again nevertheless.
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
            _places.append(None)  # before starting, so that two simultaneous callers don't exceed the limit
            if len(_places) >= available():
                _places.pop()
                return
            try:
                helpers.append(_Helper())
            except RuntimeError:  # the system can't start another thread
                _places.pop()
                return


def _forget() -> None:
    """Forget the parent's threads in a forked child, which has none of them."""
    _idle.clear()
    _places.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
