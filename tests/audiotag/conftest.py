from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from onnx import numpy_helper, parser

from audiotag import Tagger, cli
from audiotag.models.mobilenet import random_graph
from audiotag.models.releases import MODELS
from tests.audiotag.models import torchfile
from tests.audiotag.models.releases import Server
from tests.audiotag.models.torchfile import tensor
from tests.locks import one_at_a_time


def make_tagger(
    path: Path,
    *,
    input="float[batch, 1, 128, time] x",
    output="float[batch, 527] logits",
    classes=527,
    kind="float",
    axes=(1, 3),
):
    """Return a small tagger: the mean over time, then one linear layer with fixed weights."""
    model = parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph ({input}) => ({output}) {{
            mean = ReduceMean <axes = {list(axes)}, keepdims = 0> (x)
            {output.split()[-1]} = MatMul (mean, weights)
        }}""")
    weights = (
        np.random.default_rng(0)
        .standard_normal((128, classes))
        .astype({"float16": np.float16, "double": np.float64}.get(kind, np.float32))
        / 16
    )
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tagger(tmp_path_factory.mktemp("model") / "linear.onnx"))


@pytest.fixture(scope="session", autouse=True)
def kernels(model: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile the kernels of the tests' models: commands that compile log it, and tests compare messages."""
    with one_at_a_time(tmp_path_factory, "kernels"):
        for name in (model, "untrained-mn01"):
            tagger = Tagger(name)
            for length in (32000, 34000, 36000, 38000):  # a session that has met several sizes plans for all of them
                tagger.tag(np.zeros(length, np.float32), 32000)


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "data/golden_mn04.npz") as file:
        return dict(file)


@pytest.fixture
def noise() -> np.ndarray:
    """(32000, 8) float32."""
    return (np.random.default_rng(7).standard_normal((32000, 8)) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def tagger(model: str) -> Tagger:
    return Tagger(model)


@pytest.fixture
def clip(noise: np.ndarray, tmp_path: Path) -> Path:
    """One second of noise, in a file."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise[:, 0], 32000, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def server(model: str) -> Iterator[Any]:
    """A running server with small limits."""
    pytest.importorskip("uvicorn")
    from tests.audiotag.serve.servers import serving

    with serving(model, "--max-mib", "2", "--max-seconds", "20") as started:
        yield started


@pytest.fixture
def folder(tmp_path, noise, monkeypatch):
    """Files a.wav, b.flac and sub/c.ogg, files that are not sound, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("a.wav", "b.flac", "sub/c.ogg", ".hidden/d.wav", "._a.wav"):
        soundfile.write(tmp_path / name, noise[:, :2], 44100)
    (tmp_path / "notes.txt").write_text("no sound")
    return tmp_path


@pytest.fixture
def tag(model, capsys):
    def run(*arguments):
        code = cli.main(["tag", *arguments, "--model", model])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of mn01's shapes, as torch.save writes it."""
    state = {v.name: tensor(v.const) for v in random_graph("mn01").initializers if v.name != "spatial_axes"}
    state["features.0.1.num_batches_tracked"] = tensor(np.array(7), "LongStorage")
    return torchfile.save(tmp_path_factory.mktemp("checkpoint") / "mn01.pt", state)


@pytest.fixture
def releases(checkpoint):
    """A server of the checkpoint."""
    server = Server(checkpoint.read_bytes())
    yield server
    server.close()


@pytest.fixture
def pinned(monkeypatch, checkpoint):
    """mn01_as with the size and hash of our checkpoint."""
    data = checkpoint.read_bytes()
    model = replace(MODELS["mn01_as"], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(MODELS, "mn01_as", model)
    return model
