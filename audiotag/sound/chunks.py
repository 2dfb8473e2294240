"""Fields and chunks of the headers of sound files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from audiotag.sound.reader import KEPT, Reader


def unpack(layout: str, reader: Reader) -> tuple[Any, ...]:
    """Read the fields of a structure, all zero if the source ends before."""
    size = struct.calcsize(layout)
    data = reader.read(size)
    return struct.unpack(layout, data if len(data) == size else bytes(size))


def read_chunks(
    reader: Reader, layout: str, samples: bytes, wanted: Mapping[bytes, int], padded: bool = True
) -> tuple[dict[bytes, bytes], int] | None:
    """Read the chunks up to the header of the one with the samples.

    Args:
        reader: at the header of a chunk.
        layout: that of the header: a name of four bytes and a size.
        samples: name of the chunk with the samples.
        wanted: names of chunks and the least bytes of each; shorter ones and all others are skipped.
        padded: whether chunks of an odd size have a byte more.

    Returns:
        The last wanted chunk of each name, and the size of the chunk with the samples; None if there is no such chunk
        or one before it is larger than KEPT.
    """
    found: dict[bytes, bytes] = {}
    while True:
        name, size = unpack(layout, reader)
        if name == samples:
            return found, size
        if name == bytes(4) or not 0 <= size <= KEPT:
            return None
        body = reader.read(size + size % 2 if padded else size)
        if name in wanted and len(body) >= wanted[name]:
            found[name] = body
