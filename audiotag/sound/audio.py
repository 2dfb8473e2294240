"""Read sound: a file, bytes, a file object, a pipe or an array becomes mono float32 at the rate of a model.

Decoding, mixing the channels and resampling (in this order) go block by block, so that memory does not grow with the
clip; resampling in blocks gives the same bits as in one go. Samples are float32 with full scale 1.0.

Everything in a clip is read, and the decoded length is compared with the length that the source holds or declares: a
shortfall is a note or an error, on every route alike.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from audiotag.errors import AudioError, AudioWarning, printable, reason
from audiotag.features.mel import DEFAULT
from audiotag.sound.channels import Mixer
from audiotag.sound.decode import open_blocks
from audiotag.sound.ffmpeg import SUFFIXES as CONTAINER_SUFFIXES
from audiotag.sound.pcm import BLOCK, as_float

if TYPE_CHECKING:
    from tinyonnx.ir import Array

    Source = str | os.PathLike[str] | bytes | IO[bytes] | Array

SAMPLE_RATE = DEFAULT.rate
MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Range of sample rates in Hz, from telegraph-grade sound to ultrasound recorders."""

MAX_CHANNELS = 1024
SUFFIXES = CONTAINER_SUFFIXES | frozenset(
    f".{suffix}"
    for suffix in (
        *("wav", "wave", "bwf", "rf64", "w64", "flac", "ogg", "oga", "opus", "mp3", "mp2", "mp1"),
        *("aif", "aiff", "aifc", "caf", "au", "snd", "avr", "iff", "8svx", "svx", "16svx", "htk", "paf", "pvf"),
        *("sd2", "sds", "sf", "ircam", "voc", "nist", "sph", "wve", "xi"),
    )
)
"""Suffixes of files that count as sound when a folder is searched.

Matlab's .mat and .mpc have too many other meanings.
"""

RAW_ENCODINGS: dict[str, np.dtype[Any]] = {"f32le": np.dtype("<f4"), "s16le": np.dtype("<i2")}


@dataclass(frozen=True)
class RawFormat:
    """Headerless samples: encoding ("f32le" or "s16le"), rate in Hz, interleaved channels."""

    encoding: str
    rate: int
    channels: int = 1


def name_of(source: Source) -> str:
    """Return the name of a source in messages and results."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


def is_live(source: Source) -> bool:
    """Return whether sound is still being produced, from a pipe or a device, and may never end."""
    if isinstance(source, (str, os.PathLike)):
        return os.path.exists(source) and not os.path.isfile(source)
    return hasattr(source, "read") and not (hasattr(source, "seekable") and source.seekable())


def stream(
    source: Source,
    rate: float | None = None,
    *,
    raw: RawFormat | None = None,
    name: str | None = None,
    channel: str | int = "mean",
    notes: list[str] | None = None,
    target: int = SAMPLE_RATE,
) -> Iterator[Array]:
    """Yield mono blocks (n,) float32 at the rate `target`, by default 32 kHz.

    Args:
        source: a path, the bytes of a file, a binary file object (a pipe, too), or an array of
            samples, (frames,) or (frames, channels); integers are scaled to full scale 1.0.
        rate: sample rate of an array in Hz; for nothing else.
        raw: format of a file object that holds samples without a header.
        name: name of the source in errors, by default its path.
        channel: which of several channels, see `audiotag.sound.channels.Mixer`.
        notes: takes messages about sound that is missing or can't be right; without it they are `AudioWarning`s.
        target: the rate in Hz to which the sound is resampled.

    Raises:
        AudioError: the source can't be read, is not sound, ends early, or has no samples or impossible ones.
    """
    name = name_of(source) if name is None else name
    found: list[str] = [] if notes is None else notes
    mixer = Mixer(channel, name, found)
    with ExitStack() as stack:
        blocks: Iterator[tuple[int, Array]]
        if isinstance(source, np.ndarray):
            blocks = _array_blocks(source, rate, name)
        elif not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) and not hasattr(source, "read"):
            raise AudioError(name, f"a {type(source).__name__} is not a path, bytes, file object or numpy array")
        elif rate is not None:
            raise AudioError(name, "rate= is for arrays only: a file states its own")
        elif raw is not None:
            if not hasattr(source, "read"):
                raise AudioError(name, "headerless samples are read from file objects only")
            blocks = _raw_blocks(source, raw, name)
        else:
            blocks = open_blocks(source, name, stack, found)
        yield from _resample(mixer.mono(_some(blocks, name)), name, target)
    if notes is None:
        for note in found:
            warnings.warn(AudioWarning(f"{printable(name)}: {note}"), stacklevel=2)


def read(
    source: Source,
    rate: float | None = None,
    *,
    raw: RawFormat | None = None,
    name: str | None = None,
    channel: str | int = "mean",
    notes: list[str] | None = None,
    target: int = SAMPLE_RATE,
) -> Array:
    """Return the whole clip, (n,) mono float32 at the rate `target`; see `stream`."""
    blocks = list(stream(source, rate, raw=raw, name=name, channel=channel, notes=notes, target=target))
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)


def _checked_rate(rate: float | None, name: str) -> float:
    if rate is None:
        raise AudioError(name, "an array needs its sample rate (rate=)")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(name, f"sample rate {rate} Hz is not in {MIN_RATE}..{MAX_RATE} Hz")
    return rate


def _some(blocks: Iterator[tuple[int, Array]], name: str) -> Iterator[tuple[int, Array]]:
    """Refuse sound without samples, such as a truncated download; a model would score an empty input, too."""
    found = False
    for rate, block in blocks:
        found = found or len(block) > 0
        yield rate, block
    if not found:
        raise AudioError(name, "has no samples")


def _resample(blocks: Iterator[tuple[int, Array]], name: str, target: int) -> Iterator[Array]:
    """Resample blocks to the rate `target`; after a change of their rate, resampling starts anew."""
    resampler, last = None, 0.0
    for rate, block in blocks:
        if rate != last:
            _checked_rate(rate, name)
            if resampler:
                yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
            resampler, last = None, rate
            if rate != target:
                import soxr

                resampler = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(np.ascontiguousarray(block)) if resampler else block
    if resampler:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


# -- arrays and headerless samples ------------------------------------------------------


def _array_blocks(samples: Array, rate: float | None, name: str) -> Iterator[tuple[Any, Array]]:
    rate = _checked_rate(rate, name)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS):
        raise AudioError(name, f"array of shape {samples.shape}: expected (frames,) or (frames, channels)")
    samples = samples[:, None] if samples.ndim == 1 else samples
    step = max(1, BLOCK // samples.shape[1])
    for start in range(0, len(samples), step):
        yield rate, as_float(samples[start : start + step], name)


def _raw_blocks(file: Any, raw: RawFormat, name: str) -> Iterator[tuple[int, Array]]:
    dtype = RAW_ENCODINGS.get(raw.encoding)
    if dtype is None or not 1 <= raw.channels <= MAX_CHANNELS:
        raise AudioError(name, f"no such raw format: {raw.encoding} with {raw.channels} channels")
    frame = dtype.itemsize * raw.channels
    rest, total = b"", 0
    read = getattr(file, "read1", file.read)  # return the available bytes without waiting for more
    while data := _read(read, max(frame, BLOCK * dtype.itemsize), name):
        total += len(data)
        data = rest + data
        whole = len(data) // frame * frame
        rest = data[whole:]
        yield raw.rate, as_float(np.frombuffer(data[:whole], dtype).reshape(-1, raw.channels), name)
    if not total:
        raise AudioError(name, "is empty")
    if rest:
        raise AudioError(
            name, f"{total} bytes are not a whole number of {frame}-byte frames: another --raw or --channels?"
        )


def _read(read: Callable[[int], Any], size: int, name: str) -> bytes:
    try:
        data = read(size)
    except (OSError, ValueError) as error:
        raise AudioError(name, reason(error)) from None
    if not isinstance(data, (bytes, bytearray)):
        raise AudioError(name, "is not a binary file object")
    return bytes(data)
