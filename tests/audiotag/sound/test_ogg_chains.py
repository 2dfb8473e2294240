"""Ogg files in which one stream follows another."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from audiotag import AudioError
from audiotag.sound import audio
from audiotag.sound.ogg_chains import links


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
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_allclose(audio.read(source), expected, atol=1e-6)


def test_links(noise):
    first, second = ogg(noise[:, 0]), ogg(noise[:, 1])
    found = links(io.BytesIO(first + second + b"trailing"))
    assert [link.read() for link in found] == [first, second + b"trailing"]
    assert [link.read() for link in links(io.BytesIO(first[:-10]))] == [first[:-10]]
    assert links(io.BytesIO(b"fLaC" + first)) == links(io.BytesIO(b"")) == []


def test_streams_of_different_rates_are_an_error(noise):
    with pytest.raises(AudioError, match="Ogg stream 2 in it has 16000 Hz, those before 32000 Hz"):
        audio.read(ogg(noise[:, 0]) + ogg(noise[:, 1], 16000))


def test_a_chain_through_a_pipe_does_not_end_silently_after_its_first_stream(noise):
    samples = np.tile(noise[:, 0], 20)
    blocks = audio.stream(Pipe(ogg(samples) * 2))
    heard: list[int] = []
    with pytest.raises(AudioError, match=r"after 20\.00 s another Ogg stream follows"):
        heard.extend(map(len, blocks))
    assert sum(heard) == len(samples)
    assert len(audio.read(Pipe(ogg(samples) + b"trailing"))) == len(samples)
