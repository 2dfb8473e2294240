"""MPEG audio (MP1, MP2, MP3, and AAC with ADTS headers) as the sequence of frames that a file contains.

Length fields of MP3 files are often missing or wrong, and decoders stop at bytes between frames. Here every frame is
found by its header; tags, length fields and junk are skipped and counted. If the format changes, or another file
begins, a new `MpegSegment` begins, which a decoder reads as a separate file. Sources: ISO/IEC 11172-3, 13818-3 and
13818-7 (headers); Xing, LAME and VBRI tags as encoders write them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from audiotag.sound.id3 import id3_size
from audiotag.sound.reader import AHEAD, Reader

AAC = 4
"""`Header.layer` of AAC."""

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_RATES = (44100, 48000, 32000)
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by MPEG version and layer; layer 3 of versions 2 and 2.5 has layer 2's."""

HEADER = 7
"""Maximum bytes of a frame header; MP1 to MP3 have four, and their frames are longer than the maximum, too."""

DECODER_DELAY = 529
"""Delay of a layer 3 decoder in samples."""

CONFIRMED = 3
"""Number of consecutive frames that identify MPEG audio, unless the source ends before."""

SEARCHED = 1 << 16
"""Bytes at the start of a source in which frames are searched for."""


class Header(NamedTuple):
    """The header of a frame."""

    version: int
    """1, 2, or 3 for MPEG 2.5; 2 or 4 for AAC."""
    layer: int
    """1 to 3, or AAC."""
    rate: int
    channels: int
    size: int
    """Bytes of the frame."""
    samples: int
    """Samples per channel."""

    @property
    def form(self) -> tuple[int, int, int, int]:
        """Version, layer, rate and channels, which are constant within a segment."""
        return self[:4]


@lru_cache(1 << 12)
def _header(b: int, c: int, d: int) -> Header | None:
    version = (3, 0, 2, 1)[b >> 3 & 3]
    layer = 4 - (b >> 1 & 3)
    bitrate, rate = c >> 4, c >> 2 & 3
    if not version or layer == 4 or not 1 <= bitrate <= 14 or rate == 3:
        return None
    kilobits = _BITRATES[min(version, 2), min(layer, 2) if version > 1 else layer][bitrate - 1]
    hertz = _RATES[rate] >> version - 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
    padding = c >> 1 & 1
    size = (12000 * kilobits // hertz + padding) * 4 if layer == 1 else samples * 125 * kilobits // hertz + padding
    return Header(version, layer, hertz, 1 if d >> 6 == 3 else 2, size, samples)


def header_at(data: bytes, at: int = 0) -> Header | None:
    """Return the frame header at a position, None if there is none; free formats, which have no size, are not read."""
    if len(data) < at + HEADER or data[at] != 0xFF or data[at + 1] < 0xE0:
        return None
    if data[at + 1] & 0xF6 == 0xF0:
        return _adts(data[at + 1 : at + HEADER])
    return _header(data[at + 1], data[at + 2], data[at + 3])


def _adts(data: bytes) -> Header | None:
    rate, channels = data[1] >> 2 & 15, (data[1] & 1) << 2 | data[2] >> 6
    size = (data[2] & 3) << 11 | data[3] << 3 | data[4] >> 5
    if rate >= len(_AAC_RATES) or size < HEADER:
        return None
    return Header(4 if data[0] & 8 else 2, AAC, _AAC_RATES[rate], channels, size, 1024 * (1 + (data[5] & 3)))


@dataclass
class MpegSegment:
    """Frames of one format: a part of a source, or all of it.

    Attributes:
        form: version, layer, rate in Hz, channels.
        promised: frames according to a Xing or VBRI tag, None without one.
        skip: samples that the encoder put before the sound.
        drop: samples that it put behind the sound, minus the delay of decoders.
        frames: frames given so far.
        samples: samples per frame.
    """

    form: tuple[int, int, int, int]
    samples: int
    promised: int | None = None
    skip: int = 0
    drop: int = 0
    frames: int = 0
    _source: Iterator[bytes] = field(default=iter(()), repr=False)
    _rest: bytes = field(default=b"", repr=False)

    @property
    def rate(self) -> int:
        return self.form[2]

    def pull(self, size: int) -> bytes:
        """Return at most `size` bytes of frames; b"" at the end of the segment."""
        if not self._rest:
            self._rest = next(self._source, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class MpegFrames:
    """The frames of a source.

    Attributes:
        junk: bytes that are neither frames nor known tags; `places` is how many runs of them there were, and
            `first` the time of the first one in seconds.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._data, self._at = b"", 0
        self._pending: Header | None = None
        self.time = 0.0
        self.junk = self.places = 0
        self.first = 0.0

    def segments(self) -> Iterator[MpegSegment]:
        """Yield segments; each one must be read to its end before the iterator is advanced."""
        header = self._next(None)
        while header:
            segment = MpegSegment(header.form, header.samples)
            self._describe(segment, header)
            self._pending = header if segment.promised is None else self._next(header.form)
            segment._source = self._frames(segment)
            yield segment
            for _ in segment._source:
                pass
            header = self._pending

    def _frames(self, segment: MpegSegment) -> Iterator[bytes]:
        """Yield the segment's frames, some at a time."""
        batch: list[bytes] = []
        size = 0
        header = self._pending
        while header and header.form == segment.form:
            frame = self._data[self._at : self._at + header.size]
            if segment.frames and _tag_at(frame, header):
                break
            self._at += header.size
            batch.append(frame)
            size += header.size
            segment.frames += 1
            self.time += header.samples / header.rate
            if size >= AHEAD // 4 or len(self._data) - self._at < 2 * header.size + 4:
                yield b"".join(batch)
                batch, size = [], 0
            header = self._next(header.form)
        self._pending = header
        if batch:
            yield b"".join(batch)

    def _describe(self, segment: MpegSegment, header: Header) -> None:
        """Parse and skip a frame that holds lengths instead of sound."""
        frame = self._data[self._at : self._at + header.size]
        place = _tag_at(frame, header)
        if not place:
            return
        self._at += header.size
        segment.promised = -1
        if frame[place : place + 4] == b"VBRI":
            segment.promised = int.from_bytes(frame[place + 14 : place + 18], "big")
            return
        flags, place = frame[place + 7], place + 8
        if flags & 1:
            segment.promised = int.from_bytes(frame[place : place + 4], "big")
        place += 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
        lame = frame[place : place + 24]
        if header.layer == 3 and len(lame) == 24 and lame[0]:
            delays = int.from_bytes(lame[21:24], "big")
            segment.skip = (delays >> 12) + DECODER_DELAY
            segment.drop = max((delays & 0xFFF) - DECODER_DELAY, 0)

    def _next(self, form: tuple[int, int, int, int] | None) -> Header | None:
        """Return the header of the next whole frame, at which `_at` then is; None at the end.

        Args:
            form: that of the frame before, after which the next one of the same version, layer and rate needs no
                confirmation.
        """
        junk, zeros = 0, True
        while self._have(HEADER):
            header = header_at(self._data, self._at)
            if header and not self._have(header.size):
                header = None  # the last frame is cut off, or this is not a frame
            if header and ((header.form == form and not junk) or self._confirmed(header)):
                if junk and not zeros:
                    self._skipped(junk)
                return header
            skipped = self._skip_tag_or_junk()
            junk += len(skipped)
            zeros = zeros and not skipped.strip(b"\0")
        # a frame that is cut off is shorter
        if junk > 2048 and not zeros:
            self._skipped(junk)
        return None

    def _skipped(self, junk: int) -> None:
        if not self.junk:
            self.first = self.time
        self.junk += junk
        self.places += 1

    def _confirmed(self, header: Header) -> bool:
        """Return whether frames of the same version, layer and rate follow, or the source ends after them."""
        at = header.size
        for _ in range(CONFIRMED - 1):
            if not self._have(at + HEADER):
                return len(self._data) == self._at + at or self._data[self._at + at : self._at + at + 3] == b"TAG"
            following = header_at(self._data, self._at + at)
            if following is None:
                return self._tag_size(at) > 0
            if following.form[:3] != header.form[:3]:
                return False
            at += following.size
        return True

    def _skip_tag_or_junk(self) -> bytes:
        """Advance to the next possible frame or tag; return the junk before it."""
        size = self._tag_size(0)
        if size:
            self._skip(size)
            return b""
        place = self._at
        found = [self._data.find(start, place + 1) for start in (b"\xff", b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")]
        self._at = min((at for at in found if at >= 0), default=max(len(self._data) - 10, place + 1))
        return self._data[place : self._at]

    def _tag_size(self, at: int) -> int:
        """Return the bytes of the tag at a position; 0 if there is none."""
        self._have(at + 32)
        head = self._data[self._at + at : self._at + at + 32]
        if head[:3] == b"TAG":
            return 128
        if head[:8] == b"APETAGEX" and len(head) == 32:
            # the size excludes the footer, which may be all that exists; for a header, the bytes follow it
            return 32 + int.from_bytes(head[12:16], "little") if head[23] & 0x20 else 32
        return id3_size(head)

    def _have(self, size: int) -> bool:
        """Read ahead until `_data` holds `size` unconsumed bytes; return whether there are that many."""
        missing = self._at + size - len(self._data)
        if missing > 0:
            if self._at > AHEAD:
                self._data, self._at = self._data[self._at :], 0
            while missing > 0 and (more := self._reader.read(max(missing, AHEAD), 1)):
                self._data += more
                missing -= len(more)
        return missing <= 0

    def _skip(self, size: int) -> None:
        here = min(size, len(self._data) - self._at)
        self._at += here
        self._reader.skip(size - here)


def _tag_at(frame: bytes, header: Header) -> int:
    """Return the offset of the Xing, Info or VBRI tag in a frame; 0 if it has none."""
    if header.layer == AAC:
        return 0
    if frame[36:40] == b"VBRI":
        return 36
    place = (36 if header.channels == 2 else 21) if header.version == 1 else (21 if header.channels == 2 else 13)
    return place if frame[place : place + 4] in (b"Xing", b"Info") else 0


def has_frames(head: bytes) -> bool:
    """Return whether those bytes contain consecutive frames."""
    at = -1
    while (at := head.find(b"\xff", at + 1)) >= 0:
        place, first = at, header_at(head, at)
        header = first
        for _ in range(CONFIRMED):
            if header is None or first is None or header.form[:3] != first.form[:3]:
                break
            place += header.size
            header = header_at(head, place)
        else:
            return True
    return False


def is_mpeg(reader: Reader) -> bool:
    """Return whether MPEG audio begins at the next byte; peek at no more bytes than necessary."""
    at = 0
    first = header_at(reader.peek(HEADER))
    for _ in range(CONFIRMED):
        head = reader.peek(at + HEADER)
        header = header_at(head, at)
        if header is None or first is None or header.form[:3] != first.form[:3]:
            # one frame or two, followed by nothing but a tag
            return at > 0 and (len(head) <= at or head[at : at + 3] in (b"TAG", b"APE"))
        at += header.size
    return True
