"""Expansion of command-line paths to files: folders, patterns, lists and shards."""

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
"""Bytes of a path's fingerprint; among a billion paths the probability of a collision is 1e-11."""


def lists_in(paths: Iterable[str], files0_from: str | None = None) -> list[str | Manifest]:
    """Replace each `@list` by a manifest, unless a file has that name, and append the NUL-separated list, if given.

    Raises ManifestError if a list can't be opened.
    """
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
    """Yield the files of paths, folders, patterns and lists lazily and in a fixed order.

    A folder stands for the sound files in it and its subfolders (`audiotag.sound.audio.SUFFIXES`),
    without hidden files and links to folders. A pattern, which may contain `**`, stands for its
    matches, unless a file has that name. A manifest stands for the files that it lists, taken
    literally. A path, pattern, list or folder without files yields an error in its place.

    Raises ManifestError for a list that can't be read.
    """
    for path in paths:
        if isinstance(path, Manifest):
            empty = True
            for name in path:
                empty = False
                # in a list, "-" is the name of a file
                yield os.path.join(".", name) if name == STDIN else name
            if empty:
                yield AudioError(path.path, "no files in this list")
        elif path == STDIN or os.path.lexists(path):
            yield from _one(path)
        elif glob.has_magic(path):
            found = False
            seen: set[str] = set()
            for match in sorted(glob.glob(path, recursive=True)):
                real = Path(os.path.realpath(match))
                # `**` yields folders as well as their content, and follows links, even in cycles;
                # opening a named pipe would block forever
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
    """Part `number` of `count`, counted from 1, of a set of paths.

    A path's shard depends on its spelling alone: all machines that get the same paths agree, and
    adding paths does not move others to another shard.
    """

    number: int
    count: int

    def __contains__(self, path: str) -> bool:
        return int.from_bytes(fingerprint(path), "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def fingerprint(path: str) -> bytes:
    """Hash the spelling of a path to `FINGERPRINT` bytes."""
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
            # opening a named pipe would block forever; a dangling link is reported as an unreadable file
            if sound and (os.path.isfile(path) or not os.path.exists(path)):
                found = True
                yield path
    for error in errors:
        yield AudioError(os.fspath(error.filename), error.strerror or "can't be read")
    if not found and not errors:
        yield AudioError(folder, "no sound files in this folder")
