"""The metadata of an ONNX file, read without its graph."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

_METADATA = 14
"""Number of the field `metadata_props` in ONNX's ModelProto."""

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
"""Wire types of protobuf."""


def read_metadata(source: str | os.PathLike[str] | bytes) -> dict[str, str]:
    """Read the metadata entries of an ONNX file, or of its content; content that can't be parsed has none.

    Skips the graph by its length, so that a large model costs no more than a small one. Raises OSError.
    """
    found: dict[str, str] = {}
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            while file.tell() < end:
                number, size = _field(file)
                if number == _METADATA:
                    key, value = _entry(file.read(size))
                    found[key] = value
                else:
                    file.seek(size, os.SEEK_CUR)
        except (EOFError, ValueError):
            return found
    return found


def with_entry(content: bytes, key: str, value: str) -> bytes:
    """Return the content of an ONNX file with a metadata entry, in place of any of that key; nothing else changes.

    Raises:
        ValueError: the content is not that of an ONNX file.
    """
    parts: list[bytes] = []
    file = io.BytesIO(content)
    try:
        while (start := file.tell()) < len(content):
            number, size = _field(file)
            data = file.read(size)
            if len(data) != size:
                raise EOFError
            if number != _METADATA or _entry(data)[0] != key:
                parts.append(content[start : file.tell()])
    except (EOFError, ValueError):
        raise ValueError("is not an ONNX file, or a part of one") from None
    texts = b"".join(_tagged(field, text.encode()) for field, text in ((1, key), (2, value)))
    return b"".join([*parts, _tagged(_METADATA, texts)])


def _tagged(number: int, data: bytes) -> bytes:
    """Return a field of bytes."""
    head, size = bytearray([number << 3 | _BYTES]), len(data)
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(head) + bytes([size]) + data


def _field(file: BinaryIO) -> tuple[int, int]:
    """Read the head of a field: its number, and the size of its remaining content."""
    tag = _varint(file)
    kind = tag & 7
    if kind == _VARINT:
        _varint(file)
        return tag >> 3, 0
    if kind == _BYTES:
        return tag >> 3, _varint(file)
    if kind in (_FIXED_64, _FIXED_32):
        return tag >> 3, 8 if kind == _FIXED_64 else 4
    raise ValueError(f"wire type {kind}")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is too long")


def _entry(data: bytes) -> tuple[str, str]:
    """Parse a StringStringEntryProto."""
    texts = {1: "", 2: ""}
    file = io.BytesIO(data)
    while file.tell() < len(data):
        number, size = _field(file)
        texts[number] = file.read(size).decode()
    return texts[1], texts[2]
