from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import subprocess
import threading

import numpy as np
import pytest
import soundfile
import soxr

from audiotag import AudioError
from audiotag.sound import audio, compressed

FORMATS = sorted(set(soundfile.available_formats()) - {"RAW"})


def wav(rate=32000, channels=1, frames=1000, size=None):
    data = b"\1\2" * frames * channels
    riff = 36 + (len(data) if size is None else size)
    size = len(data) if size is None else size
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels % 2**32, 2 * channels, 16)
    return (
        b"RIFF"
        + struct.pack("<I", riff % 2**32)
        + b"WAVEfmt \x10\0\0\0"
        + fmt
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def encoded(samples, rate, format="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


class Pipe:
    """Bytes that can't be sought, in pieces of odd sizes."""

    def __init__(self, content):
        self._file = io.BytesIO(content)

    def read(self, size):
        return self._file.read(min(size, 4099))


def read_pipe(content, **options):
    """Read through a real pipe of the operating system."""
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as file:
        result = audio.read(file, **options)
    thread.join()
    return result


@pytest.mark.parametrize("format", FORMATS)
def test_every_container_reads_as_libsndfile_alone_reads_it(format, tmp_path, noise):
    path = tmp_path / ("clip.sd2" if format == "SD2" else "clip")
    for channels, rate in ((2, 44100), (1, 44100), (1, 16000), (1, 8000)):
        try:
            soundfile.write(path, noise[:, :channels], rate, format=format)
            break
        except soundfile.LibsndfileError:
            continue
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    expected = soxr.resample(samples.mean(axis=1), rate, 32000)
    assert len(expected) > 10_000
    np.testing.assert_array_equal(audio.read(path), expected)
    if format != "SD2":
        content = path.read_bytes()
        np.testing.assert_array_equal(audio.read(content), expected)
        np.testing.assert_array_equal(audio.read(Pipe(content)), expected)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM", "GSM610"])
def test_wav_variants(subtype, noise):
    content = encoded(noise[:, :1], 32000, subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    np.testing.assert_array_equal(audio.read(content), expected)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("format", ["AIFF", "FLAC", "W64", "RF64", "WAVEX"])
def test_integers_of_any_width(format, subtype, noise):
    if not soundfile.check_format(format, subtype):
        pytest.skip(f"{format} has no {subtype}")
    content = encoded(noise[:, :1], 32000, format, subtype)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    np.testing.assert_array_equal(audio.read(content), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_arrays_of_integers_are_scaled_to_full_scale(dtype):
    info = np.iinfo(dtype)
    samples = np.random.default_rng(0).integers(info.min, info.max, 999, dtype, endpoint=True)
    centre, scale = (128, 128.0) if dtype == "uint8" else (0, -float(info.min))
    expected = ((samples.astype(np.float64) - centre) / scale).astype(np.float32)
    np.testing.assert_array_equal(audio.read(samples, 32000), expected)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_pipe_gives_what_the_file_gives(format, noise):
    content = encoded(noise[:, :2], 44100, format)
    np.testing.assert_array_equal(read_pipe(content), audio.read(content))


def test_opus(noise):
    content = encoded(noise[:, :1], 48000, "OGG", "OPUS")
    assert len(audio.read(content)) == pytest.approx(len(noise) * 32 / 48, abs=1)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_that_was_streamed_and_does_not_know_its_length(size):
    np.testing.assert_array_equal(read_pipe(wav(size=size)), audio.read(wav()))


def test_a_flac_that_was_streamed_and_does_not_know_its_length(noise):
    content = bytearray(encoded(noise[:, :1], 32000, "FLAC"))
    assert content[:4] == b"fLaC"
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    expected = audio.read(encoded(noise[:, :1], 32000, "FLAC"))
    np.testing.assert_array_equal(audio.read(bytes(content)), expected)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 22050, 44056, 44100, 48000, 96000, 192000, 31999])
@pytest.mark.parametrize("n", [1, 2, 100, 513, 799, 150_000])
def test_resampling_in_blocks_equals_one_go(rate, n):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    result = audio.read(x, rate)
    np.testing.assert_array_equal(result, soxr.resample(x, rate, 32000, quality="HQ"))
    assert abs(len(result) - n * 32000 / rate) < 1


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_are_averaged_before_resampling(channels, noise):
    samples = np.tile(noise[:, :channels], (4, 1))
    content = encoded(samples, 44100, subtype="FLOAT")
    expected = soxr.resample(samples.mean(axis=1), 44100, 32000)
    np.testing.assert_array_equal(audio.read(content), expected)
    np.testing.assert_array_equal(audio.read(samples, 44100), expected)


@pytest.mark.parametrize("n", [1, 2, 100, 513, 514, 799])
def test_short_files(n, noise):
    np.testing.assert_array_equal(audio.read(encoded(noise[:n, 0], 32000, subtype="FLOAT")), noise[:n, 0])


@pytest.mark.parametrize("rate", [32000, 44100])
def test_files_without_samples_are_no_sound(rate, noise):
    assert "has no samples" in fails(encoded(noise[:0, 0], rate, subtype="FLOAT"), "has no samples")
    fails(noise[:0], "has no samples", rate=rate)
    fails(io.BytesIO(b""), "is empty", raw=audio.RawFormat("s16le", rate))


@pytest.mark.parametrize(
    ("dtype", "loud", "quiet"), [("i2", -32768, 0), ("i4", -(2**31), 0), ("u1", 0, 128), ("f4", -1, 0), ("f8", -1, 0)]
)
def test_arrays_have_full_scale_one(dtype, loud, quiet):
    np.testing.assert_array_equal(audio.read(np.array([loud, quiet], dtype), 32000), [-1, 0])


def test_raw_samples(noise):
    floats = noise[:, :2].astype("<f4").tobytes()
    np.testing.assert_array_equal(
        read_pipe(floats, raw=audio.RawFormat("f32le", 44100, 2)), audio.read(noise[:, :2], 44100)
    )
    integers = (noise[:, 0] * 32768).astype("<i2")
    raw = audio.RawFormat("s16le", 32000)
    np.testing.assert_array_equal(audio.read(Pipe(integers.tobytes()), raw=raw), audio.read(integers, 32000))


def test_the_blocks_of_a_long_clip_are_small():
    sizes = [len(block) for block in audio.stream(np.zeros((1_000_000, 2), np.float32), 32000)]
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= audio.BLOCK


# -- bad input --------------------------------------------------------------------------


def fails(source, expected, **options):
    with pytest.raises(AudioError, match=expected) as caught:
        audio.read(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    return message


def float_wav(value):
    return encoded(np.array([0, 0.5, value] * 100, np.float32), 44100, subtype="FLOAT")


BAD = {
    "empty.wav": (b"", "is empty"),
    "text.wav": (b"This is no sound.\n" * 100, "no sound in a format|not sound in a format"),
    "text.mp3": (b"This is no sound.\n" * 100, "not sound in a format"),
    "text.raw": (b"This is no sound.\n" * 100, "not sound in a format"),
    "text.snd": (b"This is no sound.\n" * 100, "not sound in a format"),
    "nan.wav": (float_wav(np.nan), "NaN, infinite"),
    "inf.wav": (float_wav(np.inf), "NaN, infinite"),
    "minus-inf.wav": (float_wav(-np.inf), "NaN, infinite"),
    "huge.wav": (float_wav(1e30), "absurdly large"),
    "rate0.wav": (wav(rate=0), "0 Hz"),
    "rate1.wav": (wav(rate=1), "1 Hz is not in"),
    "rate2g.wav": (wav(rate=2**31 - 1), "2147483647 Hz is not in"),
    "channels0.wav": (wav(channels=0), "[Cc]hannel"),
    "header.wav": (wav()[:20], r"header\.wav: "),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, expected = BAD[name]
    (tmp_path / name).write_bytes(content)
    assert fails(name, expected).startswith(f"{name}: ")
    assert fails(content, expected.replace(r"header\.wav", "<bytes>")).startswith("<bytes>: ")


@pytest.mark.parametrize("part", [0.01, 0.3, 0.5, 0.9, 0.99])
def test_truncated_flac(part, noise, tmp_path):
    content = encoded(np.tile(noise[:, :2], (4, 1)), 44100, "FLAC")
    path = tmp_path / "cut.flac"
    path.write_bytes(content[: int(len(content) * part)])
    fails(path, r"cut\.flac: .*(truncated|flac)")


def test_a_flac_that_lacks_its_last_frames_though_no_frame_is_cut(noise):
    content = bytearray(encoded(noise[:, 0], 32000, "FLAC"))
    frames = int.from_bytes(content[22:26], "big")
    assert frames == len(noise)
    content[22:26] = (frames + 4096).to_bytes(4, "big")
    fails(bytes(content), "truncated")


def test_missing_file_and_folder(tmp_path):
    fails(tmp_path / "no.wav", r"no\.wav: No such file")
    fails(tmp_path, "is a directory")
    fails(str(tmp_path / "a\0b.wav"), "contains a null byte")
    fails(f"{tmp_path}/\ud800.wav", "a character that no file name has")


def test_names_stay_on_one_line(tmp_path):
    assert "a\\nb.wav" in fails(str(tmp_path / "a\nb.wav"), "No such file")


def test_bad_arrays():
    x = np.zeros(100, np.float32)
    fails(x, "needs its sample rate")
    fails(x, "0 Hz", rate=0)
    fails(np.zeros((2, 160_000), np.float32), "expected \\(frames,\\)", rate=32000)
    fails(np.zeros((2, 2, 2), np.float32), "shape", rate=32000)
    fails(np.array(["a"]), "type", rate=32000)
    fails(np.array([1j]), "type", rate=32000)
    fails(np.array([np.nan]), "NaN", rate=32000)
    fails(np.array([1e300]), "infinite", rate=32000)
    fails(wav(), "arrays only", rate=32000)
    fails(3, "int is not a path")


def test_bad_raw_samples():
    raw = audio.RawFormat("s16le", 32000, 2)
    fails(io.BytesIO(b""), "is empty", raw=raw)
    fails(io.BytesIO(b"123456"), "not a whole number of 4-byte frames", raw=raw)
    fails(io.BytesIO(struct.pack("<f", np.nan)), "NaN", raw=audio.RawFormat("f32le", 32000))
    fails(io.StringIO("text"), "not a binary", raw=raw)


@pytest.mark.parametrize("raw", [None, audio.RawFormat("f32le", 32000)])
def test_a_file_object_that_breaks(raw):
    class Broken:
        name = "broken.wav"

        def read(self, size):
            raise OSError(5, "Input/output error")

    fails(Broken(), r"broken\.wav: Input/output error", raw=raw)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_wav_whose_header_was_never_finished_is_read_to_its_end(size, tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(wav(size=size))
    for source in (path, path.read_bytes(), Pipe(path.read_bytes())):
        np.testing.assert_array_equal(audio.read(source), audio.read(wav()))


def test_what_follows_the_samples_of_a_wav_is_no_sound():
    info = b"LIST" + struct.pack("<I", 4) + b"INFO"
    np.testing.assert_array_equal(audio.read(Pipe(wav() + info)), audio.read(wav()))
    with pytest.raises(AudioError, match="has no samples"):
        audio.read(Pipe(wav(frames=0) + info))


@pytest.mark.parametrize("options", [["-write_xing", "0", "-id3v2_version", "0"], ["-write_xing", "0"], []])
def test_mp3_as_ffmpeg_streams_it(options, tmp_path, noise):
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    soundfile.write(tmp_path / "clip.wav", np.tile(noise[:, :2], (5, 1)), 44100)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "clip.wav", "-f", "mp3", *options, "-"]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    (tmp_path / "clip.mp3").write_bytes(content)
    expected = audio.read(tmp_path / "clip.mp3")
    assert len(expected) > 110_000
    for part in (len(content), len(content) * 2 // 3):
        (tmp_path / "clip.mp3").write_bytes(content[:part])
        expected = audio.read(tmp_path / "clip.mp3")
        np.testing.assert_array_equal(audio.read(Pipe(content[:part])), expected)
        np.testing.assert_array_equal(audio.read(content[:part]), expected)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AU"])
def test_a_stream_is_decoded_while_it_arrives(format, noise):
    content = encoded(np.tile(noise[:, :1], (60, 1)), 32000, format)
    taken = 0

    class Counting(Pipe):
        def read(self, size):
            nonlocal taken
            data = super().read(size)
            taken += len(data)
            return data

    blocks = audio.stream(Counting(content))
    next(block for block in blocks if len(block))
    assert taken < len(content) / 3
    sum(map(len, blocks))
    assert taken == len(content)


def test_a_wav_header_without_end():
    for head in (b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0", b"RIFF\0\0\0\0WAVE" + b"abcd\0\0\0\0" * 10_000):
        with pytest.raises(AudioError, match="chunk"):
            audio.read(Pipe(head))


def test_endless_noise_is_refused():
    class Noise:
        taken = 0

        def read(self, size):
            self.taken += size
            return b"\x07\x55\x99\xab" * (size // 4) + bytes(size % 4)

    noise = Noise()
    with pytest.raises(AudioError, match="is not sound"):
        audio.read(noise)
    assert noise.taken <= compressed.SPOOL


@pytest.mark.parametrize("format", ["adts", "webm", "matroska", "mpegts", "flv"])
def test_containers_that_are_decoded_while_they_arrive(format, tmp_path, noise):
    pytest.importorskip("av")
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    soundfile.write(tmp_path / "clip.wav", np.tile(noise[:, :1], (60, 1)), 44100)
    codec = "libopus" if format == "webm" else "aac"
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "clip.wav", "-c:a", codec, "-f", format, "-"]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    pipe = Pipe(content)
    blocks = audio.stream(pipe)
    first = next(block for block in blocks if len(block))
    assert pipe._file.tell() < len(content) / 2
    np.testing.assert_array_equal(np.concatenate([first, *blocks]), audio.read(content))
