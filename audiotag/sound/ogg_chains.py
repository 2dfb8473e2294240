"""Ogg files as chains of streams, page by page, because libsndfile reads the first stream only.

Source: RFC 3533.
"""

from __future__ import annotations

from collections.abc import Iterator

from audiotag.sound.reader import AHEAD, Reader

MARKER = b"OggS"
_HEADER = 27
"""Bytes of a page before its table of segments."""

_BEGINS, _ENDS = 2, 4
"""Flags of a page: the first, and the last one of its stream."""


class Link:
    """A stream of a chain, or several that are multiplexed: `pull` gives its pages to a decoder.

    Attributes:
        codec: "opus", "vorbis" or "" for others.
        first: granule position of the first page that has one and sound, -1 before there is one; `last` that of the
            last such page.
        skip: samples of an Opus stream that precede the sound.
        lost: pages that are missing according to their numbers.
        ended: whether a page said to be the last one has passed.
        cut: whether the source ends within a page.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._rest = b""
        self.codec = ""
        self.first = self.last = -1
        self.skip = self.lost = 0
        self.ended = self.cut = False
        self._numbers: dict[bytes, int] = {}

    def pull(self, size: int) -> bytes:
        """Return at most `size` bytes; b"" at the end of the stream."""
        while not self._rest and (page := self._chain.page(self)):
            self._rest = page
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def note(self, page: bytes) -> None:
        """Register a page that is passed on."""
        flags, serial = page[5], page[14:18]
        number, body = int.from_bytes(page[18:22], "little"), page[_HEADER + page[26] :]
        if flags & _BEGINS:
            if body[:8] == b"OpusHead":
                self.codec, self.skip = "opus", int.from_bytes(body[10:12], "little")
            elif body[:7] == b"\1vorbis":
                self.codec = "vorbis"
        elif serial in self._numbers:
            self.lost += max(number - self._numbers[serial] - 1, 0)
        self._numbers[serial] = number
        granule = int.from_bytes(page[6:14], "little", signed=True)
        if granule > 0:
            self.first = granule if self.first < 0 else self.first
            self.last = granule
        self.ended = self.ended or bool(flags & _ENDS)


class Chain:
    """The streams of an Ogg file one after the other.

    Attributes:
        junk: bytes between pages that belong to none.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._buffer, self._at = b"", 0
        self._began = False
        self._more = True
        self.junk = 0

    def links(self) -> Iterator[Link]:
        """Yield the streams; each one must be read to its end before the iterator is advanced."""
        while self._more:
            self._began, link = False, Link(self)
            yield link
            while link.pull(AHEAD):
                pass

    def page(self, link: Link) -> bytes:
        """Return the next page of a link; b"" at its end."""
        size = self._find(link)
        page = self._buffer[self._at : self._at + size]
        if size:
            begins = bool(page[5] & _BEGINS)
            # streams that are multiplexed begin together
            if begins and self._began:
                return b""
            self._began = self._began or not begins
            self._at += size
            link.note(page)
        return page

    def _find(self, link: Link) -> int:
        """Advance to the next page and return its size; 0 at the end."""
        junk = 0
        while True:
            self._have(_HEADER)
            place = self._buffer.find(MARKER, self._at)
            if place != self._at:
                # a marker may be cut off at the end of the buffer
                following = place if place >= 0 else max(len(self._buffer) - 3, self._at)
                junk += following - self._at
                self._at = following
                if place < 0 and not self._have(_HEADER):
                    self._more = False
                    return 0
                continue
            if not self._have(_HEADER):
                link.cut, self._more = True, False
                return 0
            count = self._buffer[self._at + 26]
            self._have(_HEADER + count)
            table = self._at + _HEADER
            size = _HEADER + count + sum(self._buffer[table : table + count])
            if self._have(size):
                self.junk += junk
                return size
            if (place := self._buffer.find(MARKER, self._at + 4)) < 0:
                link.cut, self._more = True, False
                return 0
            junk += place - self._at
            self._at = place

    def _have(self, size: int) -> bool:
        """Read ahead until the buffer holds `size` unconsumed bytes; return whether there are that many."""
        while len(self._buffer) - self._at < size and (data := self._reader.read(AHEAD, 1)):
            self._buffer = self._buffer[self._at :] + data
            self._at = 0
        return len(self._buffer) - self._at >= size
