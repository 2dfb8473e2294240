"""Files like those that people report, one of each kind: their samples are right on every route.

The table of `../shared/cases/README.md`, as tests. Lengths are what FFmpeg decodes.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiotag import AudioError, Tagger
from audiotag.serve.analysis import AnalysisRequest, Query, analyse
from audiotag.serve.decoders import Decoders
from audiotag.sound import audio
from tests.audiotag.standalone.decoding import Decoder

WHOLE = {
    "lq.mp3": 23.04,
    "gapmid.mp3": 4.97,
    "join_id3.mp3": 10.06,
    "xing_few.mp3": 5.00,
    "abr_loudfirst.mp3": 10.08,
    "id3v1real.flac": 5.00,
    "zeros512.flac": 5.00,
    "flac_lenshort.flac": 5.00,
    "two_data.wav": 5.00,
}
"""Duration in seconds of each file that libsndfile decodes."""

WITH_FFMPEG = {
    "mp4.mp3": 5.02,
    "aac.mp3": 5.04,
    "g722.wav": 5.00,
    "g726.wav": 5.00,
    "ac3.wav": 5.02,
    "alac.caf": 5.00,
    "oggflac.ogg": 5.00,
    "s.spx": 5.02,
    "gap.mka": 120.0,
}
EMPTY = ("guan.wav", "acid.wav", "axml.wav")


@pytest.fixture(scope="session")
def cases(shared: Path) -> Path:
    return shared / "cases/audio"


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    started = Decoders()
    started.start()
    yield started
    started.close()


class Unseekable:
    """A file object that can only be read."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def piped(content: bytes, **options: Any) -> Any:
    """Read the content through a pipe of the operating system."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as file:
        try:
            return audio.read(file, **options)
        finally:
            while file.read(1 << 20):
                pass
            thread.join()


def routes(path: Path) -> Iterator[tuple[str, Any, list[str]]]:
    """Return (name, samples, warnings) by every route into the package.

    Samples are an AudioError if that was raised.
    """
    content = path.read_bytes()
    ways: dict[str, Any] = {
        "path": lambda notes: audio.read(path, notes=notes),
        "bytes": lambda notes: audio.read(content, notes=notes),
        "file object": lambda notes: audio.read(io.BytesIO(content), notes=notes),
        "read only": lambda notes: audio.read(Unseekable(content), notes=notes),
        "pipe": lambda notes: piped(content, notes=notes),
    }
    for name, read in ways.items():
        notes: list[str] = []
        try:
            yield name, read(notes), notes
        except AudioError as error:
            yield name, error, notes


@pytest.mark.parametrize("name", [*WHOLE, *WITH_FFMPEG])
def test_a_file_is_read_whole_on_every_route(cases: Path, name: str) -> None:
    if name in WITH_FFMPEG:
        pytest.importorskip("av")
    expected, seconds = audio.read(cases / name, notes=[]), {**WHOLE, **WITH_FFMPEG}[name]
    assert len(expected) / audio.SAMPLE_RATE == pytest.approx(seconds, abs=0.1)
    for route, samples, notes in routes(cases / name):
        assert isinstance(samples, np.ndarray), (route, samples)
        np.testing.assert_array_equal(samples, expected, route)
        assert len(notes) == (name in ("gapmid.mp3", "gap.mka")), (route, notes)


@pytest.mark.parametrize("name", [*WHOLE, *WITH_FFMPEG])
def test_it_sounds_as_ffmpeg_decodes_it(cases: Path, name: str) -> None:
    av = pytest.importorskip("av")
    if name in ("abr_loudfirst.mp3", "gap.mka", "join_id3.mp3", "two_data.wav", "gapmid.mp3"):
        pytest.skip("FFmpeg alone reads that otherwise")
    with av.open(cases / name) as container:
        to_mono = av.AudioResampler(format="flt", layout="mono", rate=audio.SAMPLE_RATE)
        frames = [part for frame in container.decode(audio=0) for part in to_mono.resample(frame)]
        frames += to_mono.resample(None)
    expected = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    heard = audio.read(cases / name, notes=[])
    # decoders begin at other samples, and resamplers differ at high frequencies
    middle, around = expected[40_000:100_000], heard[37_000:103_000]
    lag = int(np.correlate(around, middle, "valid").argmax())
    assert np.corrcoef(around[lag : lag + len(middle)], middle)[0, 1] > 0.98


def test_the_warnings_say_where_and_how_much(cases: Path) -> None:
    pytest.importorskip("av")
    notes: list[str] = []
    audio.read(cases / "gapmid.mp3", notes=notes)
    assert notes == ["3000 bytes are not MPEG audio, in one place, after 1.85 s: sound may be missing"]
    notes.clear()
    heard = audio.read(cases / "gap.mka", notes=notes)
    assert notes == ["has no sound from 9.99 s to 29.99 s: silence is put there"]
    rate = audio.SAMPLE_RATE
    assert not heard[int(10.1 * rate) : int(29.9 * rate)].any()
    assert heard[int(30.1 * rate) : int(31 * rate)].any()


def test_samples_behind_a_count_that_is_too_low_join_those_before(cases: Path) -> None:
    np.testing.assert_array_equal(audio.read(cases / "flac_lenshort.flac"), audio.read(cases / "id3v1real.flac"))


@pytest.mark.parametrize("name", EMPTY)
def test_metadata_are_no_sound(cases: Path, name: str) -> None:
    for route, samples, _ in routes(cases / name):
        assert isinstance(samples, AudioError), route
        assert "has no samples" in str(samples)


@pytest.mark.parametrize("name", WITH_FFMPEG)
def test_without_ffmpeg_an_error_names_the_extra(cases: Path, name: str) -> None:
    program = (
        "import sys; sys.modules['av'] = None; from audiotag.sound import audio\n"
        "for source in (sys.argv[1], open(sys.argv[1], 'rb').read(), sys.stdin.buffer):\n"
        "    try: audio.read(source)\n"
        "    except Exception as error: print(error)"
    )
    with open(cases / name, "rb") as file:
        done = subprocess.run([sys.executable, "-c", program, cases / name], stdin=file, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("pip install 'tinyonnx[formats]'" in line for line in lines), lines


@pytest.mark.parametrize("name", [*WHOLE, *WITH_FFMPEG, *EMPTY])
def test_the_server_reads_it_as_the_command_does(cases: Path, name: str, model: str, decoders: Decoders) -> None:
    if name in WITH_FFMPEG:
        pytest.importorskip("av")
    tagger = Tagger(model)
    request = AnalysisRequest(io.BytesIO((cases / name).read_bytes()), name, Query(), 600)
    try:
        expected: Any = tagger.tag(cases / name, name=name).to_dict()
    except AudioError as error:
        with pytest.raises(AudioError, match=error.problem):
            analyse(tagger, decoders, request)
        return
    assert analyse(tagger, decoders, request).content == expected


@pytest.mark.parametrize("name", [*EMPTY, "two_data.wav"])
def test_the_executable_reads_it_as_the_package_does(cases: Path, name: str) -> None:
    problem, samples = Decoder()((cases / name).read_bytes())
    if name in EMPTY:
        assert problem == "has no samples"
    else:
        assert not problem
        assert len(samples) == len(audio.read(cases / name))


def test_decoders_do_not_write_to_the_terminal(cases: Path) -> None:
    program = (
        "import sys; from audiotag.sound import audio\nfor path in sys.argv[1:]: print(len(audio.read(path, notes=[])))"
    )
    paths = [cases / name for name in WHOLE]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == len(paths)
    assert done.stderr == ""
