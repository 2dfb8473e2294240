"""Headers of AIFF, AU and CAF files whose samples are not compressed.

Sources: Apple, "Audio Interchange File Format AIFF-C" and "Core Audio Format Specification"; Sun, audio_file_header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from audiotag.sound.chunks import read_chunks, unpack
from audiotag.sound.pcm import ENDS_EARLY, SampleFormat, SampleRun
from audiotag.sound.reader import KEPT, Reader

_AIFC = {
    b"NONE": ("", ">"),
    b"twos": ("", ">"),
    b"sowt": ("", "<"),
    b"in24": ("i3", ">"),
    b"in32": ("i4", ">"),
    b"fl32": ("f4", ">"),
    b"FL32": ("f4", ">"),
    b"fl64": ("f8", ">"),
    b"FL64": ("f8", ">"),
    b"raw ": ("u1", ">"),
    b"ulaw": ("ulaw", ">"),
    b"ULAW": ("ulaw", ">"),
    b"alaw": ("alaw", ">"),
    b"ALAW": ("alaw", ">"),
}
"""Encoding (from the bits if empty) and byte order by compression type."""

_AU = {1: "ulaw", 2: "i1", 3: "i2", 4: "i3", 5: "i4", 6: "f4", 7: "f8", 27: "alaw"}

MARKERS = (b"FORM", b".snd", b"dns.", b"caff")
"""First bytes of AIFF (and other IFF files), AU in both byte orders, and CAF."""

ENDLESS = 1 << 60
"""Size in bytes of samples of unknown number."""


class PcmHeader(NamedTuple):
    """Format of the samples and their number of bytes, None if it is unknown."""

    format: SampleFormat
    size: int | None


def read_pcm_header(reader: Reader) -> PcmHeader | None:
    """Read up to the first sample; return None for another, compressed or damaged format."""
    head = reader.peek(12)
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return _aiff(reader)
    if head[:4] in (b".snd", b"dns."):
        return _au(reader)
    if head[:4] == b"caff":
        return _caf(reader)
    return None


def runs(reader: Reader, header: PcmHeader, notes: list[str]) -> Iterator[SampleRun]:
    """Yield the only run of samples; it must be read before the iterator is advanced.

    `notes` receives a message if it is shorter than the header declares.
    """
    start, rate, frame = reader.position, header.format.rate, header.format.frame
    size = ENDLESS if header.size is None else header.size
    yield SampleRun(size, header.size is not None)
    read = reader.position - start
    if header.size is not None and size - read >= frame:
        notes.append(ENDS_EARLY.format(size / frame / rate, read / frame / rate))


def _aiff(reader: Reader) -> PcmHeader | None:
    reader.read(12)
    chunks = read_chunks(reader, ">4sI", b"SSND", {b"COMM": 0})
    if chunks is None:
        return None
    found, size = chunks
    common = found.get(b"COMM", b"")
    offset, _ = unpack(">II", reader)
    if len(common) < 18 or offset > KEPT:
        return None
    channels, frames, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", common)
    kind = common[18:22] or b"NONE"
    rate = int(mantissa * 2.0 ** (exponent - 16383 - 63)) if exponent < 16383 + 31 else 0
    if kind not in _AIFC or not channels or not rate:
        return None
    encoding, order = _AIFC[kind]
    encoding = encoding or ("i" + str((bits + 7) // 8) if 1 <= bits <= 32 else "")
    if not encoding:
        return None
    format = SampleFormat(encoding, rate, channels, order)
    reader.skip(offset)
    # streams have lengths near 2 GiB, or none
    promised = frames * format.frame
    known = 0 < promised < 0x7F000000 and size < 0x7F000000
    return PcmHeader(format, promised if known or size == 8 + offset else None)


def _au(reader: Reader) -> PcmHeader | None:
    order = ">" if reader.read(4) == b".snd" else "<"
    offset, size, code, rate, channels = unpack(order + "5I", reader)
    if code not in _AU or not channels or not 0 < rate < 1 << 31 or not 24 <= offset <= KEPT:
        return None
    reader.skip(offset - 24)
    return PcmHeader(SampleFormat(_AU[code], rate, channels, order), None if size >= 0xFFFF0000 else size)


def _caf(reader: Reader) -> PcmHeader | None:
    reader.read(8)
    chunks = read_chunks(reader, ">4sq", b"data", {b"desc": 32}, padded=False)
    if chunks is None:
        return None
    found, size = chunks
    format = _caf_format(found[b"desc"]) if b"desc" in found else None
    if format is None:
        return None
    reader.read(4)
    return PcmHeader(format, None if size < 4 else size - 4)


def _caf_format(body: bytes) -> SampleFormat | None:
    rate, kind, flags, packet, frames, channels, bits = struct.unpack_from(">d4s5I", body)
    if not 0 < rate < 1 << 31 or rate % 1 or not channels or frames != 1:
        return None
    if kind in (b"ulaw", b"alaw"):
        return SampleFormat(kind.decode(), int(rate), channels)
    encoding = ("f" if flags & 1 else "i") + str(bits // 8)
    known = ("f4", "f8", "i1", "i2", "i3", "i4")
    if kind != b"lpcm" or bits % 8 or packet != bits // 8 * channels or encoding not in known:
        return None
    return SampleFormat(encoding, int(rate), channels, "<" if flags & 2 else ">")
