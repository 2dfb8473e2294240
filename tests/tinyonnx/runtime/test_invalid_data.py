"""Invalid data that kernels find: the error is the operator's own, whichever way the model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tinyonnx
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.onnxfile import graph_cache
from tinyonnx.runtime.stored_plan import StoredPlan

TEXT = """<ir_version: 8, opset_import: ["": 17]>
    g (float[N, 3] x, int64[K] i) => (float[K, 3] y) {
        a = Relu (x)
        rows = Gather <axis = 0> (a, i)
        b = Neg (rows)
        y = Exp (b)
    }"""

LOOP = """<ir_version: 8, opset_import: ["": 17]>
    g (float[4, 3] x, int64[1] first) => (float[1, 3] y, float[M, 1, 3] all) {
        count = Constant <value_int = 6> ()
        i0, y, all = Loop <body = step (int64 n, bool going, int64[1] i, float[1, 3] last)
            => (bool still, int64[1] next, float[1, 3] row, float[1, 3] each) {
            still = Identity (going)
            row = Gather <axis = 0> (x, i)
            one = Constant <value = int64[1] {1}> ()
            next = Add (i, one)
            each = Neg (row)
        }> (count, , first, zero)
    }"""


def model(text: str) -> bytes:
    content: bytes = onnx.parser.parse_model(text).SerializeToString()
    return content


def feeds(*indices: int) -> dict[str, Any]:
    return {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "i": np.array(indices)}


def expected(*indices: int) -> np.ndarray:
    return np.exp(-feeds()["x"][list(indices)])


def test_gather_has_a_kernel() -> None:
    plan = tinyonnx.InferenceSession(model(TEXT)).plan_for(None, feeds(1, 2))
    assert not plan.numpy_steps
    assert plan.status is not None


@pytest.mark.parametrize("threads", [1, 3])
def test_an_index_out_of_range(threads: int) -> None:
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    session = tinyonnx.InferenceSession(model(TEXT), options)
    for wrong in (4, -5, 2**62):
        with pytest.raises(tinyonnx.NodeError, match=rf'Gather "rows".*index {wrong} is out of range for 4') as caught:
            session.run(None, feeds(1, wrong))
        assert "f32[4,3], i64[2]" in str(caught.value)
        np.testing.assert_allclose(session.run(None, feeds(1, -1))[0], expected(1, -1), rtol=1e-5)


def test_every_way_to_run() -> None:
    session = tinyonnx.InferenceSession(model(TEXT))
    with pytest.raises(tinyonnx.NodeError, match="index 7 is out of range"):
        list(session.trace(feeds(7)))
    with pytest.raises(tinyonnx.NodeError, match="index 7 is out of range"):
        session.run(None, feeds(7), tinyonnx.RunOptions())
    with pytest.raises(tinyonnx.NodeError, match="index 7 is out of range"):
        session.run(["b"], feeds(7))
    np.testing.assert_allclose(session.run(None, feeds(3))[0], expected(3), rtol=1e-5)


def test_plans_for_many_sizes() -> None:
    session = tinyonnx.InferenceSession(model(TEXT))
    for count in (1, 2, 5, 9, 4):
        indices = [n % 4 for n in range(count)]
        np.testing.assert_allclose(session.run(None, feeds(*indices))[0], expected(*indices), rtol=1e-5)
        with pytest.raises(tinyonnx.NodeError, match=r"index 4 is out of range for 4.*i64\[" + str(count + 1)):
            session.run(None, feeds(*indices, 4))
    assert [len(plans._plans) for plans in session._sized.values()] == ([] if DISABLED else [1]), "not one per error"


@pytest.mark.skipif(DISABLED, reason="stored plans need machine code")
def test_stored_plans(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "_SMALL", 0)
    path = tmp_path / "model.onnx"
    path.write_bytes(model(TEXT))
    for _ in range(3):
        session = tinyonnx.InferenceSession(str(path))
        np.testing.assert_allclose(session.run(None, feeds(1, 2, 3))[0], expected(1, 2, 3), rtol=1e-5)
        with pytest.raises(tinyonnx.NodeError, match=r'Gather "rows".*index 4 is out of range for 4'):
            session.run(None, feeds(1, 2, 4))
        np.testing.assert_allclose(session.run(None, feeds(0, 2, 3))[0], expected(0, 2, 3), rtol=1e-5)
    (plans,) = session._sized.values()
    assert [type(plan) for plan in plans._plans] == [StoredPlan]


@pytest.mark.skipif(DISABLED, reason="loops are compiled by the JIT")
def test_a_loop() -> None:
    text = LOOP.replace("first, zero)", "first, start)").replace(
        "int64[1] first)", "int64[1] first, float[1, 3] start)"
    )
    session = tinyonnx.InferenceSession(model(text))
    x = feeds()["x"]
    data = {"x": x, "first": np.array([0]), "start": np.zeros((1, 3), np.float32)}
    with pytest.raises(tinyonnx.NodeError, match=r"Gather .*index 4 is out of range for 4 elements.*f32\[4,3\]"):
        session.run(None, data)
    last, every = session.run(None, data | {"first": np.array([-4])})
    np.testing.assert_array_equal(last, x[1:2])
    np.testing.assert_array_equal(every[:, 0], -x[[0, 1, 2, 3, 0, 1]])


@pytest.mark.parametrize("threads", [1, 2])
def test_loops_in_plans_for_many_sizes(threads: int) -> None:
    text = LOOP.replace("first, zero)", "first, start)").replace("float[4, 3] x", "float[N, 3] x")
    text = text.replace("int64[1] first)", "int64[1] first, float[1, 3] start)")
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    session = tinyonnx.InferenceSession(model(text), options)
    for n in (9, 7, 8, 2, 7, 12, 6, 1):
        x = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
        data = {"x": x, "first": np.array([n - 5]), "start": np.zeros((1, 3), np.float32)}
        with pytest.raises(tinyonnx.NodeError, match=rf"Gather .*index .* is out of range for {n} elements"):
            session.run(None, data)
        if n >= 6:
            last, every = session.run(None, data | {"first": np.array([n - 6])})
            np.testing.assert_array_equal(last, x[-1:])
            np.testing.assert_array_equal(every[:, 0], -x[-6:])
    (plans,) = session._sized.values()
    assert not plans.refused
    if not DISABLED:
        assert plans._plans


def test_data_that_updates_read_too_is_not_overwritten() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[4] x, int64[4, 1] i) => (float[4] z) {
            a = Neg (x)
            y = ScatterND (a, i, a)
            z = Neg (y)
        }"""
    x, i = np.arange(4, dtype=np.float32), np.array([[1], [2], [3], [0]])
    result = tinyonnx.InferenceSession(model(text)).run(None, {"x": x, "i": i})[0]
    np.testing.assert_array_equal(result, x[[3, 0, 1, 2]])


TOP = """<ir_version: 8, opset_import: ["": 17]>
    g (float[N, M] x) => (float[N, 3] y, int64[N, 3] i) {
        three = Constant <value = int64[1] {3}> ()
        a = Relu (x)
        y, i = TopK (a, three)
    }"""


@pytest.mark.parametrize("sizes", [[2], [5, 2, 4, 2, 3, 1]])
def test_more_elements_than_there_are(sizes: list[int]) -> None:
    session = tinyonnx.InferenceSession(model(TOP))
    for size in sizes:
        x = np.arange(2 * size, dtype=np.float32).reshape(2, size)
        if size < 3:
            with pytest.raises(tinyonnx.NodeError, match=f"k is 3, the axis has {size} elements"):
                session.run(None, {"x": x})
        else:
            values, positions = session.run(None, {"x": x})
            np.testing.assert_array_equal(values, x[:, ::-1][:, :3])
            np.testing.assert_array_equal(positions[0], [size - 1, size - 2, size - 3])
