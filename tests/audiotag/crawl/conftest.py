"""Fixtures of the tests of runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotag import cli
from audiotag.crawl import sinks, workers
from tests.audiotag.crawl.commands import lines
from tests.audiotag.crawl.jobs import LINUX


@pytest.fixture(
    params=[
        # the test's process has threads: Python >= 3.12 warns of what the command does only without any
        pytest.param("all forked", marks=[LINUX, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]),
        pytest.param("nursery spawned", marks=LINUX),
        "spawned",
    ],
)
def fork(request, monkeypatch):
    """Whether workers are forked."""
    monkeypatch.setattr(workers, "FORK", request.param != "spawned")
    monkeypatch.setattr(workers, "_alone", lambda: request.param == "all forked")
    return request.param != "spawned"


@pytest.fixture
def at_once(monkeypatch):
    """Make everything durable after each file."""
    monkeypatch.setattr(sinks, "SYNC_SECONDS", 0)
    monkeypatch.setattr(sinks, "PART_SECONDS", 0)


@pytest.fixture
def no_disk(monkeypatch):
    """Leave written data in memory, because no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.txt"


@pytest.fixture
def clips(tmp_path, noise, monkeypatch):
    """Files a.wav to f.wav, of different lengths, and a file that is not sound."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    for number, name in enumerate("abcdef"):
        soundfile.write(f"clips/{name}.wav", noise[number:, 0], 32000)
    Path("clips/bad.wav").write_text("no sound")
    return [os.path.join("clips", f"{name}.wav") for name in ("a", "b", "bad", "c", "d", "e", "f")]


@pytest.fixture
def tag(model, capfd):
    def run(*arguments):
        code = cli.main(["tag", *arguments, "--model", model, "--format", "jsonl"])
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def command(model):
    return [sys.executable, "-m", "audiotag", "tag", "--format", "jsonl", "--model", model]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with a list.txt of 600 short clips, some of which are none."""
    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(3)
    for number in range(600):
        path = folder / f"{number}.wav"
        if number % 20:
            samples = rng.standard_normal(rng.integers(100, 9000)) * 0.1
            soundfile.write(path, samples, 32000, subtype="PCM_16")
        else:
            path.write_bytes(rng.bytes(number))
    (folder / "list.txt").write_text("".join(f"{folder / str(number)}.wav\n" for number in range(600)))
    return folder


@pytest.fixture(scope="module")
def expected(library, model):
    """The rows of an undisturbed run."""
    output = str(library / "expected.jsonl")
    arguments = ["tag", f"@{library}/list.txt", "--format", "jsonl", "--model", model, "--output", output]
    assert cli.main(arguments) == 1
    found = lines(output)
    assert len(found) == 600
    return found


@pytest.fixture
def crawl(library, command, tmp_path, monkeypatch):
    """The command that tags the library into out.jsonl."""
    monkeypatch.chdir(tmp_path)
    return [*command, f"@{library}/list.txt", "--output", "out.jsonl"]


@pytest.fixture
def waiting(tmp_path):
    """A file that is never read to its end: a run with it does not end before it is interrupted."""
    path = tmp_path / "waiting.wav"
    os.mkfifo(path)
    keep = os.open(path, os.O_RDWR)
    yield str(path)
    os.close(keep)
