"""From what the user names on the command line to the files that it means."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audiotag.crawl.manifests import Manifest
from audiotag.errors import AudioError
from audiotag.sound.audio import SUFFIXES

STDIN = "-"
FINGERPRINT = 12
"""Bytes of a path's fingerprint: among a billion paths two are equal with a probability of 1e-11."""


def lists_in(paths: Iterable[str], files0_from: str | None = None) -> list[str | Manifest]:
    """The paths, with manifests for those that are `@list` and not names of files, and for a list separated by NUL."""
    found: list[str | Manifest] = [
        Manifest.of(path[1:]) if len(path) > 1 and path[0] == "@" and not os.path.lexists(path) else path
        for path in paths
    ]
    if files0_from is not None:
        found.append(Manifest(files0_from, separator=b"\0"))
    for path in found:
        if isinstance(path, Manifest):
            path.check()
    return found


def expand(paths: Iterable[str | Manifest]) -> Iterator[str | AudioError]:
    """Files for paths, folders, patterns and lists, found as they are needed, in a fixed order.

    A folder means the sound files in it and below (`audiotag.sound.audio.SUFFIXES`; hidden files and
    links to folders are left out), a pattern that no file is called by means what it matches
    (`**` too), a manifest the files that it lists, taken literally. What means nothing at all
    comes out as an error in its place.

    Raises ManifestError for a list that can't be read.
    """
    for path in paths:
        if isinstance(path, Manifest):
            # in a list it is the name of a file
            yield from (os.path.join(".", name) if name == STDIN else name for name in path)
        elif path == STDIN or os.path.lexists(path):
            yield from _one(path)
        elif glob.has_magic(path):
            found = False
            seen: set[str] = set()
            for match in sorted(glob.glob(path, recursive=True)):
                real = Path(os.path.realpath(match))
                # `**` means folders and what is in them, and follows links, in circles, too; reading from a named
                # pipe would wait for ever
                if seen.isdisjoint(map(str, (real, *real.parents))) and (os.path.isdir(match) or os.path.isfile(match)):
                    seen.add(str(real))
                    found = True
                    yield from _one(match)
            if not found:
                yield AudioError(path, "no file matches")
        else:
            yield AudioError(path, "No such file or directory")


@dataclass(frozen=True)
class Shard:
    """The part `number` of `count`, from 1, of any set of paths.

    A path's part follows from its spelling alone: every machine that is given the same paths
    agrees, and those added later move none.
    """

    number: int
    count: int

    def __contains__(self, path: str) -> bool:
        return int.from_bytes(fingerprint(path), "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def fingerprint(path: str) -> bytes:
    """`FINGERPRINT` bytes that stand for a path as it is spelled."""
    return hashlib.blake2b(path.encode(errors="surrogatepass"), digest_size=FINGERPRINT).digest()


def _one(path: str) -> Iterator[str | AudioError]:
    if path != STDIN and os.path.isdir(path):
        yield from _folder(path)
    else:
        yield path


def _folder(folder: str) -> Iterator[str | AudioError]:
    errors: list[OSError] = []
    found = False
    for where, folders, files in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(where, name)
            sound = not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
            # reading from a named pipe would wait for ever; a dangling link is a file that can't be read
            if sound and (os.path.isfile(path) or not os.path.exists(path)):
                found = True
                yield path
    for error in errors:
        yield AudioError(os.fspath(error.filename), error.strerror or "can't be read")
    if not found and not errors:
        yield AudioError(folder, "no sound files in this folder")
