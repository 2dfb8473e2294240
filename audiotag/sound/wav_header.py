"""WAV (RIFF and RF64): the header, and the positions of the samples.

Programs that write WAV into a pipe, or are killed before they finish, leave meaningless lengths in the header, and
lengths of more than 4 GiB don't fit into it. So the bytes after the samples are examined, too: they are further chunks,
or more samples. `audiotag/standalone/c/wav.c` is the same for the executable.

Sources: Microsoft, "Multiple channel audio data and WAVE files"; EBU Tech 3306 (RF64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from audiotag.sound.chunks import read_chunks, unpack
from audiotag.sound.pcm import ENDS_EARLY, GOES_ON, SampleFormat, SampleRun
from audiotag.sound.reader import Reader

_ENCODINGS = {
    (1, 1): "u1",
    (1, 2): "i2",
    (1, 3): "i3",
    (1, 4): "i4",
    (3, 4): "f4",
    (3, 8): "f8",
    (6, 1): "alaw",
    (7, 1): "ulaw",
}
"""Encodings by format tag and bytes per sample."""

MARKERS = (b"RIFF", b"RF64")
"""First bytes of WAV files, and of other RIFF files."""

_EXTENSIBLE = 0xFFFE

_ZERO_IS_SILENCE = ("i2", "i3", "i4", "f4", "f8")
"""Encodings in which zeros are silence."""

UNSIZED_CHUNKS = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"JUNK", b"PEAK", b"iXML", b"smpl", b"_PMX", b"acid"),
    *(b"axml", b"guan", b"inst", b"plst", b"chna", b"SAUR", b"PAD ", b"FLLR", b"minf", b"elm1", b"regn", b"umid"),
)
"""Chunks that show that a data chunk of length 0 is empty if the length of the file is unknown."""

WRAP = 1 << 32
"""Lengths in the header count modulo this."""

TRAILER = 4096
"""Minimum bytes after the samples that count as more samples if they are not a chunk; fewer are ignored."""

LARGEST_CHUNK = 1 << 28
"""Maximum bytes of a chunk after the samples; a larger length is not one of a chunk."""


class WavHeader(NamedTuple):
    """The part of a WAV file before its samples.

    Attributes:
        format: that of the samples, None for a compressed or damaged file.
        problem: the fault of a header that no decoder could read.
        size: bytes of the data chunk.
        end: position behind the RIFF chunk; None if the header doesn't give it.
    """

    format: SampleFormat | None
    problem: str | None
    size: int
    end: int | None


def read_wav_header(reader: Reader) -> WavHeader | None:
    """Read up to the first sample; return None if this is not WAV or has no data chunk."""
    start = reader.position
    kind, riff_size, wave = unpack("<4sI4s", reader)
    if kind not in MARKERS or wave != b"WAVE":
        return None
    chunks = read_chunks(reader, "<4sI", b"data", {b"fmt ": 16, b"ds64": 16})
    if chunks is None:
        return None
    found, size = chunks
    if kind == b"RF64":
        long_riff, long_size = struct.unpack_from("<QQ", found.get(b"ds64", bytes(16)))
        riff_size = long_riff if riff_size == 0xFFFFFFFF else riff_size
        size = long_size if size == 0xFFFFFFFF else size
    format, problem = _format(found.get(b"fmt ", b""))
    known = riff_size > 8 and not _is_placeholder(riff_size)
    return WavHeader(format, problem, size, start + riff_size + 8 if known else None)


def _format(form: bytes) -> tuple[SampleFormat | None, str | None]:
    if not form:
        return None, "its header does not say what its samples are"
    code, channels, rate, _, frame, _ = struct.unpack_from("<HHIIHH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        (code,) = struct.unpack_from("<H", form, 24)
    if code not in {known for known, _ in _ENCODINGS}:
        return None, None
    if not channels:
        return None, "its header gives no channels"
    if not 0 < rate < 1 << 31:
        return None, "its header gives no valid sample rate (0 Hz?)"
    encoding = _ENCODINGS.get((code, frame // channels)) if frame % channels == 0 else None
    return (SampleFormat(encoding, rate, channels) if encoding else None), None


def _is_placeholder(size: int) -> bool:
    """Return whether a length is one that writers use while it is unknown."""
    return size == 0 or 0x7FFF0000 <= size <= 0x80000000 or 0xFFFF0000 <= size <= 0xFFFFFFFF or size >= 1 << 60


def runs(reader: Reader, header: WavHeader, notes: list[str]) -> Iterator[SampleRun]:
    """Yield the runs of samples; each one must be read before the iterator is advanced.

    Args:
        reader: at the first sample.
        header: its result of `read_wav_header`.
        notes: takes messages about lengths that don't fit.
    """
    assert header.format is not None
    frame, rate = header.format.frame, header.format.rate
    size, promised, goes_on, total, counted = header.size, not _is_placeholder(header.size), False, 0, 0
    silence: int | None = 0
    if header.size == 0:
        empty = header.end is not None and header.end > reader.position
        if empty or reader.peek(4) in (b"", *UNSIZED_CHUNKS):
            return
        size = WRAP
    while True:
        start = reader.position
        yield SampleRun(size, promised, goes_on, silence or 0)
        read = reader.position - start
        total += read
        counted += size if promised else 0
        if promised and read < size and size - read >= frame:
            notes.append(ENDS_EARLY.format(counted / frame / rate, total / frame / rate))
        if read < size:
            return
        end = reader.position
        following = _next_data(reader, size)
        if following is None:
            behind = reader.position
            silence = _silence_before(reader, header.format) if behind == end else None
            if silence is None:
                _read_rest(reader, behind, notes)
                return
            if promised:
                notes.append(GOES_ON.format(counted / frame / rate))
            size, promised, goes_on = WRAP, False, True
        else:
            size, promised, goes_on = following or WRAP, not _is_placeholder(following), False
            silence = 0


def _next_data(reader: Reader, size: int) -> int | None:
    """Skip chunks after samples of `size` bytes; return the size of another data chunk, None if there is none."""
    if size % 2 and _is_chunk(reader.peek(9)[1:]):
        reader.read(1)
    while _is_chunk(head := reader.peek(8)):
        reader.read(8)
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return size
        reader.skip(size + size % 2)
    return None


def _is_chunk(head: bytes) -> bool:
    """Return whether those bytes begin a chunk that may follow samples."""
    name = head[:4]
    return (
        len(head) >= 8
        and all(32 <= byte < 127 for byte in name)
        and (int.from_bytes(head[4:8], "little") < LARGEST_CHUNK or name == b"data")
    )


def _silence_before(reader: Reader, format: SampleFormat) -> int | None:
    """Read the zeros before more samples, which may directly follow others, and return their number.

    Fewer than TRAILER are left to be read with the samples. Returns None if no samples follow.
    """
    start = reader.position
    if reader.peek(TRAILER).strip(b"\0") or format.encoding not in _ZERO_IS_SILENCE:
        return 0 if _is_sound(reader.peek(TRAILER)) else None
    while data := reader.read(1 << 20, TRAILER):
        if sound := data.lstrip(b"\0"):
            reader.unread(sound)
            ahead = reader.peek(TRAILER)
            if _is_sound(ahead) and not _is_chunk(ahead[:8]):
                return reader.position - start
            break
    return None


def _is_sound(ahead: bytes) -> bool:
    """Return whether the bytes after samples may be samples: enough of them, neither a tag nor only zeros."""
    return len(ahead) == TRAILER and bool(ahead.strip(b"\0")) and not ahead.startswith((b"TAG", b"ID3"))


def _read_rest(reader: Reader, end: int, notes: list[str]) -> None:
    """Read the bytes after the samples, which end at `end`; note if the header does not count them."""
    empty = True
    while data := reader.read(1 << 20, 1):
        empty = empty and not data.strip(b"\0")
    size = reader.position - end
    if size >= 2 * TRAILER and not empty:
        notes.append(f"{size} bytes behind its samples are left out: its header does not count them")
