"""`audiotag tag clip.wav --activations page.html`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag.cli import main
from audiotag.models.mobilenet import random_graph
from tests.tinyonnx.tools.test_report import look, rows
from tinyonnx import save_model


@pytest.fixture
def small(tmp_path: Path) -> Path:
    save_model(random_graph("mn01", seed=0), tmp_path / "mn01.onnx")
    return tmp_path / "mn01.onnx"


def clip(path: Path) -> Path:
    time = np.arange(64_000) / 32_000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time * (1 + time)), 32_000)
    return path


def test_the_page_shows_waveform_mel_layers_and_tags(browser: Any, small: Path, tmp_path: Path, capsys: Any) -> None:
    sound, page = clip(tmp_path / "clip.wav"), tmp_path / "page.html"
    assert main(["tag", str(sound), "--model", str(small), "--activations", str(page), "--format", "jsonl"]) == 0
    capsys.readouterr()
    look(browser, page)
    titles = browser.execute_script("return [...document.querySelectorAll('#sections h2')].map(h => h.textContent)")
    assert titles == ["waveform", "log-mel spectrogram", "tags"]
    assert browser.execute_script("return document.querySelectorAll('#sections .bar').length") == 10
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert len(rows(browser)) > 30
    assert "clip.wav tagged by mn01" in browser.title


def test_one_file_only(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for paths in (["a.wav", "b.wav"], ["-"], [str(tmp_path)]):
        with pytest.raises(SystemExit) as end:
            main(["tag", *paths, "--model", str(small), "--activations", str(tmp_path / "page.html")])
        assert end.value.code == 2
        assert "--activations takes a single file" in capsys.readouterr().err


def test_a_page_that_cannot_be_written(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = clip(tmp_path / "clip.wav")
    assert main(["tag", str(sound), "--model", str(small), "--activations", "/no/such/folder/page.html"]) == 1
    assert "/no/such/folder/page.html" in capsys.readouterr().err
