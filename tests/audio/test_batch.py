from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import soundfile

from audiotag import cli


@pytest.fixture
def clips(tmp_path, noise, monkeypatch):
    """a.wav to f.wav, of different lengths, and a file that is no sound."""
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


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def test_workers_give_the_same_rows_in_any_order(tag, clips):
    code, expected, err = tag("clips")
    assert [row["path"] for row in rows(expected)] == clips
    assert tag("clips", "--workers", "2", "--output", "out.jsonl") == (code, "", err)
    assert sorted(Path("out.jsonl").read_text().splitlines()) == sorted(expected.splitlines())
