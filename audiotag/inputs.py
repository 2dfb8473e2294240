"""From what the user names on the command line to the files that it means."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator

from audiotag.audio import SUFFIXES
from audiotag.errors import AudioError

STDIN = "-"


def expand(paths: Iterable[str]) -> Iterator[str | AudioError]:
    """Files for paths, folders and patterns, found as they are needed, in a fixed order.

    A folder means the sound files in it and below (`audiotag.audio.SUFFIXES`; hidden files and
    links to folders are left out), a pattern that no file is called by means what it matches
    (`**` too). What means nothing at all comes out as an error in its place.
    """
    for path in paths:
        if path == STDIN or os.path.lexists(path):
            yield from _one(path)
        elif glob.has_magic(path):
            found = False
            seen: set[str] = set()
            for match in sorted(glob.glob(path, recursive=True)):
                real = os.path.realpath(match)
                # `**` follows links, in circles, too; reading from a named pipe would wait for ever
                if real not in seen and (os.path.isdir(match) or os.path.isfile(match)):
                    seen.add(real)
                    found = True
                    yield from _one(match)
            if not found:
                yield AudioError(path, "no file matches")
        else:
            yield AudioError(path, "No such file or directory")


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
