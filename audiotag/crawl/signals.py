"""Ctrl-C and SIGTERM: both interrupt, neither in the middle of a write, and the second one ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BOTH = (signal.SIGINT, signal.SIGTERM)

_undisturbed = 0
_pending = False


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, the first of the signals raises KeyboardInterrupt; the next one has its default effect.

    Children can be waited for, also where who started us has said that we shall ignore when they end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # who started us in the background may have said that we shall ignore one
    before: dict[int, Any] = {
        number: signal.getsignal(number) for number in _BOTH if signal.getsignal(number) != signal.SIG_IGN
    }

    def interrupt(_number: int, _frame: Any) -> None:
        global _pending
        for number in handlers:
            signal.signal(number, signal.SIG_DFL)
        if not _undisturbed:
            raise KeyboardInterrupt
        _pending = True

    handlers: dict[int, Any] = dict.fromkeys(before, interrupt)
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        before[signal.SIGCHLD], handlers[signal.SIGCHLD] = signal.SIG_IGN, signal.SIG_DFL
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within, an interrupt waits until the end. For the main thread."""
    global _undisturbed, _pending
    _undisturbed += 1
    try:
        yield
    finally:
        _undisturbed -= 1
        if _pending and not _undisturbed:
            _pending = False
            raise KeyboardInterrupt


@contextmanager
def blocked() -> Iterator[None]:
    """Processes started within never get the signals; on Windows they do."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BOTH)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
