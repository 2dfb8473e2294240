"""Download of one file over HTTP with resumption, and a lock against concurrent pulls."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from audiotag import __version__
from audiotag.errors import ModelError
from audiotag.models.releases import MAX_BYTES

ProgressCallback = Callable[[int, int | None], None]
"""Called with the number of bytes downloaded, and the total, if known."""

TIMEOUT_S = 30.0
"""Seconds without data after which a connection counts as lost."""

MAX_SECONDS = 3600.0
"""Maximum duration of one download; the next call resumes it."""

_CHUNK = 1 << 16


class PullError(ModelError):
    """A model can't be downloaded."""


def download(
    url: str,
    part: Path,
    size: int | None = None,
    progress: ProgressCallback | None = None,
    most: int = MAX_BYTES,
) -> None:
    """Download `url` to the file `part`, resuming after the bytes it already has.

    Args:
        url: http or https.
        part: kept when the connection is lost, so that the next call resumes.
        size: expected size of the file, if known.
        progress: called after every chunk.
        most: maximum size of the file, if `size` is not known.

    Raises PullError: server not reached, error response, connection lost, wrong size, too slow, disk full.
    """
    # slow to import, and only needed here
    import http.client
    import urllib.error

    if not url.startswith(("https://", "http://")):
        raise PullError(f"{url}: only http and https are supported")
    have = part.stat().st_size if part.exists() else 0
    if have and have == size:
        return
    try:
        _fetch(url, part, have if size is None or have < size else 0, size, most, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise PullError(f"{url}: the server answers {error.code} {error.reason}") from None
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # it is complete already
        part.unlink(missing_ok=True)
        raise PullError(f"{url}: the partial download does not match the file; pull again") from None
    except urllib.error.URLError as error:
        raise PullError(f"{url}: can't be reached ({_reason(error.reason)}); is this machine offline?") from None
    except OSError as error:
        raise PullError(f"{url}: {_reason(error)}; pull again to resume") from None
    except (http.client.HTTPException, ValueError) as error:
        raise PullError(f"{url}: invalid response ({error or type(error).__name__})") from None


def _fetch(url: str, part: Path, have: int, size: int | None, most: int, progress: ProgressCallback | None) -> None:
    import urllib.request

    end = time.monotonic() + MAX_SECONDS
    headers = {"User-Agent": f"audiotag/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as response:
        resumed = _resumes_at(response, have)
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else size
        if size is not None and total != size:
            raise PullError(f"{url}: has {total} bytes instead of {size}")
        if size is None and total is not None and total > most:
            raise PullError(f"{url}: has {total} bytes, more than the {most} that such a model may have")
        with open(part, "ab" if resumed else "wb") as file:
            # read1: a server that sends a byte at a time must not hold up the clock
            while chunk := response.read1(_CHUNK):
                have += len(chunk)
                if have > (total or most):
                    raise PullError(f"{url}: has more than {total or most} bytes")
                file.write(chunk)
                if time.monotonic() > end:
                    raise PullError(f"{url}: takes longer than {MAX_SECONDS:g} s; pull again to resume")
                if progress is not None:
                    progress(have, total)
    if total is not None and have < total:
        raise PullError(f"{url}: the connection was lost after {have} of {total} bytes; pull again to resume")


def _resumes_at(response: Any, start: int) -> bool:
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return False
    content_range = response.headers.get("Content-Range", "")
    if not start or not content_range.startswith(f"bytes {start}-"):
        raise ValueError(f"requested bytes from {start}, received {content_range!r}")
    return True


def _reason(error: object) -> str:
    """Describe the cause of an error, which need not be an OSError."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "the disk is full"
        return error.strerror or str(error) or type(error).__name__
    return str(error)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, waiting for it; the lock ends with the process, the file remains."""
    with open(path, "a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:
                    continue
            try:
                yield
            finally:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            yield
