"""Ogg files in which one stream follows another."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
import soundfile

from audiotag.sound import audio
from audiotag.sound.ogg_chains import Chain
from audiotag.sound.reader import Reader


def ogg(samples: np.ndarray, rate: int = 32000, subtype: str = "VORBIS") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="OGG", subtype=subtype)
    return file.getvalue()


class Pipe:
    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 32000), ("OPUS", 48000)])
def test_all_of_a_chain_is_heard(subtype, rate, noise, tmp_path):
    parts = [ogg(noise[:20000, :2], rate, subtype), ogg(noise[:, 2], rate, subtype), ogg(noise[:500, 3], rate, subtype)]
    path = tmp_path / "chain.ogg"
    path.write_bytes(b"".join(parts))
    decoded = [soundfile.read(io.BytesIO(part), dtype="float32", always_2d=True)[0].mean(axis=1) for part in parts]
    expected = audio.read(np.concatenate(decoded), rate)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes()), Pipe(path.read_bytes())):
        np.testing.assert_allclose(audio.read(source), expected, atol=1e-6)


def links(content: bytes) -> list[bytes]:
    return [b"".join(iter(partial(link.pull, 1000), b"")) for link in Chain(Reader(io.BytesIO(content))).links()]


def test_links(noise):
    first, second = ogg(noise[:, 0]), ogg(noise[:, 1])
    assert links(first + second + b"trailing") == [first, second]
    assert links(first + b"junk" + second) == [first, second]
    (cut,) = links(first[:-10])
    assert first.startswith(cut)


def test_streams_of_different_rates_follow_each_other(noise):
    both = audio.read(ogg(noise[:, 0]) + ogg(noise[:, 1], 16000))
    np.testing.assert_array_equal(
        both, np.concatenate([audio.read(ogg(noise[:, 0])), audio.read(ogg(noise[:, 1], 16000))])
    )


def test_pages_that_are_missing_are_said(noise):
    content = ogg(np.tile(noise[:, 0], 20))
    pages = [b"OggS" + page for page in content.split(b"OggS")[1:]]
    assert len(pages) > 10
    notes: list[str] = []
    heard = audio.read(b"".join(pages[:5] + pages[8:]), notes=notes)
    assert len(heard) < 19 * 32000
    assert "of 20.00 s of an Ogg stream could be decoded; 3 pages are missing" in notes[0]


def test_an_ogg_that_is_cut_off_says_so(noise):
    content = ogg(np.tile(noise[:, 0], 20))
    for part in (content[: len(content) // 2], content[: content.rindex(b"OggS")]):
        for source in (part, Pipe(part)):
            notes: list[str] = []
            assert 5 * 32000 < len(audio.read(source, notes=notes)) < 20 * 32000
            assert any("it may be cut off" in note for note in notes)
