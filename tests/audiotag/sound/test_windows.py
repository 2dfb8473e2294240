from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
import soundfile

from audiotag import AudioError, LabelError
from audiotag.sound import audio
from audiotag.sound.windows import MAX_PIECE, MIN_HOP, MIN_WINDOW, Grid

RATE = 32000


@pytest.fixture(scope="module")
def samples():
    return (np.random.default_rng(5).standard_normal(7 * RATE + 1234) * 0.1).astype(np.float32)


def spans(n, window, hop, block=1000):
    """Return (start, end) in samples of the windows of a clip of n samples."""
    x = np.arange(n, dtype=np.float32)
    found = []
    for start, part in Grid(window, hop).cut(x[i : i + block] for i in range(0, n, block)):
        np.testing.assert_array_equal(part, x[start : start + len(part)])
        found.append((start, start + len(part)))
    return found


@pytest.mark.parametrize(
    ("n", "window", "hop", "expected"),
    [
        (0, 1, 1, [(0, 0)]),
        (1, 1, 1, [(0, 1)]),
        (RATE - 1, 1, 1, [(0, RATE - 1)]),
        (RATE, 1, 1, [(0, RATE)]),
        # the remainder is too short for a window of its own, or just long enough
        (RATE + 1600, 1, 1, [(0, RATE)]),
        (RATE + 1601, 1, 1, [(0, RATE), (1601, RATE + 1601)]),
        (13 * RATE, 10, 10, [(0, 10 * RATE), (3 * RATE, 13 * RATE)]),
        (10 * RATE + 3200, 10, 10, [(0, 10 * RATE)]),
        (10 * RATE + 3201, 10, 10, [(0, 10 * RATE), (3201, 10 * RATE + 3201)]),
        (2 * RATE, 1, 1, [(0, RATE), (RATE, 2 * RATE)]),
        (2 * RATE, 1, 0.5, [(0, RATE), (RATE // 2, 3 * RATE // 2), (RATE, 2 * RATE)]),
        (2 * RATE + 7, 1, 0.75, [(0, RATE), (24000, 56000), (RATE + 7, 2 * RATE + 7)]),
        (2 * RATE + 7, 1, 0.5, [(0, RATE), (RATE // 2, 3 * RATE // 2), (RATE, 2 * RATE)]),
        # with gaps: a remainder in a gap stays untagged, one in the next window does not
        (3 * RATE, 1, 2, [(0, RATE), (2 * RATE, 3 * RATE)]),
        (2 * RATE, 1, 2, [(0, RATE)]),
        (2 * RATE + 1, 1, 2, [(0, RATE)]),
        (2 * RATE + 1601, 1, 2, [(0, RATE), (RATE + 1601, 2 * RATE + 1601)]),
        (1000, 0.0211, 0.01, [(0, 675), (320, 995)]),
        (1100, 0.0211, 0.01, [(0, 675), (320, 995), (425, 1100)]),
    ],
)
@pytest.mark.parametrize("block", [1, 777, 10**6])
def test_where_windows_are(n, window, hop, expected, block):
    assert spans(n, window, hop, max(block, n // 2000)) == expected


def test_nothing_adds_up_on_a_long_timeline():
    assert Grid(1, 1 / 3).start(3 * 3600 * 10) == 36_000 * RATE


@pytest.mark.parametrize(("window", "hop"), [(1, None), (2.5, 0.7), (0.5, 1.3), (0.02, 0.5), (100, None)])
def test_each_window_is_tagged_as_a_clip_of_its_own(tagger, samples, window, hop):
    results = list(tagger.tag_windows(samples, window, hop, RATE))
    assert results[0].start == 0
    for result in results:
        start, end = (round(t * RATE) for t in (result.start, result.end))
        assert result.tags == tagger.tag(samples[start:end], RATE).tags
        assert result.duration == pytest.approx(result.end - result.start, abs=1e-9)
    if hop is None or hop <= window:
        assert results[-1].end >= (len(samples) - Grid(window, hop or window).remainder) / RATE


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_a_resampled_file_and_its_pipe_have_the_same_windows(tagger, samples, tmp_path, format):
    path = tmp_path / "clip"
    soundfile.write(path, np.stack([samples, samples[::-1]], 1), 44100, format=format)
    expected = list(tagger.tag_windows(path, 1.5, 0.7))
    whole = audio.read(path)
    for result in expected:
        part = whole[round(result.start * RATE) : round(result.end * RATE)]
        assert result.tags == tagger.tag(part, RATE).tags
    assert list(tagger.tag_windows(io.BytesIO(path.read_bytes()), 1.5, 0.7, name=str(path))) == expected


@pytest.mark.parametrize(
    ("window", "hop"),
    [(0, None), (-1, None), (MIN_WINDOW / 2, None), (MAX_PIECE + 1, None), (1, 0), (1, -1), (1, 1e-9)],
)
def test_impossible_windows_are_refused_at_once(tagger, window, hop):
    with pytest.raises(ValueError, match=r"(window|hop) must"):
        tagger.tag_windows("no-such-file.wav", window, hop)
    for not_a_number in ((float("nan"), None), (1, float("nan")), (1, float("inf"))):
        with pytest.raises(ValueError, match=r"(window|hop) must"):
            tagger.tag_windows("no-such-file.wav", *not_a_number)
    with pytest.raises(LabelError):
        tagger.tag_windows("no-such-file.wav", 1, labels="Dogg")


def test_extreme_windows_are_possible():
    assert Grid(MIN_WINDOW, MIN_HOP).size == 640
    assert Grid(MAX_PIECE, MAX_PIECE).size == 1200 * RATE


def test_windows_before_the_damage_are_there(tagger, samples):
    bad = samples.copy()
    bad[4 * RATE :] = np.nan
    windows = tagger.tag_windows(bad, 1, None, RATE)
    assert [next(windows).start for _ in range(2)] == [0, 1]
    with pytest.raises(AudioError, match="NaN"):
        list(windows)


def test_what_is_too_long_for_one_piece_says_what_to_do(tagger):
    class Endless:
        def read(self, size):
            return bytes(size)

    with pytest.raises(AudioError, match=r"longer than 20 min: .*--window"):
        tagger.tag(Endless(), raw=audio.RawFormat("s16le", 16_000))


def test_memory_does_not_grow_with_the_clip(tagger):
    def peak(seconds):
        blocks = (np.zeros(RATE, np.float32) for _ in range(seconds))
        tracemalloc.start()
        count = sum(1 for _ in Grid(1, 0.9).cut(blocks))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count > seconds
        return size

    assert peak(3000) < 1.1 * peak(30)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
@pytest.mark.parametrize("kind", ["wav", "raw", "flac"])
def test_a_live_stream_gives_results_as_windows_complete(kind, model, samples, tmp_path):
    """The writer waits for each result before it goes on."""
    if kind == "raw":
        content, options = (samples * 32767).astype("<i2").tobytes(), ["--raw", "s16le", "--rate", str(RATE)]
    else:
        file = io.BytesIO()
        soundfile.write(file, samples, RATE, format=kind)
        content, options = file.getvalue(), []
    if kind == "wav":
        content = content[:40] + b"\xff\xff\xff\xff" + content[44:]
    command = [sys.executable, "-m", "audiotag", "tag", "-", "--window", "1", "--format", "jsonl", "--model", model]
    child = subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    second = len(content) * RATE // len(samples)
    slack = second // 5 if kind != "flac" else second
    try:
        for k in range(4):
            begin, end = (max(0, k * second + slack if k else 0), (k + 1) * second + slack)
            child.stdin.write(content[begin:end])
            child.stdin.flush()
            timer = threading.Timer(60, child.kill)
            timer.start()
            row = json.loads(child.stdout.readline())
            timer.cancel()
            assert (row["path"], row["start"], row["end"]) == ("-", k, k + 1)
    finally:
        child.kill()
        child.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's accounting")
def test_a_long_stream_takes_no_more_memory_than_a_short_one(model):
    """Bytes of the process, with the decoder's and the model's, for 1 and for 60 minutes of a pipe."""
    # not ru_maxrss, which begins with that of the process that started this one
    code = (
        "import sys; from audiotag import cli; cli.main(sys.argv[1:]); "
        "status = open('/proc/self/status').read(); print(status.split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    peaks = []
    for minutes in (1, 60):
        command = [sys.executable, "-c", code, "tag", "-", "--raw", "s16le", "--rate", "16000", "--window", "10"]
        child = subprocess.Popen(
            [*command, "--model", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = child.communicate(bytes(minutes * 60 * 16000 * 2), timeout=300)
        assert out.count(b"\n") == minutes * 6 + 1
        peaks.append(int(err.split()[-1]))
    assert peaks[1] - peaks[0] < 20 * 1024


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("kind", ["wav", "mp3", "webm"])
def test_ctrl_c_ends_a_live_stream(kind, model, samples, tmp_path):
    """The decoder's callbacks swallow exceptions, and a resampler complains if it is kept."""
    if kind == "webm":
        pytest.importorskip("av")
        if shutil.which("ffmpeg") is None:
            pytest.skip("needs ffmpeg")
        soundfile.write(tmp_path / "clip.wav", samples, 44100)
        command = ["ffmpeg", "-v", "error", "-i", tmp_path / "clip.wav", "-c:a", "libopus", tmp_path / "clip.webm"]
        subprocess.run(command, check=True)
    else:
        soundfile.write(tmp_path / f"clip.{kind}", samples, 44100)
    content = (tmp_path / f"clip.{kind}").read_bytes()
    command = [sys.executable, "-m", "audiotag", "tag", "-", "--window", "0.5", "--format", "jsonl", "--model", model]
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    child.stdin.write(content[: len(content) // 2])
    child.stdin.flush()
    assert json.loads(child.stdout.readline())["start"] == 0
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=600)
    assert (child.returncode, err) == (130, b"audiotag: interrupted\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_in_the_midst_of_a_clip_is_one_line(model, samples, tmp_path):
    soundfile.write(tmp_path / "clip.wav", samples, 44100)
    command = [sys.executable, "-m", "audiotag", "tag", "clip.wav", "--window", "1", "--model", model]
    result = subprocess.run([*command, "--output", "/dev/full"], cwd=tmp_path, capture_output=True, timeout=600)
    assert (result.returncode, result.stderr) == (1, b"audiotag: /dev/full: No space left on device\n")
