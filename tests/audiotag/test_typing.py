"""The types of the public interface, as a user's script sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_a_users_script_is_typed(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text("""
import pickle
from pathlib import Path

import numpy as np

from audiotag import EventOptions, Failure, Result, Tag, Tagger

tagger: Tagger = pickle.loads(pickle.dumps(Tagger(Path("model.onnx"))))
result: Result = tagger.tag("clip.wav", top=3, labels=["Dog", 3])
tags: tuple[Tag, ...] = result.tags
score: float = tags[0].score
for window in tagger.tag_windows(np.zeros(44100, np.float32), 1.0, hop=0.5, rate=44100):
    start: float = window.start
for event in tagger.find_events(Path("clip.wav"), EventOptions(max_gap=1.0)):
    label: str = event.tags[0].label
size: int = tagger.embed(b"RIFF").shape[0]
rows: list[Result | Failure] = tagger.tag_batch(["a.wav", b"RIFF"])
with open("clip.wav", "rb") as file:
    tagger.tag(file)
""")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(script)]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.stdout.startswith("Success"), result.stdout
