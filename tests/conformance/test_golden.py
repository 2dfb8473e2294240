from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from conformance.golden import check_model, read_clips
from onnx_conformance import ConformanceError
from tinyonnx import InferenceSession

MODEL = """
    <ir_version: 8, opset_import: ["" : 17]>
    tagger (float[n, 1, 128, t] melspec) => (float[n, 527] logits)
    <float one = {1}, float two = {2}>
    {
        a = Sin (melspec)
        b = Cos (a)
        copy = Mul (b, two)
        pooled = ReduceMean <axes = [2, 3], keepdims = 0> (copy)
        logits = MatMul (pooled, w)
    }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(MODEL)
    weights = np.random.default_rng(0).standard_normal((1, 527)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def numbers(model: Path) -> dict[str, np.ndarray]:
    """Two clips, the second with the outputs of two `blocks`."""
    numbers = {"window": np.zeros(3)}
    for clip in ("x", "y"):
        melspec = np.random.default_rng(ord(clip)).standard_normal((128, 20)).astype(np.float32)
        values = ReferenceEvaluator(onnx.load(model)).run(None, {"melspec": melspec[None, None]}, intermediate=True)
        arrays = {"melspec": melspec, "logits": values["logits"][0], "embedding": values["pooled"][0]}
        if clip == "y":
            arrays |= {"features.0": values["a"][0], "features.1": values["copy"][0]}
        numbers |= {f"{clip}:{quantity}": array for quantity, array in arrays.items()}
    return numbers


def verdicts(model: Path, numbers: dict[str, np.ndarray], folder: Path) -> dict[str, bool]:
    np.savez(folder / "golden.npz", **numbers)
    checks = check_model(InferenceSession(model), read_clips(folder / "golden.npz"))
    return {check.what: check.ok for check in checks}


def test_all_quantities_are_found(model: Path, numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    expected = {"features.0": True, "features.1": True, "logits": True, "embedding": True}
    assert verdicts(model, numbers, tmp_path) == expected


@pytest.mark.parametrize("wrong", ["y:features.0", "y:features.1", "x:logits", "x:embedding"])
def test_a_wrong_number_is_noticed(wrong: str, model: Path, numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    numbers[wrong] = numbers[wrong] + np.float32(0.01)
    failed = [what for what, ok in verdicts(model, numbers, tmp_path).items() if not ok]
    assert failed == [wrong.partition(":")[2]]


def test_maps_must_come_in_order(model: Path, numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    numbers["y:features.0"], numbers["y:features.1"] = numbers["y:features.1"], numbers["y:features.0"]
    assert not verdicts(model, numbers, tmp_path)["features.1"]


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04"])
def test_no_golden_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    path.write_bytes(content)
    with pytest.raises(ConformanceError, match=r"golden\.npz"):
        read_clips(path)


def test_a_golden_file_without_clips(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", window=np.zeros(3))
    with pytest.raises(ConformanceError, match="no clips"):
        read_clips(tmp_path / "golden.npz")


def test_a_clip_without_logits(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **{"x:melspec": np.zeros((128, 5), np.float32)})
    with pytest.raises(ConformanceError, match="logits"):
        read_clips(tmp_path / "golden.npz")
