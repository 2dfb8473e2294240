"""Writing results to files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def named(path: str) -> Iterator[None]:
    """Errors of the system that name no file name this one: a full disk's, for instance."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def write_text(path: str, text: str) -> None:
    """Write a file. Raises OSError, with the file's name."""
    with named(path), open(path, "w", encoding="utf-8") as file:
        file.write(text)
