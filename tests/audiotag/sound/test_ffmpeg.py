"""Sound that libsndfile can't read, through PyAV."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from audiotag.errors import AudioError
from audiotag.sound import audio, ffmpeg
from audiotag.sound.ffmpeg import Container

av = pytest.importorskip("av")

RATE = 44100


def tone(seconds: float = 1.0, channels: int = 2) -> np.ndarray:
    """Return (frames, channels) float32 with another pitch in each channel."""
    time = np.arange(int(RATE * seconds)) / RATE
    return np.stack([0.3 * np.sin(2 * np.pi * 440 * (c + 1) * time) for c in range(channels)], 1).astype(np.float32)


def encoded(samples: np.ndarray, container: str, codec: str, layout: str = "stereo", picture: bool = False) -> bytes:
    """Return samples in a file, perhaps with a video track before them."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        if picture:
            video = out.add_stream("mpeg4", rate=5)
            video.width = video.height = 64
        track = out.add_stream(codec, rate=RATE if codec != "libopus" else 48000, layout=layout)
        if picture:
            for _ in range(5):
                out.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            out.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt", layout=layout)
        frame.sample_rate = RATE
        resampler = av.AudioResampler(track.format, layout, track.rate, frame_size=track.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(track.encode(part))
        out.mux(track.encode(None))
    return file.getvalue()


FILES = {
    "aac in m4a": ("mp4", "aac", False),
    "lossless in m4a": ("mp4", "alac", False),
    "opus in webm": ("webm", "libopus", False),
    "AC-3 in matroska": ("matroska", "ac3", False),
    "aac stream": ("adts", "aac", False),
    "video": ("mp4", "aac", True),
}


@pytest.mark.parametrize("case", FILES)
def test_sounds_like_the_original(case: str) -> None:
    container, codec, picture = FILES[case]
    sound = tone()
    heard = audio.read(encoded(sound, container, codec, picture=picture))
    expected = audio.read(sound, RATE)
    # encoders add silence at both ends; the sound between is found by its best match
    assert abs(len(heard) - len(expected)) < 4800
    middle = expected[8000:24000]
    fit = np.correlate(heard, middle, "valid") / np.dot(middle, middle)
    assert fit.max() == pytest.approx(1, abs=0.03)


def test_lossless_to_the_bit() -> None:
    sound = np.round(tone() * 32768) / 32768
    container = Container(io.BytesIO(encoded(sound, "mp4", "alac")), "x", [])
    rates, blocks = zip(*container.blocks())
    heard = np.concatenate(blocks)
    assert set(rates) == {RATE}
    np.testing.assert_array_equal(heard[: len(sound)], sound.astype(np.float32))


def test_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    path.write_bytes(encoded(tone(), "webm", "libopus"))
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        np.testing.assert_array_equal(audio.read(cat.stdout), audio.read(path))


def test_no_audio_track() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        video = out.add_stream("mpeg4", rate=5)
        video.width = video.height = 64
        out.mux([*video.encode(av.VideoFrame(64, 64, "yuv420p")), *video.encode(None)])
    with pytest.raises(AudioError, match="no audio track"):
        audio.read(file.getvalue())


def test_playlists_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.aac").write_bytes(encoded(tone(), "adts", "aac"))
    playlists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.aac\n#EXT-X-ENDLIST\n",
        "list.txt": "ffconcat version 1.0\nfile secret.aac\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError, match="not sound in a format"):
            audio.read(tmp_path / name)


@pytest.mark.parametrize("case", FILES)
def test_damaged_files_give_errors_or_sound(case: str) -> None:
    container, codec, picture = FILES[case]
    data = encoded(tone(0.3), container, codec, picture=picture)
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(data[: rng.integers(1, len(data) + 1)])
        for at in rng.integers(0, len(damaged), rng.integers(1, 20)):
            damaged[at] = rng.integers(256)
        with suppress(AudioError):
            assert np.isfinite(audio.read(bytes(damaged), notes=[])).all()


def test_a_folder_has_them_and_their_absence_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "clip.m4a").write_bytes(encoded(tone(), "mp4", "aac"))
    program = "import sys; sys.modules['av'] = None; from audiotag.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, "tag", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'tinyonnx[formats]'" in done.stderr
    assert "Traceback" not in done.stderr


def leaping(times: int) -> bytes:
    """Return a second of sound whose time stamps leap by 20 s, several times."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        track = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for part in range(times + 1):
            frame = av.AudioFrame.from_ndarray(np.ones((1, RATE // 10), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, part * 20 * RATE
            out.mux(track.encode(frame))
    return file.getvalue()


def test_leaps_of_time_stamps_do_not_add_up_without_end(monkeypatch):
    monkeypatch.setattr(ffmpeg, "_LONGEST_GAP", 50.0)
    assert abs(len(audio.read(leaping(2), notes=[])) / audio.SAMPLE_RATE - 40.1) < 0.1
    with pytest.raises(AudioError, match=r"its time stamps leap from 40\.10 s to 60\.00 s"):
        audio.read(leaping(3), notes=[])
