"""Files of sound, and bytes, and pipes: to blocks of samples, by libsndfile or else by FFmpeg."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soundfile

from audiotag.errors import AudioError
from audiotag.sound.ffmpeg import Container
from audiotag.sound.ogg_chains import Link, links
from audiotag.sound.pipe import END, SAMPLE_BYTES, Pipe, is_live_container, is_tagless_mp3, read_wav_header, streams

if TYPE_CHECKING:
    from tinyonnx.ir import Array

BLOCK = 1 << 16
"""Values (frames x channels) decoded at a time."""

LIVE = 10
"""Pieces in a second of sound that comes through a pipe, which should not wait for more than that."""

SPOOL = 64 << 20
"""Bytes that are kept in memory of a pipe that can't be decoded as it arrives; more goes to a temporary file."""


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]  # which has no types
    """Reads straight on: soundfile would seek after each block, which a FLAC of unknown length can't."""

    guard: _Guard

    def seekable(self) -> bool:
        return False


class _Guard:
    """A file for libsndfile's callbacks, which swallow exceptions: keeps the first, Ctrl-C too, for the caller.

    libsndfile gets no file name that way, and so has to go by content: from names it would
    take noise for 8 kHz µ-law (.snd) or ADPCM (.vox).
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        try:
            return b"" if self.error else self.file.read(size)
        except BaseException as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self.file.seek(offset, whence)
        except BaseException as error:
            self.error = self.error or error
            return -1

    def tell(self) -> int:
        return END if self.error else self.file.tell()

    def seekable(self) -> bool:
        return self.file.seekable()

    def check(self) -> None:
        error, self.error = self.error, None
        try:
            if error:
                raise error
        finally:
            # the error knows this frame: a circle would keep the decoder, and the resampler complains at exit
            del error


_OPENING = (soundfile.SoundFileError, OSError, TypeError, ValueError)
"""What soundfile raises where it can't open a file."""


def open_blocks(source: Any, name: str, stack: ExitStack) -> tuple[Iterator[Array], int]:
    """Sound of a file, in blocks, and its rate: by libsndfile, or by FFmpeg what that doesn't know.

    Args:
        source: a path, the bytes of a file, or a binary file object.
        name: what errors call it.
        stack: closes what is opened.

    Returns:
        Blocks (frames, channels) float32 of full scale 1.0, and frames in a second.

    Raises:
        AudioError: it can't be read or is no sound; iterating raises it, too.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        if path is not None:
            if path.is_dir():
                raise AudioError(name, "is a directory")
            source = stack.enter_context(path.open("rb", buffering=0))
        elif isinstance(source, (bytes, bytearray, memoryview)):
            source = io.BytesIO(source)
        file, options = _decodable(source, path is not None, name, stack)
        if not isinstance(file, Pipe) and len(chain := links(file)) > 1:
            return _open_chain(chain, name, stack)
        file.seek(0)
        if isinstance(file, Pipe) and is_live_container(file):
            return _open_container(file, name, stack)
    except (OSError, ValueError) as error:
        raise AudioError(name, reason(error)) from None
    guard = _Guard(file)
    try:
        opened = _sound_file(guard, options)
    except _OPENING as error:
        _raise_io_error(guard, name)
        if getattr(error, "error_string", None) in _UNKNOWN and not (path and _needs_name(path, file)):
            return _open_container(guard.file, name, stack)
        try:
            opened = _again(guard, path, options, error)
        except _OPENING as again:
            _raise_io_error(guard, name)
            raise AudioError(name, reason(again)) from None
    opened.guard = guard
    stack.enter_context(opened)
    if isinstance(guard.file, Pipe):
        guard.file.opened(whole=opened.format not in _PACKED)
    return _file_blocks(opened, name), opened.samplerate


def _open_chain(chain: list[Link], name: str, stack: ExitStack) -> tuple[Iterator[Array], int]:
    """Sound of Ogg files that lie one after the other in a file."""
    first, rate = open_blocks(chain[0], name, stack)

    def blocks() -> Iterator[Array]:
        yield from first
        for number, link in enumerate(chain[1:], 2):
            with ExitStack() as inner:
                following, its_rate = open_blocks(link, name, inner)
                if its_rate != rate:
                    raise AudioError(name, f"Ogg stream {number} in it has {its_rate} Hz, those before {rate} Hz")
                yield from following

    return blocks(), rate


def _decodable(file: Any, named: bool, name: str, stack: ExitStack) -> tuple[Any, dict[str, Any]]:
    """What libsndfile can read, and what it must be told about it."""
    seekable = hasattr(file, "seekable") and file.seekable() and file.tell() == 0
    pipe = Pipe(file)
    if not pipe.peek(1):
        raise AudioError(name, "is empty")
    samples = read_wav_header(pipe)
    if samples is not None and (samples.size is None or not seekable):
        pipe.begin(samples.size)
        pipe.opened(whole=True)
        form = {"format": "RAW", "subtype": samples.subtype, "endian": "LITTLE"}
        return pipe, {**form, "samplerate": samples.rate, "channels": samples.channels}
    pipe.seek(0)
    if seekable and (named or not is_tagless_mp3(pipe)):
        return file, {}
    return pipe if streams(pipe) or is_live_container(pipe) else _spool(pipe, name, stack), {}


def _sound_file(guard: _Guard, options: dict[str, Any]) -> _SoundFile:
    # from a file of its own libsndfile reads by itself; not by name either, see _Guard
    if isinstance(guard.file, io.FileIO):
        return _SoundFile(guard.file.fileno(), closefd=False)
    if not isinstance(guard.file, Pipe) or options:
        return _SoundFile(guard, **options)
    try:
        opened = _SoundFile(guard)
    except _OPENING:
        if not guard.file.ended:
            raise
    else:
        if not guard.file.ended:
            return opened
        opened.close()
    guard.check()
    guard.file = io.BytesIO(guard.file.content())
    return _SoundFile(guard)


def _again(guard: _Guard, path: Path | None, options: dict[str, Any], error: Exception) -> _SoundFile:
    """Another try, for what there are other ways to open; for the rest the first error stands."""
    if isinstance(guard.file, Pipe):
        guard.file.again()
        return _sound_file(guard, options)
    if path is not None and _needs_name(path, guard.file):
        return _SoundFile(path)
    raise error


def _open_container(file: Any, name: str, stack: ExitStack) -> tuple[Iterator[Array], int]:
    file.seek(0)
    if isinstance(file, Pipe):
        file.opened(whole=False)
    guard: Any = _Guard(file)
    try:
        container = Container(guard, name)
    except ImportError:
        raise AudioError(
            name,
            "is not sound in a format that libsndfile reads; for m4a, webm and video: pip install 'tinyonnx[formats]'",
        ) from None
    except AudioError:
        _raise_io_error(guard, name)
        raise
    stack.callback(container.close)
    return _guarded(container.blocks(), guard, name), container.samplerate


def _guarded(blocks: Iterator[Array], guard: _Guard, name: str) -> Iterator[Array]:
    try:
        yield from blocks
    finally:
        _raise_io_error(guard, name)


def _needs_name(path: Path, file: Any) -> bool:
    """Only a name tells Sound Designer files, which have a second file beside them, and MP3 after junk."""
    suffix = path.suffix.lower()
    if suffix != ".mp3" or isinstance(file, Pipe):
        return suffix == ".sd2"
    file.seek(0)
    head = file.read(SPOOL >> 10)
    return any(bytes([0xFF, b]) in head for b in (0xFA, 0xFB, 0xF2, 0xF3))


def _spool(pipe: Pipe, name: str, stack: ExitStack) -> IO[bytes]:
    """Copy a pipe to where libsndfile can seek."""
    pipe.opened(whole=True)
    spool: Any = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL))  # noqa: SIM115  the stack closes it
    checked = False
    while data := pipe.read(1 << 20):
        spool.write(data)
        if not checked and spool.tell() > SPOOL // 2:
            checked = True
            _refuse_noise(spool, name)
    result: IO[bytes] = spool
    return result


def _refuse_noise(spool: Any, name: str) -> None:
    """Raise AudioError if that is nothing that sound begins with: a pipe may fill the disk with it."""
    end = spool.tell()
    spool.seek(0)
    movie = spool.read(8)[4:] == b"ftyp"  # may have what FFmpeg wants to see first at its end
    spool.seek(0)
    if not movie:
        with ExitStack() as stack:
            open_blocks(spool, name, stack)
    spool.seek(end)


_PACKED = frozenset(("FLAC", "OGG", "MP3"))
"""Formats that are read in pieces of any size."""

_PLAIN = frozenset(("WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC", "RAW"))
_INTEGERS = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32"}
"""Formats and subtypes whose integers we make floats of: libsndfile takes eight times as long."""


def _file_blocks(file: _SoundFile, name: str) -> Iterator[Array]:
    pipe = file.guard.file if isinstance(file.guard.file, Pipe) else None
    most = max(1, BLOCK // file.channels)
    few = size = min(most, file.samplerate // LIVE + 1) if pipe else most
    dtype = _INTEGERS.get(file.subtype, "float32") if file.format in _PLAIN else "float32"
    total, ended = 0, False
    while not ended:
        if file.format == "RAW" and pipe is not None:
            size = max(few, min(pipe.waiting() // (SAMPLE_BYTES[file.subtype] * file.channels), most))
        try:
            if pipe is not None and file.format == "MP3":
                block, ended = _mp3_block(file, pipe, size)
            else:
                block = file.read(size, dtype=dtype, always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(
                name, f"damaged or truncated after {total / file.samplerate:.2f} s: {reason(error)}"
            ) from None
        finally:
            _raise_io_error(file.guard, name)
        if not len(block):
            break
        total += len(block)
        yield as_float(block, name)
    promised = file.frames
    if file.format == "OGG" and pipe is not None and b"OggS" in pipe.read(BLOCK):
        problem = "another Ogg stream follows, and of a pipe only the first is read"
        raise AudioError(name, f"after {total / file.samplerate:.2f} s {problem}")
    if file.format == "FLAC" and total < promised < np.iinfo(np.int64).max:
        raise AudioError(name, f"truncated: {total} of {promised} frames are there")


def _mp3_block(file: _SoundFile, pipe: Pipe, size: int) -> tuple[Array, bool]:
    """The next block, and whether it is the last since the file ends within a frame: libsndfile takes that ill."""
    block = np.full((size, file.channels), np.nan, np.float32)
    try:
        return file.read(out=block), False
    except soundfile.SoundFileError:
        block = block[~np.isnan(block[:, 0])]
        if not pipe.ended or not len(block):
            raise
        return block, True


def _raise_io_error(guard: _Guard, name: str) -> None:
    try:
        guard.check()
    except (OSError, ValueError) as error:
        raise AudioError(name, reason(error)) from None


_UNKNOWN = ("Format not recognised.", "File contains data in an unimplemented format.")

_REASONS = {
    "Internal error : SF_INFO struct incomplete.": "its header gives no valid sample rate (0 Hz?) or channels",
    "File does not exist or is not a regular file (possibly a pipe?).": "has no sound that could be decoded",
    "System error.": "can't be read",
}


def reason(error: Exception) -> str:
    """What an exception says, in words for users."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return _REASONS.get(text, text)


def as_float(samples: Array, name: str) -> Array:
    """Samples of any type as float32 of full scale 1.0. Raises AudioError."""
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32, copy=False)
    if kind == "i" or (kind == "u" and size == 1):
        full_scale = 2.0 ** (8 * size - 1)
        # powers of two: nothing is rounded but an integer that float32 can't hold
        scaled: Array = np.multiply(samples, np.float32(1 / full_scale), dtype=np.float32, casting="same_kind")
        return scaled - np.float32(1) if kind == "u" else scaled
    raise AudioError(name, f"samples of type {samples.dtype}: expected floats or signed integers")
