"""Sound on standard input, as other programs write it into a pipe: without knowing its length beforehand."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[3]
RATE = 44100
SAMPLES = (0.3 * np.sin(np.arange(RATE) / 7) * 32767).astype("<i2")


def wav(riff_size: int, data_size: int, extra: bytes = b"") -> bytes:
    """Return 16-bit mono WAV with these sizes in its header and an extra chunk before the samples."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, RATE * 2, 2, 16)
    data = SAMPLES.tobytes()
    return (
        struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE")
        + form
        + extra
        + struct.pack("<4sI", b"data", data_size)
        + data
    )


INFO = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"


def tag(stdin: bytes, *args: str) -> dict:
    command = [sys.executable, "-m", "audiotag", "tag", "--format", "jsonl", "-", *args]
    result = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (row,) = map(json.loads, result.stdout.splitlines())
    return row


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("piping") / "clip.wav"
    soundfile.write(path, SAMPLES, RATE, subtype="PCM_16")
    return tag(path.read_bytes())


@pytest.mark.parametrize(
    ("stdin", "args"),
    [
        (wav(0xFFFFFFFF, 0xFFFFFFFF, INFO), []),
        (wav(0x7FFFF024, 0x7FFFF000), []),
        (wav(0, 0xFFFFFFFF), []),
        (SAMPLES.tobytes(), ["--raw", "s16le", "--rate", str(RATE)]),
    ],
    ids=["ffmpeg", "sox", "sizes 0 and -1", "raw"],
)
def test_a_pipe_gives_what_the_file_gives(stdin: bytes, args: list[str], expected: dict) -> None:
    row = tag(stdin, *args)
    assert row["duration"] == expected["duration"] == 1.0
    assert row["tags"] == expected["tags"]
