"""Bad input through the real command line: one line naming the culprit, exit code 1, no traceback."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper

from audiotag.models import catalog

ROOT = Path(__file__).resolve().parents[3]
RATE = 32000


def audiotag(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "audiotag", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def complaints(stderr: str) -> list[str]:
    """Return the lines of stderr that are not expected of every run, or of the first one on a machine."""
    expected = "its scores mean nothing", "compiling kernels"
    return [line for line in stderr.splitlines() if not any(text in line for text in expected)]


def assert_refused(result: subprocess.CompletedProcess[str], *culprit: str) -> None:
    """Assert that the only complaint is one line with every word of `culprit`."""
    assert result.returncode == 1, result.stderr
    lines = complaints(result.stderr)
    assert len(lines) == 1, result.stderr
    for word in culprit:
        assert word in lines[0]


# -- audio --------------------------------------------------------------------------------


def noise(seconds: float = 0.5) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(int(RATE * seconds))).astype(np.float32)


def wav(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    """Return a mono float WAV file, header by hand: libsndfile wouldn't write a rate of 0."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, rate * 4, 4, 32)
    chunks = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(chunks)) + chunks)


def missing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("Not a sound, in spite of the name.\n" * 50)


def truncated_flac(path: Path) -> None:
    soundfile.write(path, noise(3), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nan_samples(path: Path) -> None:
    samples = noise()
    samples[100] = np.nan
    wav(path, samples)


def zero_rate(path: Path) -> None:
    wav(path, noise(), rate=0)


def no_audio(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("nothing to hear")


BAD_AUDIO: dict[str, Callable[[Path], None]] = {
    "missing.wav": missing,
    "empty.wav": empty,
    "text.wav": text,
    "truncated.flac": truncated_flac,
    "nan.wav": nan_samples,
    "zero_rate.wav": zero_rate,
    "no_audio": no_audio,
}


@pytest.mark.parametrize("name", BAD_AUDIO)
def test_bad_audio(name: str, tmp_path: Path) -> None:
    BAD_AUDIO[name](tmp_path / name)
    result = audiotag("tag", tmp_path / name)
    assert_refused(result, name)
    assert result.stdout == ""


def test_bad_files_lose_none_of_the_others(tmp_path: Path) -> None:
    for name, make in BAD_AUDIO.items():
        make(tmp_path / name)
    good = [tmp_path / "first.wav", tmp_path / "last.wav"]
    for path in good:
        wav(path, noise())
    bad = [tmp_path / name for name in BAD_AUDIO]
    result = audiotag("tag", "--format", "jsonl", good[0], *bad, good[1])
    assert result.returncode == 1
    assert len(complaints(result.stderr)) == len(BAD_AUDIO)
    rows = {row["path"]: row for row in map(json.loads, result.stdout.splitlines())}
    for path in good:
        assert len(rows[str(path)]["tags"]) == 10
    for path in bad:
        assert rows[str(path)]["error"]["message"]
        assert sum(str(path) in line for line in result.stderr.splitlines()) == 1


def test_samples_that_are_nan_on_stdin() -> None:
    command = [sys.executable, "-m", "audiotag", "tag", "--raw", "f32le", "--rate", str(RATE), "-"]
    data = np.full(RATE, np.nan, "<f4").tobytes()
    result = subprocess.run(command, cwd=ROOT, input=data, capture_output=True, timeout=300)
    assert result.returncode == 1
    assert len(complaints(result.stderr.decode())) == 1


# -- models -------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    wav(path, noise())
    return path


def model_of(*op_types: str, weights: TensorProto | None = None) -> onnx.ModelProto:
    """Return a model of these operators in a row: melspec → … → logits."""
    names = ["melspec", *(f"x{i}" for i in range(len(op_types) - 1)), "logits"]
    nodes = [helper.make_node(op, [a], [b]) for op, a, b in zip(op_types, names, names[1:])]
    if weights is not None:
        nodes.append(helper.make_node("Add", ["logits", weights.name], ["sum"]))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("melspec", TensorProto.FLOAT, ["batch", 1, 128, "time"])],
        [helper.make_tensor_value_info("sum" if weights is not None else "logits", TensorProto.FLOAT, None)],
        [weights] if weights is not None else [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_empty_model(tmp_path: Path, clip: Path) -> None:
    model = tmp_path / "empty.onnx"
    model.write_bytes(b"")
    assert_refused(audiotag("tag", "--model", model, clip), "empty.onnx")


def test_random_model(tmp_path: Path, clip: Path) -> None:
    model = tmp_path / "random.onnx"
    model.write_bytes(np.random.default_rng(1).bytes(50_000))
    assert_refused(audiotag("tag", "--model", model, clip), "random.onnx")


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.999])
def test_truncated_model(fraction: float, tmp_path: Path, clip: Path) -> None:
    whole = catalog.resolve("untrained-mn01").source
    assert isinstance(whole, bytes)
    model = tmp_path / "cut.onnx"
    model.write_bytes(whole[: int(len(whole) * fraction)])
    assert_refused(audiotag("tag", "--model", model, clip), "cut.onnx", "truncated")


def test_all_unknown_ops_are_listed(tmp_path: Path, clip: Path) -> None:
    model = tmp_path / "unknown.onnx"
    model.write_bytes(model_of("Relu", "Frobnicate", "Abs", "Discombobulate").SerializeToString())
    assert_refused(audiotag("tag", "--model", model, clip), "unknown.onnx", "Frobnicate", "Discombobulate")


@pytest.mark.parametrize("kind", ["parent", "absolute", "symlink", "hardlink"])
def test_external_data_outside_the_models_folder(kind: str, tmp_path: Path, clip: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(527, np.float32).tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    location = {"parent": "../secret.bin", "absolute": str(secret)}.get(kind, "weights.bin")
    if kind == "symlink":
        (folder / location).symlink_to(secret)
    elif kind == "hardlink":
        os.link(secret, folder / location)
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[527])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    model = folder / "leaky.onnx"
    model.write_bytes(model_of("Relu", weights=weights).SerializeToString())
    assert_refused(audiotag("tag", "--model", model, clip), "leaky.onnx", location)


# -- checkpoints --------------------------------------------------------------------------


class Call:
    """Unpickles by calling `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def checkpoint(path: Path, content: object) -> None:
    """Return the layout of `torch.save`: a zip archive of a pickle and its storages."""
    buffer = io.BytesIO()
    pickle.dump(content, buffer, protocol=2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")


def test_a_checkpoint_that_would_call_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "called"
    evil = tmp_path / "evil.pt"
    checkpoint(evil, {"features.0.0.weight": Call(marker)})
    out = tmp_path / "out.onnx"
    assert_refused(audiotag("models", "convert", evil, out), "evil.pt", "mkdir")
    assert not marker.exists()
    assert not out.exists()


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pt"
    junk.write_bytes(np.random.default_rng(2).bytes(10_000))
    assert_refused(audiotag("models", "convert", junk, tmp_path / "out.onnx"), "junk.pt")
