"""Repeated runs, whose feeds aren't checked again, give the results and errors of first runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import tinyonnx
from tinyonnx.codegen.kernel import DISABLED

TEXT = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 2] x, int64 k) => (float[N, 2] y, int64 n)
    <float[2] bias = {1.0, 2.0}> {
        y = Add (x, bias)
        n = Add (k, k)
    }
"""
X, K = np.array([[1, 2], [3, 4]], np.float32), np.array(3)
BIAS = np.array([1, 2], np.float32)


@pytest.fixture
def session() -> tinyonnx.InferenceSession:
    made = tinyonnx.InferenceSession(onnx.parser.parse_model(TEXT).SerializeToString())
    for _ in range(3):
        y, n = made.run(None, {"x": X, "k": K})
        np.testing.assert_array_equal(y, X + BIAS)
        assert n == 6
    return made


def test_names_and_order_of_feeds(session: tinyonnx.InferenceSession) -> None:
    for _ in range(2):
        assert session.run(["n"], {"k": K, "x": X})[0] == 6
        np.testing.assert_array_equal(session.run(["y", "x"], {"k": K, "x": X})[1], X)
        np.testing.assert_array_equal(session.run(("y",), {"x": -X, "k": K})[0], -X + BIAS)
        names: Any = (name for name in ("n", "y"))
        assert [r.shape for r in session.run(names, {"x": X, "k": K})] == [(), (2, 2)]
        assert session.run([], {"x": X, "k": K})[1] == 6


def test_results_are_the_callers(session: tinyonnx.InferenceSession) -> None:
    first = session.run(None, {"x": X, "k": K})[0]
    kept = first.copy()
    session.run(None, {"x": X * 5, "k": K})
    np.testing.assert_array_equal(first, kept)
    given = session.run(["x"], {"x": X, "k": K})[0]
    assert not np.shares_memory(given, X)


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": X, "k": np.array([3])},
        {"x": X.astype(">f4"), "k": K},
        {"x": X.tolist(), "k": 3},
        {"x": np.asfortranarray(X), "k": K},
        {"x": X[:, ::-1][:, ::-1], "k": K},
        {"x": tinyonnx.OrtValue.ortvalue_from_numpy(X), "k": K},
    ],
)
def test_feeds_that_are_converted(session: tinyonnx.InferenceSession, feeds: dict[str, Any]) -> None:
    for _ in range(3):
        y, n = session.run(None, feeds)
        np.testing.assert_array_equal(y, X + BIAS)
        assert (n, n.shape) == (6, ())


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": X},
        {"x": X, "k": K, "z": K},
        {"x": X.astype(np.float64), "k": K},
        {"x": X[0], "k": K},
        {"x": X[:, :1], "k": K},
        {"x": X, "k": np.array([3, 4])},
    ],
)
def test_feeds_that_do_not_fit(session: tinyonnx.InferenceSession, feeds: dict[str, Any]) -> None:
    for _ in range(2):
        with pytest.raises(tinyonnx.InputError):
            session.run(None, feeds)


def test_overridden_initializers_and_levels(session: tinyonnx.InferenceSession) -> None:
    text = TEXT.replace("int64 k)", "int64 k, float[2] bias)")
    made = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    options = made.get_session_options()
    bias = np.array([5, 6], np.float32)
    for level in (tinyonnx.GraphOptimizationLevel.ORT_ENABLE_ALL, tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL):
        options.graph_optimization_level = level
        for _ in range(3):
            np.testing.assert_array_equal(made.run(["y"], {"x": X, "k": K})[0], X + BIAS)
            np.testing.assert_array_equal(made.run(["y"], {"x": X, "k": K, "bias": bias})[0], X + bias)
    names = [type(step).__name__ for step in made.plan_for(None, {"x": X, "k": K}).steps]
    assert set(names) == {"NumpyStep"}


def test_strings_are_checked_in_each_run() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (string[N] x) => (string[N] y) { y = Identity (x) }
    """
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for _ in range(2):
        assert session.run(None, {"x": np.array(["a"], object)})[0].tolist() == ["a"]
    with pytest.raises(tinyonnx.InputError, match="strings"):
        session.run(None, {"x": np.array([7], object)})


def test_many_kinds_of_runs(session: tinyonnx.InferenceSession) -> None:
    for _ in range(2):
        for n in range(1, 25):
            x = np.full((n, 2), n, np.float32)
            np.testing.assert_array_equal(session.run(["y"], {"x": x, "k": K})[0], x + BIAS)


def test_names_of_outputs_that_are_not_strings(session: tinyonnx.InferenceSession) -> None:
    wrong: Any
    for wrong in ([["y"]], [{}], [3], [None], ["y", 3]):
        with pytest.raises(tinyonnx.InputError, match="output names must be strings, got "):
            session.run(wrong, {"x": X, "k": K})
    names: Any = np.array(["n", "y"])
    assert session.run(names, {"x": X, "k": K})[0] == 6


@pytest.mark.skipif(DISABLED, reason="without the JIT there are no plans for many sizes")
def test_unseen_sizes_go_to_the_only_plan(session: tinyonnx.InferenceSession, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (2, 5, 7):
        session.run(None, {"x": np.zeros((n, 2), np.float32), "k": K})
    with monkeypatch.context() as patch:
        patch.setattr(session, "_request", None)  # which checks feeds
        for n in (11, 3, 11, 40):
            x = np.full((n, 2), n, np.float32)
            y, doubled = session.run(None, {"x": x, "k": K})
            np.testing.assert_array_equal(y, x + BIAS)
            assert doubled == 6
    for n in (0, 1, 2):
        x = np.full((n, 2), n, np.float32)
        np.testing.assert_array_equal(session.run(["y"], {"x": x, "k": K})[0], x + BIAS)
    for wrong in (np.zeros((4, 3), np.float32), np.zeros((4, 2, 1), np.float32), np.zeros((4, 2))):
        with pytest.raises(tinyonnx.InputError):
            session.run(None, {"x": wrong, "k": K})


def test_unseen_sizes_of_one_name_must_be_equal() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] a, float[N, 2] b) => (float[N, 2] y) { y = Add (a, b) }
    """
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for n in (2, 5, 7):
        a = np.full((n, 2), n, np.float32)
        np.testing.assert_array_equal(session.run(None, {"a": a, "b": a})[0], a + a)
    one = np.ones((1, 2), np.float32)
    for n in (3, 9):  # which numpy and ONNX broadcast
        a = np.full((n, 2), n, np.float32)
        np.testing.assert_array_equal(session.run(None, {"a": a, "b": one})[0], a + one)
        np.testing.assert_array_equal(session.run(None, {"a": a, "b": a})[0], a + a)
        with pytest.raises(tinyonnx.NodeError):
            session.run(None, {"a": a, "b": np.ones((n + 1, 2), np.float32)})


def test_runs_with_different_plans_for_sizes() -> None:
    # the sizes of the result depend on whether there are two rows or more: no plan holds for all sizes
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[M, 2] y)
        <int64[1] zero = {0}, int64[1] four = {4}> { y = Slice (x, zero, four, zero) }
    """
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for n in (2, 9, 3, 5, 1, 0, 4, 11, 2, 8, 6, 1, 7):
        x = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x[:4])
