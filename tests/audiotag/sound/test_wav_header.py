"""WAV headers with wrong lengths, and bytes after the samples."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotag import AudioError
from audiotag.sound import audio, wav_header
from audiotag.sound.reader import Reader
from tests.audiotag.standalone.decoding import Decoder

RATE = 32000


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def fmt(code: int = 1, bits: int = 16, align: int = 2, channels: int = 1) -> bytes:
    return struct.pack("<HHIIHH", code, channels, RATE, RATE * align, align, bits)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


SAMPLES = (np.random.default_rng(0).standard_normal(RATE) * 3000).astype("<i2")
DATA, HEAD = SAMPLES.tobytes(), chunk(b"fmt ", fmt())
WHOLE = SAMPLES / np.float32(32768)
LIST = chunk(b"LIST", b"INFO" + bytes(3))

ENDS_EARLY, GOES_ON = 4, 2
"""Warnings of the executable."""


class Unseekable:
    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def check(content: bytes, expected: np.ndarray | None, warning: str = "", unread: bool = False) -> None:
    """Check that the package, from a file and a pipe, and the executable read these samples, with this warning.

    With `unread` the package also warns of bytes that it leaves out.
    """
    for source in (content, Unseekable(content)):
        notes: list[str] = []
        if expected is None:
            with pytest.raises(AudioError, match="has no samples"):
                audio.read(source, notes=notes)
        else:
            np.testing.assert_array_equal(audio.read(source, notes=notes), expected)
            assert "; ".join(notes) == warning or (unread and "left out" in "; ".join(notes))
    for piece in (777, 1 << 20):
        decoder = Decoder()
        problem, samples = decoder(content, piece)
        if expected is None:
            assert problem == "has no samples"
            continue
        assert not problem
        np.testing.assert_array_equal(samples, expected)
        early, more = decoder.warnings & ENDS_EARLY, decoder.warnings & GOES_ON
        assert (bool(early), bool(more)) == ("ends early" in warning, "more samples" in warning)


@pytest.mark.parametrize("name", wav_header.UNSIZED_CHUNKS)
def test_an_empty_data_chunk_before_another_chunk(name: bytes) -> None:
    for size in (4, 5000):
        check(riff(HEAD, chunk(b"data", b""), chunk(name, b"\1" * size)), None)
        # even if the length of the file was never written
        check(riff(HEAD, chunk(b"data", b""), chunk(name, b"\1" * size), size=0), None)


def test_an_empty_data_chunk_before_a_chunk_that_nobody_knows() -> None:
    check(riff(HEAD, chunk(b"data", b""), chunk(b"qwer", DATA)), None)


@pytest.mark.parametrize("size", [0, 0x7FFF0000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("outer", [0, 36, 0xFFFFFFFF])
def test_a_header_that_was_never_finished(size: int, outer: int) -> None:
    check(riff(HEAD, chunk(b"data", DATA, size), size=outer), WHOLE)


def test_chunks_around_and_between_samples() -> None:
    check(riff(LIST, HEAD, LIST, chunk(b"data", DATA), LIST, LIST), WHOLE)
    halves = chunk(b"data", DATA[:20_000]) + LIST + chunk(b"data", DATA[20_000:])
    check(riff(HEAD, halves, LIST), WHOLE)
    # half a frame belongs to no sample
    odd = chunk(b"data", DATA[:20_001]) + LIST + chunk(b"data", DATA[20_000:])
    check(riff(HEAD, odd), WHOLE)


def test_a_length_that_is_too_great() -> None:
    warning = "ends early: its header promises 2.00 s, 1.00 s are there"
    check(riff(HEAD, chunk(b"data", DATA, 2 * len(DATA))), WHOLE, warning)
    warning = "ends early: its header promises 1.50 s, 1.00 s are there"
    check(
        riff(HEAD, chunk(b"data", DATA[: len(DATA) // 2]), chunk(b"data", DATA[len(DATA) // 2 :], 2 * RATE)),
        WHOLE,
        warning,
    )


def test_a_length_that_is_too_small() -> None:
    warning = "has more samples than the 0.25 s that its header counts"
    check(riff(HEAD, chunk(b"data", DATA, len(DATA) // 4), size=36 + len(DATA) // 4), WHOLE, warning)


@pytest.mark.parametrize("behind", [bytes(512), bytes(100_000), b"\n", b"TAG" + bytes(range(125)), LIST, b"junk" * 500])
def test_what_is_behind_the_samples(behind: bytes) -> None:
    check(riff(HEAD, chunk(b"data", DATA)) + behind, WHOLE)


def test_junk_that_is_left_out_is_said() -> None:
    notes: list[str] = []
    np.testing.assert_array_equal(
        audio.read(riff(HEAD, chunk(b"data", DATA), LIST) + bytes(5000) + b"\1" * 5000, notes=notes), WHOLE
    )
    assert notes == ["10000 bytes behind its samples are left out: its header does not count them"]


@pytest.mark.parametrize("counted", [8320, 8321])
@pytest.mark.parametrize("silence", [4000, 5000, 40_000, 150_000])
def test_sound_goes_on_after_silence(counted: int, silence: int) -> None:
    """Behind the samples that the header counts there is silence, then sound; the count may end within a frame."""
    data = DATA[:7998] + bytes(4 + silence) + DATA[7998:]
    content = riff(HEAD, chunk(b"data", data, counted), size=36 + counted)
    expected = np.frombuffer(data, "<i2") / np.float32(32768)
    check(content, expected, "has more samples than the 0.13 s that its header counts")
    # silence before a chunk, a tag or the end is none of the sound
    for behind in (b"", LIST, b"TAG" + bytes(5000) + b"1", b"\1" * 3000):
        check(riff(HEAD, chunk(b"data", DATA)) + bytes(silence + 4000) + behind, WHOLE, unread=bool(behind))


@pytest.mark.parametrize("extensible", [False, True])
def test_samples_of_24_bits_in_four_bytes(extensible: bool) -> None:
    wide = SAMPLES.astype("<i4") << 16
    guid = struct.pack("<IHH", 1, 0, 0x10) + bytes.fromhex("800000aa00389b71")
    form = fmt(0xFFFE, 32, 4) + struct.pack("<HHI", 22, 24, 0) + guid if extensible else fmt(1, 24, 4)
    check(riff(chunk(b"fmt ", form), chunk(b"data", wide.tobytes())), WHOLE)


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
def test_g711(subtype: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, WHOLE, RATE, format="WAV", subtype=subtype)
    file.seek(0)
    np.testing.assert_array_equal(audio.read(file.getvalue()), soundfile.read(file, dtype="float32")[0])


def test_lengths_modulo_4_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of more than 4 GiB, which is silent from the byte on at which its length ends."""
    monkeypatch.setattr(wav_header, "WRAP", 1 << 26)  # reading 4 GiB takes seconds
    total = wav_header.WRAP + 64_000
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(riff(HEAD, chunk(b"data", b"", total % wav_header.WRAP), size=(total + 36) % wav_header.WRAP))
        file.write(b"\1" * 64_000)
        file.seek(44 + total - 50_000)
        file.write(b"\1" * 50_000)
        file.seek(44 + total)
        file.write(LIST)
    notes: list[str] = []
    with open(path, "rb") as file:
        reader = Reader(file)
        header = wav_header.read_wav_header(reader)
        assert header is not None
        sizes = [run.silence + reader.skip(run.size) for run in wav_header.runs(reader, header, notes)]
    # behind silence there are as many bytes as the file has
    assert sizes == [64_000, wav_header.WRAP + len(LIST)]
    assert notes == ["has more samples than the 1.00 s that its header counts"]
