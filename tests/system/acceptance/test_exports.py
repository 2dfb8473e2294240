"""Every export of mn04, our own conversion of its checkpoint, and dymn04, against PyTorch's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from conformance import golden
from tinyonnx import InferenceSession
from tinyonnx.cli import main

EXPORTS = ["mn04_torchscript", "mn04_torchscript_opset13", "mn04_dynamo", "mn04_hear_multi_output"]


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[golden.Clip]:
    clips = golden.read_clips(shared / "data/golden_mn04.npz")
    assert len(clips) == 10
    assert len(clips[0].features) == 17
    return clips


def failures(session: InferenceSession, clips: list[golden.Clip]) -> list[str]:
    checks = list(golden.check_model(session, clips))
    assert [check.what for check in checks] == [*(f"features.{i}" for i in range(17)), "logits", "embedding"]
    return [str(check) for check in checks if not check.ok]


@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str, shared: Path, clips: list[golden.Clip]) -> None:
    assert failures(InferenceSession(shared / f"data/onnx/{name}.onnx"), clips) == []


def test_converted_checkpoint(shared: Path, clips: list[golden.Clip], mn04: Path) -> None:
    assert failures(InferenceSession(mn04), clips) == []


def test_log_mel_of_the_recordings(shared: Path, clips: list[golden.Clip]) -> None:
    check = golden.check_features(clips, shared / "data/esc10")
    assert check.ok, str(check)


@pytest.mark.parametrize("name", [*EXPORTS, "converted"])
def test_every_layer_against_onnxruntime(name: str, shared: Path, mn04: Path, capsys: Any) -> None:
    model = mn04 if name == "converted" else shared / f"data/onnx/{name}.onnx"
    (arg,) = InferenceSession(model).get_inputs()
    shape = f"{arg.name}=shape:1,1,128,300"
    assert main(["compare", str(model), "--against", "onnxruntime", "--input", shape, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["unmatched"] == []
    assert len(result["layers"]) > 40
    assert result["worst"]["relative"] < 1e-4


@pytest.mark.parametrize("layer", [5, 20, 40])
def test_a_corrupted_weight_is_found_at_its_layer(layer: int, shared: Path, tmp_path: Path, capsys: Any) -> None:
    model = shared / "data/onnx/mn04_torchscript.onnx"
    proto = onnx.load(model)
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    weights = next(t for t in proto.graph.initializer if t.name == convolutions[layer].input[1])
    array = onnx.numpy_helper.to_array(weights).copy()
    array.flat[array.size // 2] += 0.5 * np.abs(array).max()
    weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    onnx.save(proto, tmp_path / "corrupted.onnx")
    arguments = [
        "compare",
        str(tmp_path / "corrupted.onnx"),
        "--against",
        str(model),
        "--dim",
        "time_axis=300",
        "--json",
    ]
    assert main([*arguments, "--unoptimized"]) == 1
    assert json.loads(capsys.readouterr().out)["first_over"] == convolutions[layer].output[0]
    assert main(arguments) == 1
    fused = json.loads(capsys.readouterr().out)
    first = next(found for found in fused["layers"] if found["name"] == fused["first_over"])
    nodes = list(proto.graph.node)
    produced = {output: place for place, node in enumerate(nodes) for output in node.output}
    # the fused layer ends at the corrupted convolution or just behind it
    assert 0 <= produced[first["name"]] - nodes.index(convolutions[layer]) <= 3


def test_dymn04_has_its_golden_outputs(shared: Path) -> None:
    folder = shared / "data/families/dymn04"
    golden, session = np.load(folder / "golden.npz"), InferenceSession(str(folder / "dymn04.onnx"))
    for clip in ("dog_bark/1-30226-A", "rain/1-17367-A", "rooster/2-100786-A"):
        feeds = {"melspec": golden[f"{clip}:features"].reshape(1, 1, 128, -1)}
        for name, found in zip(("logits", "embedding"), session.run(["logits", "embedding"], feeds), strict=True):
            tolerance = 1e-4 if name == "logits" else 1e-5
            expected = golden[f"{clip}:{name}"]
            np.testing.assert_allclose(found[0], expected, rtol=0, atol=tolerance, err_msg=f"{clip} {name}")
        assert not session.plan_for(None, feeds).numpy_steps
