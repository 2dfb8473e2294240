"""Progress of runs through the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from audiotag.crawl.progress import Progress, clip_seconds
from tests.audiotag.crawl.commands import POSIX
from tests.terminals import read_terminal


def test_lines_of_progress(crawl):
    arguments = [*crawl, "--log-every", "0.05"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    told = [line for line in done.stderr.splitlines() if "files/s" in line]
    assert len(told) > 2
    line = r"audiotag: \d+ of 600 \(\d+ %\) files, \d+ errors?, [\d.]+ files/s, \d+ × real time, \d+:\d\d left"
    assert re.fullmatch(line, told[-2])
    last = r"audiotag: 600 files, 30 errors, [\d.]+ files/s, \d+ × real time, \d+:\d\d"
    assert re.fullmatch(last, told[-1])


def test_progress_within_a_long_file(tag, clips, noise):
    soundfile.write("long.wav", np.tile(noise[:, 0], 100), 32000, subtype="PCM_16")
    _, _, err = tag("long.wav", "--window", "0.5", "--output", "out.jsonl", "--log-every", "0.001")
    assert re.search(r"^audiotag: 0( of 1 \(0 %\) file| files), 0 errors$", err, re.M)
    inside = r"^audiotag: 0 of 1 \(0 %\) file, 0 errors, long.wav at 1:\d\d( of 1:40, 0:\d\d left)?$"
    assert len(re.findall(inside, err, re.M)) > 1


def test_progress_within_a_long_file_of_a_worker(tag, clips, noise):
    soundfile.write("long.wav", np.tile(noise[:, 0], 100), 32000, subtype="PCM_16")
    arguments = ["long.wav", "clips/a.wav", "--window", "0.5", "--workers", "2", "--output", "out.jsonl"]
    _, _, err = tag(*arguments, "--log-every", "0.000001")
    assert re.search(r"^audiotag: \d+( of 2 \(\d+ %\))? files?, 0 errors.*, long.wav at 1:\d\d", err, re.M)


def test_progress_of_a_file_with_few_results(tag, clips, noise):
    """A file without events has one row, at its end."""
    soundfile.write("long.wav", np.tile(noise[:, 0], 100), 32000, subtype="PCM_16")
    _, _, err = tag("long.wav", "--events", "0.99", "--output", "out.jsonl", "--log-every", "0.000001")
    assert re.search(r"^audiotag: 0 of 1 \(0 %\) file, 0 errors, long.wav at 1:\d\d", err, re.M)


def test_the_time_left_of_several_long_files(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("audiotag.crawl.progress.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("audiotag.crawl.progress.clip_seconds", lambda path: {"a": 7200.0, "b": 600.0}[path])
    monkeypatch.setattr("audiotag.crawl.progress.threading", SimpleNamespace(Thread=Thread))
    progress = Progress(count=lambda: 2, log_every=1)
    progress.reach("a", 60.0)
    now = 60.0
    progress.reach("b", 120.0)
    progress.reach("a", 660.0)  # 10 s of sound a second
    now = 62.0
    progress.tick()
    progress.add("a", 7200.0, False)
    now = 120.0
    progress.reach("b", 420.0)  # 5 s of sound a second
    told = [line.partition(", 0 errors")[2] for line in capsys.readouterr().err.splitlines()]
    assert told[-2:] == [
        ", a at 11:00 of 2:00:00, 11:16 left",
        ", 0.0 files/s, 60 × real time, 2:00 left, b at 7:00 of 10:00, 0:36 left",
    ]


class Thread:
    def __init__(self, target, args=(), daemon=None):
        self.start = lambda: target(*args)


def test_the_length_of_a_clip(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros(48000), 16000)
    assert clip_seconds(str(tmp_path / "a.flac")) == 3
    (tmp_path / "b.wav").write_text("no sound")
    assert clip_seconds(str(tmp_path / "b.wav")) is None


@POSIX
def test_the_line_on_a_terminal(crawl):
    import pty

    ours, theirs = pty.openpty()
    arguments = [*crawl, "--workers", "1"]
    process = subprocess.Popen(arguments, stderr=theirs, env=os.environ | {"COLUMNS": "200"})
    os.close(theirs)
    text = read_terminal(ours)
    assert process.wait(300) == 1
    # an error takes the place of the line, which comes again
    line = r"\d+ of 600 \(\d+ %\) files, \d+ errors?, [\d.]+ files/s, \d+ × real time, \d+:\d\d left"
    assert re.search(rf"{line}\r\x1b\[Kaudiotag: [^\r]*\d\.wav: ", text)
    assert re.search(rf"\d\.wav: is [^\r]*\r\n{line}\r\x1b\[K", text)
    assert re.search(r"(\r\x1b\[K|\n)audiotag: 600 files, 30 errors, [^\r\n]*\r\n$", text)


def test_the_length_of_standard_input_is_not_looked_for() -> None:
    """Another thread reads it."""
    code = (
        "import sys; from audiotag.crawl.progress import clip_seconds; "
        "print(clip_seconds('-'), len(sys.stdin.buffer.read()))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=bytes(1000), capture_output=True, timeout=300)
    assert done.stdout.split() == [b"None", b"1000"], done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_the_length_of_a_named_pipe_is_not_looked_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    pipe = os.open(tmp_path / "pipe.wav", os.O_RDWR)
    try:
        os.write(pipe, bytes(1000))
        assert clip_seconds(str(tmp_path / "pipe.wav")) is None
        assert len(os.read(pipe, 2000)) == 1000
    finally:
        os.close(pipe)
