"""Executables of models with other front ends than EfficientAT's: they print the same as the package."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag import Tagger
from audiotag.models.catalog import resolve
from audiotag.standalone.build import build_program
from tests.audiotag.standalone.test_own_classes import MODELS, described, waveform_model

pytest.importorskip("ziglang")
if sys.platform != "linux" or platform.machine() != "x86_64":
    pytest.skip("native code is for x86-64 Linux", allow_module_level=True)


def rows_of(model: Path, folder: Path, seconds: float = 3.3) -> tuple[list[Any], list[Any]]:
    """Return the rows of an executable and those of the package, for a sound of the model's own rate."""
    tagger = Tagger(model)
    build_program(resolve(model), folder / "program")
    samples = np.random.default_rng(0).standard_normal(round(seconds * tagger.rate)) * 0.1
    samples *= np.linspace(0.01, 1, len(samples))
    soundfile.write(folder / "clip.wav", samples, tagger.rate, subtype="FLOAT")
    command = [folder / "program", "--json", "--top", "5", "clip.wav"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, env={}, timeout=600)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return found, [tagger.tag(folder / "clip.wav", top=5, name="clip.wav").to_dict()]


def check(found: list[Any], expected: list[Any]) -> None:
    for row, wanted in zip(found, expected, strict=True):
        mine, theirs = ([(tag["label"], tag["score"]) for tag in r.pop("tags")] for r in (row, wanted))
        assert [label for label, _ in mine] == [label for label, _ in theirs]
        np.testing.assert_allclose([s for _, s in mine], [s for _, s in theirs], rtol=0, atol=2e-5)
        assert row == wanted


@pytest.mark.parametrize("name", ["time first", "pieces of waveforms"])
def test_rows_are_the_package_s(name: str, tmp_path: Path) -> None:
    description, options = MODELS[name]
    model = tmp_path / "model.onnx"
    if options is None:
        waveform_model(model, description)
    else:
        described(model, description, **options)
    check(*rows_of(model, tmp_path))
