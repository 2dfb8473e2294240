"""Sound in: a file, bytes, a file object, a pipe or an array becomes mono float32 at the models' rate.

Decoding, averaging the channels and resampling (in this order) go block by block, so that
memory does not grow with the clip; resampling in blocks gives the same bits as in one go.
Samples are float32 with full scale 1.0.

What is there of a clip is read: a WAV, Ogg or MP3 file that ends early gives a shorter
clip, as their headers promise nothing that could be relied on; FLAC's do, and a truncated
one is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soxr

from audiotag.errors import AudioError
from audiotag.features.mel import DEFAULT
from audiotag.sound.decode import BLOCK, as_float, open_blocks, reason
from audiotag.sound.ffmpeg import SUFFIXES as CONTAINER_SUFFIXES

if TYPE_CHECKING:
    from tinyonnx.ir import Array

    Source = str | os.PathLike[str] | bytes | IO[bytes] | Array

SAMPLE_RATE = DEFAULT.sample_rate
MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Sample rates that sound has, in Hz: from telegraph-grade to ultrasound recorders."""

MAX_CHANNELS = 1024
MAX_PEAK = 1e9
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
    source: Source, rate: float | None = None, *, raw: RawFormat | None = None, name: str | None = None
) -> Iterator[Array]:
    """Mono blocks (n,) float32 at 32 kHz.

    Args:
        source: a path, the bytes of a file, a binary file object (a pipe, too), or an array of
            samples, (frames,) or (frames, channels); integers are scaled to full scale 1.0.
        rate: sample rate of an array in Hz; for nothing else.
        raw: says that a file object has samples without a header.
        name: what errors call the source, by default its path.

    Raises:
        AudioError: the source can't be read, is no sound, ends early, has no samples or impossible ones.
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
            blocks, rate = open_blocks(source, name, stack)
            _checked_rate(rate, name)
        mono = _mono(blocks, name)
        yield from _resample(mono if isinstance(source, np.ndarray) else _some(mono, name), rate)


def read(source: Source, rate: float | None = None, *, raw: RawFormat | None = None, name: str | None = None) -> Array:
    """The whole clip, (n,) mono float32 at 32 kHz; see `stream`."""
    blocks = list(stream(source, rate, raw=raw, name=name))
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)


def _checked_rate(rate: float | None, name: str) -> float:
    if rate is None:
        raise AudioError(name, "an array needs its sample rate (rate=)")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(name, f"sample rate {rate} Hz is not in {MIN_RATE}..{MAX_RATE} Hz")
    return rate


def _some(blocks: Iterator[Array], name: str) -> Iterator[Array]:
    """Refuse a file without samples, such as a download that was cut off: a network hears things in nothing, too."""
    found = False
    for block in blocks:
        found = found or len(block) > 0
        yield block
    if not found:
        raise AudioError(name, "has no samples")


def _mono(blocks: Iterator[Array], name: str) -> Iterator[Array]:
    """Average the channels of (n, channels) blocks and refuse what is no sound."""
    for block in blocks:
        with np.errstate(invalid="ignore", over="ignore"):
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


def _resample(blocks: Iterator[Array], rate: float) -> Iterator[Array]:
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
        yield as_float(samples[start : start + step], name)


def _raw_blocks(file: Any, raw: RawFormat, name: str) -> Iterator[Array]:
    dtype = RAW_ENCODINGS.get(raw.encoding)
    if dtype is None or not 1 <= raw.channels <= MAX_CHANNELS:
        raise AudioError(name, f"no such raw format: {raw.encoding} with {raw.channels} channels")
    frame = dtype.itemsize * raw.channels
    rest, total = b"", 0
    read = getattr(file, "read1", file.read)  # what is there, without waiting for more
    while data := _read(read, max(frame, BLOCK * dtype.itemsize), name):
        total += len(data)
        data = rest + data
        whole = len(data) // frame * frame
        rest = data[whole:]
        yield as_float(np.frombuffer(data[:whole], dtype).reshape(-1, raw.channels), name)
    if not total:
        raise AudioError(name, "is empty")
    if rest:
        raise AudioError(
            name, f"{total} bytes are no whole number of {frame}-byte frames: another --raw or --channels?"
        )


def _read(read: Callable[[int], Any], size: int, name: str) -> bytes:
    try:
        data = read(size)
    except (OSError, ValueError) as error:
        raise AudioError(name, reason(error)) from None
    if not isinstance(data, (bytes, bytearray)):
        raise AudioError(name, "is not a binary file object")
    return bytes(data)
