"""Work that processes of one test run do one after the other, so that the later ones find its result in a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # on Windows each process works for itself
    fcntl = None  # type: ignore[assignment]


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all worker processes of pytest-xdist."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextmanager
def one_at_a_time(factory: pytest.TempPathFactory, name: str) -> Iterator[None]:
    """Hold the lock of this name among the worker processes of pytest-xdist."""
    with (shared_folder(factory) / f"{name}.lock").open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file releases the lock
