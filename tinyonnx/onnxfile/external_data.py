"""Read tensors from files beside the model, without access to any other file."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path, PureWindowsPath

import numpy as np

from tinyonnx.errors import ModelError
from tinyonnx.files import FilePages
from tinyonnx.ir import Array

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
# O_NONBLOCK: opening a FIFO must not block before it is refused
_FILE_FLAGS = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_HAS_DIR_FD = os.open in os.supports_dir_fd and bool(_NOFOLLOW)

_MAPPED = 1 << 20
"""Regions of at least this many bytes are mapped."""

_ALIGNMENT = 64
"""Bytes at a multiple of which a region must begin to be mapped, so that its elements are aligned."""


@dataclass
class _File:
    handle: FileIO
    size: int
    regions: dict[tuple[int, int], Array] = field(default_factory=dict)
    taken: int = 0


class ExternalData:
    """The external data files of one model; each is opened once and kept open until `close`.

    Only regular files below `folder` are read: no absolute path, no `..`, no symbolic link in any component below the
    folder, no file with a second hard link. All errors are ModelErrors that name the file but not the tensor.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._files: dict[str, _File] = {}

    def read(self, location: str, offset: int, nbytes: int) -> Array:
        """Return `nbytes` bytes from `offset` on, uint8 [nbytes], read-only.

        A region that several tensors share is read once; large ones are mapped. The file must not shrink while they are
        used. Distinct regions may not add up to more bytes than the file
        has, which bounds the memory that overlapping tensors can claim.
        """
        key = "/".join(_components(location))
        if key not in self._files:
            self._files[key] = _open(self.folder, key)
        file = self._files[key]
        if offset < 0 or nbytes < 0 or offset + nbytes > file.size:
            raise ModelError(
                f"external data {key!r} has {file.size} bytes, the tensor needs {nbytes} bytes from {offset} on"
            )
        region = (offset, nbytes)
        if region not in file.regions:
            file.taken += nbytes
            if file.taken > file.size:
                raise ModelError(f"external data {key!r} has {file.size} bytes, overlapping tensors claim more")
            file.regions[region] = _read(file.handle, key, offset, nbytes)
        return file.regions[region]

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.handle.close()
        self._files.clear()


def _components(location: str) -> list[str]:
    if "\0" in location or "\\" in location or PureWindowsPath(location).anchor:
        raise ModelError(f"external data {location!r} is not a relative path with forward slashes")
    parts = [p for p in location.split("/") if p not in ("", ".")]
    if not parts:
        raise ModelError(f"external data {location!r} names no file")
    if ".." in parts:
        raise ModelError(f"external data {location!r} leaves the folder of the model")
    return parts


def _open(folder: Path, location: str) -> _File:
    try:
        fd = _open_below(folder, location) if _HAS_DIR_FD else _open_portably(folder, location)
    except OSError as error:
        reason = "is or crosses a symbolic link" if _crosses_link(folder, location) else error.strerror
        raise ModelError(f"external data {location!r} can't be opened: {reason}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(fd)
        cause = "has several hard links" if stat.S_ISREG(status.st_mode) else "is not a regular file"
        raise ModelError(f"external data {location!r} {cause}")
    return _File(os.fdopen(fd, "rb", buffering=0), status.st_size)


def _open_below(folder: Path, location: str) -> int:
    """Open component by component, so that replacing a folder by a link in between is detected."""
    *folders, name = location.split("/")
    fd = os.open(folder, os.O_RDONLY | _DIRECTORY)
    try:
        for part in folders:
            inner = os.open(part, os.O_RDONLY | _DIRECTORY | _NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = inner
        return os.open(name, _FILE_FLAGS, dir_fd=fd)
    finally:
        os.close(fd)


def _open_portably(folder: Path, location: str) -> int:
    """Open a file on systems without openat (Windows); a writer of the folder can race the preceding checks."""
    if _crosses_link(folder, location):
        raise OSError(0, "symbolic link")
    return os.open(folder / location, _FILE_FLAGS)


def _crosses_link(folder: Path, location: str) -> bool:
    path = folder
    for part in location.split("/"):
        path = path / part
        if os.path.islink(path):
            return True
    return False


def _read(handle: FileIO, location: str, offset: int, nbytes: int) -> Array:
    if nbytes >= _MAPPED and offset % _ALIGNMENT == 0:
        return _map(handle, location, offset, nbytes)
    data = np.empty(nbytes, np.uint8)
    view = data.data
    try:
        handle.seek(offset)
        while view:
            count = handle.readinto(view)
            if not count:
                raise ModelError(f"external data {location!r} shrank while it was read")
            view = view[count:]
    except OSError as error:
        raise ModelError(f"external data {location!r} can't be read: {error.strerror}") from None
    data.flags.writeable = False
    return data


def _map(handle: FileIO, location: str, offset: int, nbytes: int) -> Array:
    """Map a region instead of copying it: its pages are the file's, and may leave memory again."""
    skipped = offset % mmap.ALLOCATIONGRANULARITY
    try:
        pages = FilePages(handle.fileno(), skipped + nbytes, access=mmap.ACCESS_READ, offset=offset - skipped)
    except (OSError, ValueError) as error:
        raise ModelError(f"external data {location!r} can't be read: {error}") from None
    return np.frombuffer(pages, np.uint8, nbytes, skipped)
