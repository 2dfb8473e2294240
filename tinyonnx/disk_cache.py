"""What is kept on disk for later processes: machine code, and what models' files were found to hold.

Every file has the SHA-256 of its content in front. What can't be read counts as absent, what
can't be written isn't kept. Who can write here can make this user's processes do anything, as
with Python's own bytecode: the folders are for the user alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

_DIGEST_BYTES = 32


@cache
def folder() -> Path:
    """Where everything is kept; nowhere for a user without a home."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):  # as the XDG specification says
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base) or not os.environ.get("HOME", "?"):
        base = os.devnull
    return Path(base) / "tinyonnx"


def read(path: Path) -> bytes | None:
    """The content of a file that `write` made; None if it is absent or damaged."""
    with suppress(OSError):
        content = path.read_bytes()
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            return content
    return None


def write(path: Path, content: bytes) -> bool:
    """Atomically, so that two processes that write the same file don't meet; whether that worked."""
    import tempfile

    with suppress(OSError):
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return True
    return False


def remove_old(paths: Iterable[Path], kept: int) -> None:
    """Leave only so many files or folders, those that were last written to."""
    import shutil

    with suppress(OSError):
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[:-kept]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
