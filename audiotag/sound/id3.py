"""ID3v2 tags, which may precede sound of any format."""

from __future__ import annotations


def id3_size(head: bytes) -> int:
    """Count the bytes of the ID3v2 tag that begins with `head`; 0 if there is none."""
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) >= 0x80:
        return 0
    footer = 10 * bool(head[5] & 0x10)
    return 10 + footer + sum(byte << 7 * i for i, byte in enumerate(reversed(head[6:10])))
