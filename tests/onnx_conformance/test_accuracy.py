from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_conformance.cli import main

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
m (float[N,4] x) => (float[N,3] y)
<float[4,3] w = {0.5,-1.0,0.25,1.0,0.5,-0.5,0.125,0.75,-0.25,2.0,1.0,-1.0}>
{ a = MatMul (x, w) b = Tanh (a) y = Softmax <axis = 1> (b) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(MODEL), tmp_path / "model.onnx")
    r = np.random.default_rng(0)
    folder = tmp_path / "inputs/deep"
    folder.mkdir(parents=True)
    for i in range(3):
        np.savez(folder / f"{i}.npz", x=r.standard_normal((5, 4)).astype(np.float32))
    np.save(tmp_path / "inputs/one.npy", r.standard_normal((5, 4)).astype(np.float32))
    (tmp_path / "inputs/test_data_set_0").mkdir()
    proto = numpy_helper.from_array(r.standard_normal((5, 4)).astype(np.float32), "x")
    (tmp_path / "inputs/test_data_set_0/input_0.pb").write_bytes(proto.SerializeToString())
    return tmp_path / "model.onnx"


def _command(model: Path, *more: str) -> list[str]:
    return ["accuracy", str(model), "--inputs", str(model.parent / "inputs"), *more]


def test_two_runtimes_agree(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_command(model, "--layers", "--runtime", "onnxruntime", "--runtime", "reference")) == 0
    out = capsys.readouterr().out
    assert "model.onnx on onnxruntime, against model.onnx on reference, 5 inputs" in out
    assert "0 of 25 decisions changed" in out
    assert [line.split()[:2] for line in out.splitlines() if "Tanh" in line] == [["b", "Tanh"]]


def test_another_model_decides_differently(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = parser.parse_model(MODEL.replace("0.5,-1.0", "0.5,3.0"))
    onnx.save(other, tmp_path / "other.onnx")
    command = _command(model, "--against", str(tmp_path / "other.onnx"), "--layers", "--json", str(tmp_path / "json"))
    assert main([*command, "--runtime", "reference", "--runtime", "reference"]) == 1
    data = json.loads((tmp_path / "json").read_text())
    x = [np.load(tmp_path / f"inputs/deep/{i}.npz")["x"] for i in range(3)]
    w = [numpy_helper.to_array(proto.graph.initializer[0]) for proto in (onnx.load(model), other)]
    for i, rows in enumerate(x):
        expected = (rows @ w[0]).argmax(1) != (rows @ w[1]).argmax(1)
        assert sum(c["source"] == f"deep/{i}.npz" for c in data["changed"]) == expected.sum()
    assert data["decisions"] == 25
    assert all(change["margin"] >= 0 for change in data["changed"])
    assert [layer["name"] for layer in data["layers"]] == ["a", "b", "y"]
    assert data["layers"][0]["worst"] > 0.1
    assert f"{len(data['changed'])} of 25 decisions changed" in capsys.readouterr().out


def test_inputs_that_do_not_fit(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "inputs/wrong.npz", z=np.zeros(3))
    assert main(_command(model, "--runtime", "reference", "--runtime", "reference")) == 1
    assert "wrong.npz has no x" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["accuracy", str(model), "--inputs", str(tmp_path / "empty")]) == 1
    assert "has no .npz" in capsys.readouterr().err
    three = [word for name in ("reference", "tinyonnx", "onnxruntime") for word in ("--runtime", name)]
    assert main(_command(model, *three)) == 1
    assert "compares two runtimes, not 3" in capsys.readouterr().err


def test_a_runtime_that_refuses(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(model.parent / "inputs/0.npz", x=np.zeros((5, 3), np.float32))
    assert main(_command(model, "--runtime", "onnxruntime", "--runtime", "reference")) == 1
    assert "0.npz: onnxruntime: " in capsys.readouterr().err
