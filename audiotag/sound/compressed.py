"""Decode FLAC, Ogg, MPEG audio and all formats that only libsndfile or FFmpeg reads.

MPEG audio, FLAC and Ogg are split into frames and pages here (`mpeg`, `flac`, `ogg_chains`) and decoded by libsndfile.
Containers that FFmpeg can read sequentially are decoded by `ffmpeg`, everything else by libsndfile from a seekable
file, or else by FFmpeg.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soundfile

from audiotag.errors import AudioError, reason
from audiotag.sound import flac, mpeg, ogg_chains, pcm_headers, wav_header
from audiotag.sound.feed import Feed, KeepsError
from audiotag.sound.ffmpeg import HINT, Container
from audiotag.sound.id3 import id3_size
from audiotag.sound.pcm import BLOCK, ENDS_EARLY, LIVE, as_float
from audiotag.sound.promises import Promise
from audiotag.sound.reader import Reader

if TYPE_CHECKING:
    from tinyonnx.ir import Array

    Blocks = Iterator[tuple[int, Array]]

SPOOL = 64 << 20
"""Bytes of a pipe that are kept in memory if it can't be decoded sequentially; more go to a temporary file."""

_CONTAINERS = (b"\x1aE\xdf\xa3", b"FLV", b"G@")
"""First bytes of files that FFmpeg reads sequentially: Matroska and WebM, FLV, MPEG transport streams."""

_OTHERS = (b"RIFF", b"OggS", b"\x1aE\xdf\xa3", b"FLV", b"\0\0\1\xba", b"0&\xb2u", b"wvpk", b"MAC ", b"TTA1")
"""First bytes of containers that may hold MPEG frames somewhere, but are not read frame by frame."""

_EMPTY_ID3 = b"ID3\x04" + bytes(5) + b"\x20" + bytes(32)
"""An empty tag that makes libsndfile open the following bytes as MPEG audio, which it does not always recognise."""

_LARGEST_FILE = 1 << 43
"""Positions beyond this, to which damaged lengths lead, exist in no file."""

_SHORTFALL = 0.1
"""Seconds by which a compressed stream may be shorter than its positions indicate."""


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]  # which has no types
    """Reads sequentially; soundfile would seek after each block, which streams can't."""

    def seekable(self) -> bool:
        return False


class _Guard(KeepsError):
    """A file from a position on, or a function that returns the next bytes, for decoders; it keeps the first exception.

    libsndfile gets no file name that way, so it has to decide by content: by name it would take noise for 8 kHz µ-law
    (.snd) or ADPCM (.vox).
    """

    def __init__(self, file: IO[bytes], start: int = 0) -> None:
        self._file = file
        self._start = start
        self._failed = False

    def read(self, size: int) -> bytes:
        try:
            return b"" if self._error else self._file.read(size)
        except BaseException as error:
            self._error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            self._failed = offset >= _LARGEST_FILE
            if self._failed:  # the system refuses such a position, bytes in memory don't
                return -1
            return self._file.seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start
        except (OSError, ValueError):  # damaged files lead to positions that don't exist
            self._failed = True
            return -1
        except BaseException as error:
            self._error = self._error or error
            return -1

    def tell(self) -> int:
        return -1 if self._error or self._failed else self._file.tell() - self._start

    def seekable(self) -> bool:
        return self._file.seekable()


class _Stream:
    """A function that returns the next bytes, as a file that can't seek, for FFmpeg's callbacks; see `_Guard`."""

    def __init__(self, pull: Callable[[int], bytes]) -> None:
        self._guard = _Guard(type("", (), {"read": staticmethod(pull)})())
        self.read, self.check = self._guard.read, self._guard.check


_OPENING = (soundfile.SoundFileError, OSError, TypeError, ValueError)
"""Exceptions of soundfile for a file that it can't open."""


def blocks(reader: Reader, path: Path | None, name: str, stack: ExitStack, notes: list[str]) -> Blocks:
    """Decode a source after its ID3v2 tags; see `decode.open_blocks`, which reads uncompressed samples."""
    try:
        yield from _streamed(reader, name, stack, notes) or _seekable(reader, path, name, stack, notes)
    except flac.SegmentError as error:
        raise AudioError(name, str(error)) from None


def _streamed(reader: Reader, name: str, stack: ExitStack, notes: list[str]) -> Blocks | None:
    """Return the blocks of a format that is read sequentially; None for other formats."""
    head = reader.peek(12)
    blocks: Blocks
    if head[:4] in (*wav_header.MARKERS, *pcm_headers.MARKERS):
        return None
    if head[:4] == ogg_chains.MARKER:
        return _ogg(reader, name, stack, notes)
    if head[:4] == flac.MARKER:
        blocks = _flac(reader, name, notes)
    elif mpeg.is_mpeg(reader):
        blocks = _mpeg(reader, name, stack, notes)
    elif head.startswith(_CONTAINERS):
        reader.rewind()
        try:
            blocks = _ffmpeg(_Stream(lambda size: reader.read(size, 1)), name, stack, notes)
        except AudioError:
            return None  # FFmpeg copes better with a damaged header if it can seek
    else:
        return None
    reader.commit()
    return blocks


# -- formats that are taken apart --------------------------------------------------------


def _mpeg(reader: Reader, name: str, stack: ExitStack, notes: list[str]) -> Blocks:
    frames = mpeg.MpegFrames(reader)
    found = promised = there = 0.0
    for segment in frames.segments():
        total = 0.0
        if segment.form[1] == mpeg.AAC:
            blocks = _ffmpeg(_Stream(segment.pull), name, stack, notes, format="aac")
        else:
            decoded = _decoded(Feed(_after(_EMPTY_ID3, segment.pull), tag=True), name, reader.seekable, frames.time)
            blocks = ((segment.rate, block) for block in _trimmed(decoded, segment.skip, segment.drop))
        for rate, block in blocks:
            total += len(block) / rate
            yield rate, block
        found += total
        held = segment.frames * segment.samples
        lost = (held - segment.skip - segment.drop) / segment.rate - total
        if lost > _SHORTFALL:
            notes.append(f"{lost:.2f} s of {held / segment.rate:.2f} s of MPEG audio could not be decoded")
        there += segment.frames * segment.samples / segment.rate
        promised += max(segment.promised or 0, segment.frames) * segment.samples / segment.rate
    if not found:
        raise AudioError(name, "has no sound that could be decoded")
    if there < promised - _SHORTFALL:
        notes.append(ENDS_EARLY.format(promised, there))
    if frames.junk:
        places = f"{frames.places} places, the first one after" if frames.places > 1 else "one place, after"
        notes.append(f"{frames.junk} bytes are not MPEG audio, in {places} {frames.first:.2f} s: sound may be missing")


def _after(prefix: bytes, pull: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return a function like `pull` that first returns other bytes."""
    rest = prefix

    def pull_both(size: int) -> bytes:
        nonlocal rest
        data, rest = rest[:size], rest[size:]
        return data or pull(size)

    return pull_both


def _trimmed(blocks: Iterator[Array], skip: int, drop: int) -> Iterator[Array]:
    """Yield blocks without the first `skip` and the last `drop` frames."""
    kept: list[Array] = []
    waiting = 0
    for block in blocks:
        skipped = min(skip, len(block))
        skip -= skipped
        block = block[skipped:]
        if not drop:
            yield block
            continue
        kept.append(block)
        waiting += len(block)
        while waiting - len(kept[0]) >= drop:
            waiting -= len(kept[0])
            yield kept.pop(0)
    if drop and waiting > drop:
        yield np.concatenate(kept)[: waiting - drop]


def _flac(reader: Reader, name: str, notes: list[str]) -> Blocks:
    before = 0.0
    for segment in flac.segments(reader):
        more, promised = segment.grow(0), 0
        while more:
            total, direct = 0, segment.direct
            feed: Any = None
            file: Any = None
            if direct:
                feed, file = _Guard(reader.file), _opened_file(reader)
                direct = file is not None
            if not direct:
                feed = Feed(segment.pull)
                file = _opened(feed, name)
            with file:
                size = _size(file, reader.seekable)
                dtype = _INTEGERS.get(file.subtype, "float32")
                while segment.grow(total):
                    time = before + total / file.samplerate
                    block = _read(file, feed, min(size, segment.known - total), dtype, name, time)
                    if not len(block):
                        break
                    old = max(segment.skip - total, 0)
                    total += len(block)
                    yield file.samplerate, as_float(block[old:], name)
            if direct:
                segment.decoded()
            if total < segment.known:
                raise AudioError(name, f"truncated: {total} of {segment.known} frames are there")
            total -= segment.skip
            promised += total
            if segment.gap:
                time = before + segment.gap_at / segment.rate
                notes.append(f"{segment.gap / segment.rate:.2f} s are missing after {time:.2f} s")
            before += total / segment.rate
            more = segment.look_behind()
        if promised < segment.promised:
            raise AudioError(name, f"truncated: {promised} of {segment.promised} frames are there")


def _ogg(reader: Reader, name: str, stack: ExitStack, notes: list[str]) -> Blocks:
    chain = ogg_chains.Chain(reader)
    before = 0.0
    link = None
    for number, link in enumerate(chain.links()):
        feed = Feed(link.pull)
        try:
            file = _SoundFile(feed)
        except _OPENING as error:
            feed.check()
            if number == 0:
                reader.rewind()
                yield from _ffmpeg(_Stream(lambda size: reader.read(size, 1)), name, stack, notes, error)
                return
            raise AudioError(name, f"Ogg stream {number + 1} in it, after {before:.2f} s: {reason(error)}") from None
        reader.commit()
        feed.opened()
        total = 0
        with file:
            size, rate = _size(file, reader.seekable), file.samplerate
            while len(block := _read(file, feed, size, "float32", name, before + total / rate)):
                total += len(block)
                yield rate, as_float(block, name)
        clock = 48000 if link.codec == "opus" else rate
        # streams that were cut out of others don't start at 0
        held = (link.last - (link.skip if link.first < 5 * clock else link.first)) / clock
        if link.codec and link.last >= 0 and held - total / rate > _SHORTFALL:
            lost = f"; {link.lost} pages are missing" if link.lost else ""
            notes.append(f"{total / rate:.2f} s of {held:.2f} s of an Ogg stream could be decoded{lost}")
        before += total / rate
    if link and not before:
        raise AudioError(name, "has no samples")
    if link and (link.cut or not link.ended):
        notes.append(f"ends {'within an Ogg page' if link.cut else 'without a last Ogg page'}: it may be cut off")
    if chain.junk:
        notes.append(f"{chain.junk} bytes between its Ogg pages belong to none: sound may be missing")


# -- libsndfile ---------------------------------------------------------------------------


_INTEGERS = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32"}
"""Integer subtypes that are converted to floats here, because libsndfile takes eight times as long."""

_PLAIN = frozenset(("WAV", "WAVEX", "RF64", "W64", "AIFF"))
"""Formats in which these are stored uncompressed."""


def _opened_file(reader: Reader) -> _SoundFile | None:
    """Open a file of the system for libsndfile to read directly; None if it can't open it."""
    position = reader.position
    reader.seek(0)
    try:
        return _SoundFile(reader.file.fileno(), closefd=False)
    except _OPENING:
        reader.seek(position)
        return None


def _opened(feed: Feed, name: str) -> _SoundFile:
    """Open a feed. Raises AudioError."""
    try:
        file = _SoundFile(feed)
    except _OPENING as error:
        feed.check()
        raise AudioError(name, reason(error)) from None
    feed.opened()
    return file


def _size(file: _SoundFile, seekable: bool) -> int:
    """Return the number of frames in a block."""
    most = max(1, BLOCK // int(file.channels))
    return most if seekable else min(most, int(file.samplerate) // LIVE + 1)


def _read(file: _SoundFile, source: Any, size: int, dtype: str, name: str, time: float) -> Array:
    """Return the next block, empty at the end. Raises AudioError."""
    try:
        block: Array = file.read(size, dtype=dtype, always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(name, f"damaged or truncated after {time:.2f} s: {reason(error)}") from None
    finally:
        source.check()
    return block


def _decoded(feed: Feed, name: str, seekable: bool, time: float) -> Iterator[Array]:
    """Yield all blocks, float32, of a feed that begins at that time."""
    with _opened(feed, name) as file:
        size, rate, total = _size(file, seekable), file.samplerate, 0
        while len(block := _read(file, feed, size, "float32", name, time + total / rate)):
            total += len(block)
            yield block


def _seekable(reader: Reader, path: Path | None, name: str, stack: ExitStack, notes: list[str]) -> Blocks:
    """Return the blocks of a source that libsndfile or FFmpeg can't read sequentially."""
    reader.rewind()
    file = reader.file if reader.seekable else _spool(reader, name, stack)
    return _open_file(file, path, name, stack, notes)


def _tags_size(file: IO[bytes]) -> int:
    """Count the bytes of the ID3v2 tags at the beginning of the file."""
    total = 0
    while True:
        file.seek(total)
        size = id3_size(file.read(10))
        if not size:
            return total
        total += size


def _open_file(file: IO[bytes], path: Path | None, name: str, stack: ExitStack, notes: list[str]) -> Blocks:
    # libsndfile skips a tag by itself, but then compares lengths with that of the whole file
    start = _tags_size(file)
    file.seek(start)
    guard = _Guard(file, start)
    try:
        # given a descriptor, libsndfile reads without callbacks; a name would mislead it, see _Guard
        plain = isinstance(file, io.FileIO) and not start
        opened = _SoundFile(file.fileno(), closefd=False) if plain else _SoundFile(guard)
    except _OPENING as error:
        guard.check()
        if path is not None and path.suffix.lower() == ".sd2":
            # the format of Sound Designer files is in a second file, which is found by the name of the first one
            return _file_blocks(stack.enter_context(_SoundFile(path)), guard, name, notes)
        file.seek(start)
        head = file.read(mpeg.SEARCHED)
        if mpeg.has_frames(head) and not head.startswith(_OTHERS) and head[4:8] != b"ftyp":
            file.seek(start)
            return _mpeg(Reader(file), name, stack, notes)
        file.seek(start)
        return _ffmpeg(guard, name, stack, notes, error)
    return _file_blocks(stack.enter_context(opened), guard, name, notes)


def _file_blocks(file: _SoundFile, guard: _Guard, name: str, notes: list[str]) -> Blocks:
    promise = Promise(file, guard)
    size, rate, total = _size(file, True), file.samplerate, 0
    dtype = _INTEGERS.get(file.subtype, "float32") if file.format in _PLAIN else "float32"
    while len(block := _read(file, guard, size, dtype, name, total / rate)):
        total += len(block)
        yield rate, as_float(block, name)
    lost = promise.shortfall(total)
    if lost:
        notes.append(lost)


def _spool(reader: Reader, name: str, stack: ExitStack) -> IO[bytes]:
    """Copy a pipe to memory or a temporary file, in which decoders can seek."""
    reader.commit()
    spool: Any = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL))  # noqa: SIM115  the stack closes it
    checked = False
    while data := reader.read(1 << 20):
        spool.write(data)
        if not checked and spool.tell() > SPOOL // 2:
            checked = True
            _refuse_noise(spool, name)
    result: IO[bytes] = spool
    return result


def _refuse_noise(spool: Any, name: str) -> None:
    """Raise AudioError if the first part of a pipe is not the beginning of a sound file, before it fills the disk."""
    end = spool.tell()
    spool.seek(0)
    movie = spool.read(8)[4:] == b"ftyp"  # the index, which FFmpeg needs first, may be at the end
    if not movie:
        with ExitStack() as stack:
            _open_file(spool, None, name, stack, [])
    spool.seek(end)


# -- FFmpeg -------------------------------------------------------------------------------


def _ffmpeg(
    guard: Any, name: str, stack: ExitStack, notes: list[str], error: Exception | None = None, format: str | None = None
) -> Blocks:
    """Return the blocks of a `_Guard` or `_Stream`; `error` is libsndfile's error. Raises AudioError.

    `format` is FFmpeg's name of the format, if it is known.
    """
    known = error is not None and getattr(error, "error_string", None) not in _UNKNOWN
    try:
        container = Container(guard, name, notes, format)
    except ImportError:
        cause = reason(error) if known and error else "is not sound in a format that libsndfile reads"
        raise AudioError(name, f"{cause.rstrip('.')}; {HINT}") from None
    except AudioError:
        guard.check()
        if known and error:
            raise AudioError(name, reason(error)) from None
        raise
    stack.callback(container.close)
    cause = reason(error) if known and error else ""
    # a format chunk that is "malformed" may describe a codec that FFmpeg knows
    if cause.startswith(_DAMAGED) and "'fmt ' chunk" not in cause:
        notes.append(f"it may be cut off or damaged: libsndfile says {cause.rstrip('.')}")
    return _guarded(container.blocks(), guard)


def _guarded(blocks: Blocks, guard: Any) -> Blocks:
    try:
        yield from blocks
    finally:
        guard.check()


_UNKNOWN = ("Format not recognised.", "File contains data in an unimplemented format.")

_DAMAGED = "Error in "
"""Beginnings of libsndfile's messages about damaged files whose format it recognised; other messages are guesses."""
