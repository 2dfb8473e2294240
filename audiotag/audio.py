"""Sound in: a file, bytes, a file object, a pipe or an array becomes mono float32 at the models' rate.

Decoding, averaging the channels and resampling (in this order) go block by block, so that
memory does not grow with the clip; resampling in blocks gives the same bits as in one go.
Samples are float32 with full scale 1.0.

What is there of a clip is read: a WAV, Ogg or MP3 file that ends early gives a shorter
clip, as their headers promise nothing that could be relied on; FLAC's do, and a truncated
one is an error.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from audiotag.containers import SUFFIXES as CONTAINER_SUFFIXES
from audiotag.containers import Container
from audiotag.errors import AudioError
from audiotag.mel import DEFAULT

if TYPE_CHECKING:
    from tinyonnx.ir import Array

    Source = str | os.PathLike[str] | bytes | IO[bytes] | Array

SAMPLE_RATE = DEFAULT.sample_rate
MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Sample rates that sound has, in Hz: from telegraph-grade to ultrasound recorders."""

MAX_CHANNELS = 1024
MAX_PEAK = 1e9
BLOCK = 1 << 16
"""Values (frames x channels) decoded at a time."""

SPOOL = 64 << 20
"""Bytes of a pipe that are kept in memory; more goes to a temporary file."""

SUFFIXES = CONTAINER_SUFFIXES | frozenset(
    f".{suffix}"
    for suffix in (
        *("wav", "wave", "bwf", "rf64", "w64", "flac", "ogg", "oga", "opus", "mp3", "mp2", "mp1"),
        *("aif", "aiff", "aifc", "caf", "au", "snd", "avr", "iff", "8svx", "svx", "16svx", "htk", "paf", "pvf"),
        *("sd2", "sds", "sf", "ircam", "voc", "nist", "sph", "wve", "xi"),
    )
)
"""File names that are taken for sound when a folder is searched (Matlab's .mat and .mpc mean too much else)."""

RAW_ENCODINGS: dict[str, np.dtype[Any]] = {"f32le": np.dtype("<f4"), "s16le": np.dtype("<i2")}


@dataclass(frozen=True)
class RawFormat:
    """Headerless samples: encoding ("f32le" or "s16le"), rate in Hz, interleaved channels."""

    encoding: str
    rate: int
    channels: int = 1


def name_of(source: Source) -> str:
    """What to call a source in messages and results."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


def stream(
    source: Source, rate: int | None = None, *, raw: RawFormat | None = None, name: str | None = None
) -> Iterator[Array]:
    """Mono blocks (n,) float32 at 32 kHz.

    Args:
        source: a path, the bytes of a file, a binary file object (a pipe, too), or an array of
            samples, (frames,) or (frames, channels); integers are scaled to full scale 1.0.
        rate: sample rate of an array in Hz; for nothing else.
        raw: says that a file object has samples without a header.
        name: what errors call the source, by default its path.

    Raises:
        AudioError: the source can't be read, is no sound, ends early or has impossible samples.
    """
    name = name_of(source) if name is None else name
    with ExitStack() as stack:
        if isinstance(source, np.ndarray):
            blocks, rate = _array_blocks(source, name), _checked_rate(rate, name)
        elif not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) and not hasattr(source, "read"):
            raise AudioError(name, f"a {type(source).__name__} is no path, bytes, file object or numpy array")
        elif rate is not None:
            raise AudioError(name, "rate= is for arrays only: a file says its own")
        elif raw is not None:
            if not hasattr(source, "read"):
                raise AudioError(name, "headerless samples are read from file objects only")
            blocks, rate = _raw_blocks(source, raw, name), _checked_rate(raw.rate, name)
        else:
            blocks, rate = _open(source, name, stack)
            _checked_rate(rate, name)
        yield from _resample(_mono(blocks, name), rate)


def read(source: Source, rate: int | None = None, *, raw: RawFormat | None = None, name: str | None = None) -> Array:
    """The whole clip, (n,) mono float32 at 32 kHz; see `stream`."""
    blocks = list(stream(source, rate, raw=raw, name=name))
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)


def _checked_rate(rate: int | None, name: str) -> int:
    if rate is None:
        raise AudioError(name, "an array needs its sample rate (rate=)")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(name, f"sample rate {rate} Hz is not in {MIN_RATE}..{MAX_RATE} Hz")
    return rate


def _mono(blocks: Iterator[Array], name: str) -> Iterator[Array]:
    """Average the channels of (n, channels) blocks and refuse what is no sound."""
    for block in blocks:
        mono = block[:, 0] if block.shape[1] == 1 else _average(block)
        # written so that NaN fails it
        if len(mono) and not max(mono.max(), -mono.min()) <= MAX_PEAK:
            raise AudioError(name, "has NaN, infinite or absurdly large samples")
        yield mono


def _average(block: Array) -> Array:
    """The mean of each row, as numpy computes it, but column by column: it is slow along short rows."""
    if block.shape[1] >= 8:
        wide: Array = block.mean(axis=1, dtype=np.float32)
        return wide
    mean: Array = block[:, 0].copy()
    for channel in range(1, block.shape[1]):
        mean += block[:, channel]
    mean /= np.float32(block.shape[1])
    return mean


def _resample(blocks: Iterator[Array], rate: int) -> Iterator[Array]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


# -- arrays and headerless samples ------------------------------------------------------


def _array_blocks(samples: Array, name: str) -> Iterator[Array]:
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS):
        raise AudioError(name, f"array of shape {samples.shape}: expected (frames,) or (frames, channels)")
    samples = samples[:, None] if samples.ndim == 1 else samples
    step = max(1, BLOCK // samples.shape[1])
    for start in range(0, len(samples), step):
        yield _as_float(samples[start : start + step], name)


def _as_float(samples: Array, name: str) -> Array:
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


def _raw_blocks(file: Any, raw: RawFormat, name: str) -> Iterator[Array]:
    dtype = RAW_ENCODINGS.get(raw.encoding)
    if dtype is None or not 1 <= raw.channels <= MAX_CHANNELS:
        raise AudioError(name, f"no such raw format: {raw.encoding} with {raw.channels} channels")
    frame = dtype.itemsize * raw.channels
    rest, total = b"", 0
    while data := _read(file, max(frame, BLOCK * dtype.itemsize), name):
        total += len(data)
        data = rest + data
        whole = len(data) // frame * frame
        rest = data[whole:]
        yield _as_float(np.frombuffer(data[:whole], dtype).reshape(-1, raw.channels), name)
    if not total:
        raise AudioError(name, "is empty")
    if rest:
        raise AudioError(
            name, f"{total} bytes are no whole number of {frame}-byte frames: another --raw or --channels?"
        )


def _read(file: Any, size: int, name: str) -> bytes:
    try:
        data = file.read(size)
    except (OSError, ValueError) as error:
        raise AudioError(name, _reason(error)) from None
    if not isinstance(data, (bytes, bytearray)):
        raise AudioError(name, "is not a binary file object")
    return bytes(data)


# -- files ------------------------------------------------------------------------------


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
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
        return self.file.tell()

    def check(self) -> None:
        if self.error:
            raise self.error


def _open(source: Any, name: str, stack: ExitStack) -> tuple[Iterator[Array], int]:
    """Blocks of a file and their rate: by libsndfile, or by FFmpeg what that doesn't know."""
    try:
        path = None
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            if path.is_dir():
                raise AudioError(name, "is a directory")
            file: IO[bytes] = stack.enter_context(path.open("rb", buffering=0))
            if not file.seekable():
                file = _spool(file, name, stack)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            file = io.BytesIO(source)
        elif hasattr(source, "read"):
            file = _spool(source, name, stack)
        else:
            raise AudioError(name, f"{type(source).__name__} is no path, bytes, binary file object or array")
        head = file.read(SPOOL >> 10)
        file.seek(0)
    except (OSError, ValueError) as error:
        raise AudioError(name, _reason(error)) from None
    if not head:
        raise AudioError(name, "is empty")
    guard = _Guard(file)
    try:
        # from a file of its own libsndfile reads by itself; not by name either, see _Guard
        opened = _SoundFile(file.fileno(), closefd=False) if isinstance(file, io.FileIO) else _SoundFile(guard)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        guard.check()
        if path is not None and _needs_name(path, head):
            try:
                opened = _SoundFile(path)
            except (soundfile.SoundFileError, OSError, TypeError, ValueError) as again:
                raise AudioError(name, _reason(again)) from None
        elif getattr(error, "error_string", None) in _UNKNOWN:
            return _open_container(file, name, stack)
        else:
            raise AudioError(name, _reason(error)) from None
    opened.guard = guard
    stack.enter_context(opened)
    return _file_blocks(opened, name), opened.samplerate


def _open_container(file: IO[bytes], name: str, stack: ExitStack) -> tuple[Iterator[Array], int]:
    file.seek(0)
    try:
        container = Container(file, name)
    except ImportError:
        raise AudioError(
            name,
            "is not sound in a format that libsndfile reads; for m4a, webm and video: pip install 'audiotag[formats]'",
        ) from None
    stack.callback(container.close)
    return container.blocks(), container.samplerate


def _needs_name(path: Path, head: bytes) -> bool:
    """Only a name tells Sound Designer files, which have a second file beside them, and MP3 after junk."""
    suffix = path.suffix.lower()
    return suffix == ".sd2" or (suffix == ".mp3" and any(bytes([0xFF, b]) in head for b in (0xFA, 0xFB, 0xF2, 0xF3)))


def _spool(file: Any, name: str, stack: ExitStack) -> IO[bytes]:
    """Copy what may be a pipe to where libsndfile can seek."""
    spool: Any = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL))  # noqa: SIM115
    while data := _read(file, 1 << 20, name):
        spool.write(data)
    spool.seek(0)
    result: IO[bytes] = spool
    return result


_PLAIN = frozenset(("WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC"))
_INTEGERS = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32"}
"""Formats and subtypes whose integers we make floats of: libsndfile takes eight times as long."""


def _file_blocks(file: _SoundFile, name: str) -> Iterator[Array]:
    size = max(1, BLOCK // file.channels)
    dtype = _INTEGERS.get(file.subtype, "float32") if file.format in _PLAIN else "float32"
    total = 0
    while True:
        try:
            block = file.read(size, dtype=dtype, always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(
                name, f"damaged or truncated after {total / file.samplerate:.2f} s: {_reason(error)}"
            ) from None
        finally:
            _raise_io_error(file.guard, name)
        if not len(block):
            break
        total += len(block)
        yield _as_float(block, name)
    promised = file.frames
    if file.format == "FLAC" and total < promised < np.iinfo(np.int64).max:
        raise AudioError(name, f"truncated: {total} of {promised} frames are there")


def _raise_io_error(guard: _Guard, name: str) -> None:
    try:
        guard.check()
    except (OSError, ValueError) as error:
        raise AudioError(name, _reason(error)) from None


_UNKNOWN = ("Format not recognised.", "File contains data in an unimplemented format.")

_REASONS = {
    "Internal error : SF_INFO struct incomplete.": "its header gives no valid sample rate (0 Hz?) or channels",
    "File does not exist or is not a regular file (possibly a pipe?).": "has no sound that could be decoded",
    "System error.": "can't be read",
}


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return _REASONS.get(text, text)
