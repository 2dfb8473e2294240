"""Cache files on disk for later processes: machine code and decoded graphs.

Each file begins with the SHA-256 of its content. A file that is damaged or can't be read counts as absent; one that
can't be written is skipped. Whoever can write to the cache can run code in the processes that read it, as with
Python's own bytecode: the folders are accessible to their owner only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from tinyonnx.errors import ModelError
from tinyonnx.files import write_file

_DIGEST_BYTES = 32


@cache
def folder() -> Path:
    """Return the cache directory; a path that can never exist if the user has no home directory."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):  # the XDG specification says to ignore relative paths
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base) or not os.environ.get("HOME", "?"):
        base = os.devnull
    return Path(base) / "tinyonnx"


def read(path: Path) -> bytes | None:
    """Return the content of a file that `write` made; None if it is absent or damaged."""
    with suppress(OSError):
        content = path.read_bytes()
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            return content
    return None


def write(path: Path, content: bytes) -> bool:
    """Write a file atomically, so that processes may write the same one at once; return whether that worked."""
    with suppress(OSError, ModelError):
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        write_file(path, hashlib.sha256(content).digest() + content, 0o600, durable=False)
        return True
    return False


def remove_old(paths: Iterable[Path], kept: int) -> None:
    """Keep the `kept` most recently written files or folders and delete the rest."""
    import shutil

    with suppress(OSError):
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[:-kept]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
