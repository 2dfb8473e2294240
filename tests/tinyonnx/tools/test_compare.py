from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tinyonnx import InferenceSession, InputError
from tinyonnx.commands.compare import layer_table
from tinyonnx.tools.compare import Comparison, compare_layers, difference
from tinyonnx.tools.feeds import make_feeds
from tinyonnx.tools.oracles import reference_values

MODEL = """
    <ir_version: 8, opset_import: ["" : 17]>
    blocks (float[batch, 4, h, 16] x, float[6, 4, 1, 1] w, float[6] b) => (float[batch, 6, h, 16] y, int64[4] s)
    <float[6] gamma = {1, 2, 1, 2, 1, 2}, float[6] beta = {0, 0, 1, 1, 2, 2},
     float[6] mean = {0, 1, 0, 1, 0, 1}, float[6] var = {1, 4, 1, 4, 1, 4}>
    {
        conv = Conv (x, w)
        norm = BatchNormalization (conv, gamma, beta, mean, var)
        active = Relu (norm)
        y = Exp (active)
        s = Shape (y)
    }
"""


def save(path: Path, scale: float = 1.0) -> Path:
    model = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for value, shape in (("w", (6, 4, 1, 1)), ("b", (6,))):
        array = scale * rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), value))
    del model.graph.input[1:]
    onnx.save(model, path)
    return path


def compare(session_path: Path, reference_path: Path) -> Comparison:
    session = InferenceSession(session_path)
    feeds = make_feeds(session, dims={"h": 8})
    return compare_layers(session, feeds, reference_values(str(reference_path), feeds))


def test_equal_model(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx")
    comparison = compare(path, path)
    assert comparison.first_over(1e-5) is None
    assert comparison.unmatched == []
    by_name = {layer.name: layer for layer in comparison.layers}
    # the three nodes are one step, which still has a counterpart
    assert "norm" not in by_name
    assert by_name["active"].origin == ("Conv", "BatchNormalization", "Relu")
    assert by_name["active"].shape == (1, 6, 8, 16)
    assert "s" in by_name


def test_the_first_layer_that_differs_is_named(tmp_path: Path) -> None:
    comparison = compare(save(tmp_path / "ours.onnx", 1.001), save(tmp_path / "theirs.onnx"))
    first = comparison.first_over(1e-4)
    assert first is not None
    assert first.name == "active"
    assert comparison.first_over(0.1) is None
    text = layer_table(comparison, 1e-4).splitlines()
    assert [line.split()[0] for line in text if line.endswith("OVER")] == ["active", "y"]


def test_a_model_that_the_reference_cannot_run(tmp_path: Path) -> None:
    good, bad = save(tmp_path / "good.onnx"), tmp_path / "bad.onnx"
    model = onnx.load(good)
    model.graph.node[0].op_type = "Frobnicate"
    onnx.save(model, bad)
    with pytest.raises(InputError, match=r"bad\.onnx: onnx\.reference"):
        compare(good, bad)


def test_an_operator_that_the_reference_lacks_gives_one_line(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[1, 2, 4] x) => (float[1, 2, 1] y) { y = GlobalLpPool (x) }
    """)
    onnx.save(model, tmp_path / "pool.onnx")
    with pytest.raises(InputError, match=r"pool\.onnx: onnx\.reference.*GlobalLpPool") as caught:
        reference_values(str(tmp_path / "pool.onnx"), {"x": np.ones((1, 2, 4), np.float32)})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1.0, 2.0], [1.0, 4.0], (2.0, 0.5)),
        ([0.0, 1e-6], [0.0, 0.0], (1e-6, 1e-6)),
        ([np.nan, 1.0], [np.nan, 1.0], (0.0, 0.0)),
        ([np.inf, 1.0], [np.inf, 2.0], (1.0, 0.5)),
        ([np.inf, 1.0], [-np.inf, 1.0], (np.inf, np.inf)),
        ([np.nan, 1.0], [0.0, 1.0], (np.inf, np.inf)),
        ([0.0, 1.0], [np.nan, 1.0], (np.inf, np.inf)),
        ([], [], (0.0, 0.0)),
    ],
)
def test_difference(ours: list[float], theirs: list[float], expected: tuple[float, float]) -> None:
    assert difference(np.array(ours), np.array(theirs)) == expected


def test_difference_of_integers_and_bools() -> None:
    assert difference(np.array([250], np.uint8), np.array([255], np.uint8)) == (5.0, 5 / 255)
    assert difference(np.array([True]), np.array([False]))[0] == 1.0


QDQ = """
    <ir_version: 8, opset_import: ["" : 17]>
    bytes (float[1, 4] x) => (float[1, 2] y)
    <float scale = {0.1}, uint8 zero = {128}, int8[4, 2] w = {100, -100, 90, -90, 80, -80, 70, -70},
     float w_scale = {0.05}, float wide = {0.25}>
    {
        xq = QuantizeLinear (x, scale, zero)
        xf = DequantizeLinear (xq, scale, zero)
        wf = DequantizeLinear (w, w_scale)
        product = MatMul (xf, wf)
        q = QuantizeLinear (product, wide, zero)
        f = DequantizeLinear (q, wide, zero)
        y = Tanh (f)
    }
"""


@pytest.mark.parametrize(("step", "allowed"), [(0, True), (1, True), (2, False)])
def test_bytes_may_differ_by_one_quantum(step: int, allowed: bool) -> None:
    """Later results may differ as much; a difference of two quanta exceeds the tolerance."""
    session = InferenceSession(onnx.parser.parse_model(QDQ).SerializeToString())
    feeds = {"x": np.array([[1, -2, 3, 0.5]], np.float32)}
    names = ["xq", "q", "f", "y"]
    other = dict(zip(names, session.run(names, feeds), strict=True))
    other["q"] = other["q"] + np.uint8(step)
    other["f"] = other["f"] + np.float32(0.25 * step)
    other["y"] = np.tanh(other["f"])
    comparison = compare_layers(session, feeds, other)
    assert {layer.name for layer in comparison.layers} >= {"xq", "q", "y"}
    culprit = comparison.first_over(1e-4)
    assert (culprit is None) == allowed
    assert culprit is None or culprit.name == "q"
    assert (comparison.quanta(1e-4) > 0) == (step == 1)
    assert ("quantum" in layer_table(comparison, 1e-4)) == (step == 1)


def test_a_quantum_that_is_most_of_the_values_excuses_nothing() -> None:
    session = InferenceSession(onnx.parser.parse_model(QDQ).SerializeToString())
    feeds = {"x": np.array([[0.1, 0, 0, 0]], np.float32)}
    names = ["xq", "q", "f", "y"]
    other = dict(zip(names, session.run(names, feeds), strict=True))
    assert np.ptp(other["q"].astype(int)) < 8
    other["q"] = other["q"] + np.uint8(1)
    culprit = compare_layers(session, feeds, other).first_over(1e-4)
    assert culprit is not None
    assert culprit.name == "q"
