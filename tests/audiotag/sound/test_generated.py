"""Hundreds of files, each a container with one kind of damage: none is read short without an error or a warning."""

from __future__ import annotations

import io
import itertools
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag import AudioError
from audiotag.sound import audio

RATE = 32000


def sound(seconds: float) -> np.ndarray:
    """Return (frames, 2) float32: a tone and noise that get louder, so that variable bit rates vary."""
    time = np.arange(int(RATE * seconds)) / RATE
    noise = np.random.default_rng(int(seconds * 10)).standard_normal(len(time)) * np.linspace(0, 0.3, len(time)) ** 2
    tone = 0.2 * np.sin(2 * np.pi * 440 * time)
    return np.stack([tone + noise, 0.8 * tone + noise], axis=1).astype(np.float32)


def by_libsndfile(format: str, subtype: str | None = None, **options: Any) -> Callable[[np.ndarray], bytes]:
    def encode(samples: np.ndarray) -> bytes:
        file = io.BytesIO()
        rate = 48000 if subtype == "OPUS" else RATE
        soundfile.write(file, samples, rate, format=format, subtype=subtype, **options)
        return file.getvalue()

    return encode


def mono(format: str, subtype: str | None = None) -> Callable[[np.ndarray], bytes]:
    """Return a sound with one channel, for formats of one channel and those that libsndfile writes to files only."""

    def encode(samples: np.ndarray) -> bytes:
        with tempfile.NamedTemporaryFile() as file:
            soundfile.write(file.name, samples[:, 0], RATE, format=format, subtype=subtype)
            return Path(file.name).read_bytes()

    return encode


def xi(samples: np.ndarray) -> bytes:
    """Return an instrument of FastTracker; libsndfile leaves the size of its sound at 0."""
    content = mono("XI", "DPCM_16")(samples)
    at = len(content) - 2 * len(samples) - 40
    return content[:at] + struct.pack("<I", 2 * len(samples)) + content[at + 4 :]


def by_ffmpeg(container: str, codec: str, **options: str) -> Callable[[np.ndarray], bytes]:
    def encode(samples: np.ndarray) -> bytes:
        av = pytest.importorskip("av")
        file = io.BytesIO()
        with av.open(file, "w", format=container, options=options) as out:
            rate = 48000 if codec == "libopus" else RATE
            track = out.add_stream(codec, rate=rate, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt")
            frame.sample_rate = rate
            resampler = av.AudioResampler(track.format, "stereo", track.rate, frame_size=track.frame_size or 1024)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(track.encode(part))
            out.mux(track.encode(None))
        return file.getvalue()

    return encode


def mp3(xing: bool) -> Callable[[np.ndarray], bytes]:
    def encode(samples: np.ndarray) -> bytes:
        content = by_libsndfile("MP3", bitrate_mode="VARIABLE")(samples)
        if not xing:
            at = max(content.find(b"Xing"), content.find(b"Info")) - 36
            return content[content.index(content[at : at + 2], at + 40) :]
        return content

    return encode


CONTAINERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "wav": by_libsndfile("WAV"),
    "wav24": by_libsndfile("WAV", "PCM_24"),
    "wavex": by_libsndfile("WAVEX", "FLOAT"),
    "rf64": by_libsndfile("RF64"),
    "aiff": by_libsndfile("AIFF"),
    "au": by_libsndfile("AU"),
    "caf": by_libsndfile("CAF", "PCM_24"),
    "w64": by_libsndfile("W64"),
    "svx": mono("SVX"),
    "flac": by_libsndfile("FLAC"),
    "vorbis": by_libsndfile("OGG"),
    "opus": by_libsndfile("OGG", "OPUS"),
    "mp3": mp3(True),
    "bare mp3": mp3(False),
    "adpcm": by_libsndfile("WAV", "IMA_ADPCM"),
    "m4a": by_ffmpeg("mp4", "aac"),
    "mka": by_ffmpeg("matroska", "ac3"),
    "webm": by_ffmpeg("webm", "libopus"),
    "adts": by_ffmpeg("adts", "aac"),
}

RARE: dict[str, Callable[[np.ndarray], bytes]] = {
    **{name: by_libsndfile(name.upper()) for name in ("avr", "mat4", "mat5", "mpc2k", "nist", "ircam", "paf", "pvf")},
    **{name: mono(name.upper()) for name in ("htk", "sds", "wve")},
    "nist alaw": by_libsndfile("NIST", "ALAW"),
    "ircam float": by_libsndfile("IRCAM", "FLOAT"),
    "paf24": by_libsndfile("PAF", "PCM_24"),
    "sds24": mono("SDS", "PCM_24"),
    "voc": by_libsndfile("VOC"),
    "voc8": by_libsndfile("VOC", "PCM_U8"),
    "xi": xi,
    "dwvw": mono("AIFF", "DWVW_16"),
    "g721": mono("AU", "G721_32"),
    "gsm": mono("W64", "GSM610"),
}
"""Formats that only libsndfile reads, or nearly."""

CONTAINERS.update(RARE)

SELF_FRAMED = ("bare mp3", "adts", "ircam", "ircam float", "paf", "paf24", "pvf")
"""Containers that don't declare their length, so that a truncated file lacks nothing that was declared."""

TAG = b"TAG" + bytes(range(33, 126)) + bytes(32)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)


def junk(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def low_count(content: bytes) -> bytes:
    """Return a third of the length in the header."""
    for name, order in ((b"data", "<"), (b"SSND", ">")):
        if content[:4] in (b"RIFF", b"FORM") and (at := content.find(name)) > 0:
            (size,) = struct.unpack_from(order + "I", content, at + 4)
            small = struct.pack(order + "I", size // 3 // 12 * 12)
            content = content[: at + 4] + small + content[at + 8 :]
            return content[:4] + struct.pack(order + "I", at + size // 3 // 12 * 12) + content[8:]
    if content[:4] == b"fLaC":
        frames = int.from_bytes(content[22:26], "big") // 3
        return content[:22] + frames.to_bytes(4, "big") + content[26:]
    at = max(content.find(b"Xing"), content.find(b"Info"))
    (frames,) = struct.unpack_from(">I", content, at + 8)
    return content[: at + 8] + struct.pack(">I", frames // 3) + content[at + 12 :]


KINDS: dict[str, tuple[Callable[[bytes], bytes], float]] = {
    "whole": (lambda x: x, 1),
    "cut off": (lambda x: x[: len(x) * 2 // 3], 1),
    "cut off early": (lambda x: x[: len(x) // 5], 1),
    "zeros behind": (lambda x: x + bytes(512), 1),
    "newline behind": (lambda x: x + b"\n", 1),
    "ID3v1 behind": (lambda x: x + TAG, 1),
    "APE behind": (lambda x: x + APE, 1),
    "junk behind": (lambda x: x + junk(3000), 1),
    "junk inside": (lambda x: x[: len(x) // 2] + junk(3000) + x[len(x) // 2 :], 1),
    "part missing": (lambda x: x[: len(x) // 2] + x[len(x) // 2 + 5000 :], 1),
    "ID3v2 before": (lambda x: b"ID3\4\0\0\0\0\0\x20" + bytes(32) + x, 1),
    "joined": (lambda x: x + x, 2),
    "low count": (low_count, 1),
}

STRICT = ("svx", "htk", "mat5", "ircam float")
"""Containers for which bytes after the sound may be an error: of other sizes, or NaN if taken for samples."""

BY_POSITION = ("wav", "wav24", "wavex", "rf64", "aiff", "au", "caf", "w64", "svx", "adpcm", *RARE)
"""Containers of samples without markers: missing or additional bytes change only the length."""

COUNTED = ("wav", "wav24", "wavex", "aiff", "flac", "mp3")


def cases() -> Iterator[tuple[str, str, float]]:
    for container, kind, seconds in itertools.product(CONTAINERS, KINDS, (0.9, 6.0)):
        if kind == "low count" and container not in COUNTED:
            continue
        if container in RARE and seconds > 1:
            continue
        if kind == "joined" and container in (*BY_POSITION, "m4a", "mka", "webm", "adts"):
            continue  # the bytes after the sound are another file, which these formats don't support
        if kind == "junk inside" and container in BY_POSITION:
            continue
        yield container, kind, seconds


@cache
def encoded(container: str, seconds: float) -> bytes:
    return CONTAINERS[container](sound(seconds))


@cache
def length(container: str, seconds: float) -> int:
    """Return samples of a file without damage."""
    return len(audio.read(encoded(container, seconds), notes=[]))


class Unseekable:
    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def read(source: Any) -> tuple[np.ndarray | None, list[str]]:
    notes: list[str] = []
    try:
        return audio.read(source, notes=notes), notes
    except AudioError as error:
        return None, [error.problem]


def test_there_are_hundreds() -> None:
    assert len(list(cases())) >= 200


@pytest.mark.parametrize(("container", "kind", "seconds"), list(cases()))
def test_nothing_is_read_short_in_silence(container: str, kind: str, seconds: float, tmp_path: Path) -> None:
    damage, times = KINDS[kind]
    whole = encoded(container, seconds)
    content = damage(whole)
    expected = times * length(container, seconds)
    samples, said = read(content)
    if kind.startswith("cut off") and container in SELF_FRAMED:
        expected = int(len(content) / len(whole) * expected * 0.5)
    if kind == "part missing" and container in SELF_FRAMED and samples is not None:
        expected = 0  # this can't be detected; frames that are cut are skipped or reported
    if samples is not None and not said:
        assert len(samples) >= expected - 0.1 * RATE, (len(samples) / RATE, expected / RATE)
    if kind in ("whole", "zeros behind", "newline behind", "ID3v1 behind", "APE behind") and container not in STRICT:
        assert samples is not None, said
        assert abs(len(samples) - expected) <= 0.1 * RATE
    if kind == "whole":
        assert samples is not None
        assert not said
    (tmp_path / "sound").write_bytes(content)
    for source in (Unseekable(content), tmp_path / "sound"):
        others = read(source)
        assert (samples is None) == (others[0] is None), (said, others[1])
        if samples is not None:
            assert others[1] == said
            np.testing.assert_array_equal(samples, others[0])


@pytest.mark.parametrize("container", ["ircam", "paf", "pvf"])
def test_sound_that_ends_within_a_sample_is_said_to(container: str) -> None:
    """Formats without a length in the header."""
    whole = encoded(container, 0.9)
    samples, said = read(whole[:-1])
    assert samples is not None
    assert said == ["ends within a sample: it may be cut off"]


@pytest.mark.parametrize("container", ["avr", "mat4", "mat5", "mpc2k", "nist", "sds"])
def test_lengths_that_libsndfile_only_logs_are_compared(container: str) -> None:
    whole = encoded(container, 0.9)
    samples, said = read(whole[: len(whole) - 12700])
    assert samples is not None
    (note,) = said
    assert note.startswith("ends early: its header promises 0.90 s, 0.")
