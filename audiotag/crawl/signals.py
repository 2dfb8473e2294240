"""Ctrl-C and SIGTERM: both raise KeyboardInterrupt, outside of writes; a second signal ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BOTH = (signal.SIGINT, signal.SIGTERM)

_deferring = 0
_pending = False


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for the first SIGINT or SIGTERM; give later ones their default effect.

    An ignored SIGCHLD is restored to its default, because child processes can't be waited for otherwise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # a shell starts background processes with SIGINT ignored: keep that
    before: dict[int, Any] = {
        number: signal.getsignal(number) for number in _BOTH if signal.getsignal(number) != signal.SIG_IGN
    }

    def interrupt(_number: int, _frame: Any) -> None:
        global _pending
        for number in handlers:
            signal.signal(number, signal.SIG_DFL)
        if not _deferring:
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
def deferred() -> Iterator[None]:
    """Defer interrupts until the block ends. Main thread only."""
    global _deferring, _pending
    _deferring += 1
    try:
        yield
    finally:
        _deferring -= 1
        if _pending and not _deferring:
            _pending = False
            raise KeyboardInterrupt


@contextmanager
def blocked() -> Iterator[None]:
    """Block both signals, also in processes started within; no effect on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BOTH)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
