"""Limits."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from tinyonnx import GraphOptimizationLevel, InferenceSession, InputError, ResourceError, SessionOptions
from tinyonnx.limits import Limits


def test_limits_make_sense():
    for wrong in (
        {"max_nodes": -1},
        {"max_tensor_bytes": -1},
        {"max_run_bytes": -1},
        {"max_depth": -1},
        {"max_seconds": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)


@pytest.mark.parametrize(("text", "nbytes"), [("", 4 << 30), ("0.5", 1 << 29), ("16", 16 << 30)])
def test_the_environment_sets_the_bounds_of_bytes(monkeypatch, text, nbytes):
    monkeypatch.setenv("TINYONNX_MAX_MEMORY", text)
    assert (Limits().max_tensor_bytes, Limits().max_run_bytes) == (nbytes, nbytes)
    assert Limits(max_run_bytes=5).max_run_bytes == 5


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_the_environment_must_set_a_positive_number(monkeypatch, text):
    monkeypatch.setenv("TINYONNX_MAX_MEMORY", text)
    with pytest.raises(InputError, match="TINYONNX_MAX_MEMORY must be a positive number of GiB"):
        Limits()


def session(body: str, inputs: str, outputs: str, limit: int, *, level=None, weights: str = "") -> InferenceSession:
    options = SessionOptions()
    options.limits = Limits(max_run_bytes=limit)
    if level is not None:
        options.graph_optimization_level = level
    text = f'<ir_version: 8, opset_import: ["" : 17]> test ({inputs}) => ({outputs}) <{weights}> {{ {body} }}'
    return InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)


MIB = 1 << 20
CHAIN = "a = ConstantOfShape(n) b = Exp(a) c = Exp(b) y = Add(b, c)"


@pytest.mark.parametrize(
    ("body", "inputs", "feeds", "needed"),
    [
        # results of unknown shape, of known shape, in the arena, in a sequence, of a loop's iterations, which the stage
        # after the loop copies to its arena
        (CHAIN, "int64[1] n", {"n": np.array([MIB])}, 12 * MIB),
        ("a = CumSum(x, zero) b = CumSum(a, zero) c = CumSum(b, zero) y = Sum(a, b, c)", "float[n] x",
         {"x": np.ones(MIB, np.float32)}, 16 * MIB),
        ("a = Transpose<perm=[1,0]>(x) b = MatMul(a, x) y = Add(b, a)", "float[m, n] x",
         {"x": np.ones((1024, 1024), np.float32)}, 8 * MIB),
        ("a = Exp(x) s = SequenceConstruct(x, x, a) b = Neg(a) t = SequenceInsert(s, b) "
         "y = ConcatFromSequence<axis=0>(t)", "float[n] x", {"x": np.ones(MIB, np.float32)}, 20 * MIB),
        ("s = Loop(m, , x) <body = b (int64 i, bool go, float[n] v) => (bool more, float[n] w) "
         "{ more = Identity(go) w = Exp(v) }> y = Neg(s)", "float[n] x, int64 m",
         {"x": np.zeros(MIB, np.float32), "m": np.array(40)}, 8 * MIB),
        ("s, k = Loop(m, , x) <body = b (int64 i, bool go, float[n] v) => (bool more, float[n] w, float[n] kept) "
         "{ more = Identity(go) w = Identity(v) kept = Neg(v) }> y = ReduceSum(k)", "float[n] x, int64 m",
         {"x": np.zeros(MIB, np.float32), "m": np.array(4)}, 20 * MIB),
    ],
)  # fmt: skip
@pytest.mark.parametrize("level", [None, GraphOptimizationLevel.ORT_DISABLE_ALL])
def test_bytes_of_a_run(body, inputs, feeds, needed, level):
    def run(limit):
        weights = "int64 zero = {0}"
        return session(body, inputs, "float[k] y", limit, level=level, weights=weights).run(None, feeds)

    for _ in range(2):
        run(2 * needed + MIB)
    with pytest.raises(ResourceError, match=r"max_run_bytes is \d+; raise it in SessionOptions.limits"):
        run(needed // 2)


def test_views_and_what_is_released_take_no_room():
    body = "a = Exp(x) " + " ".join(
        f"{b} = Reshape({a}, flat) {c} = Neg({b}) {d} = Transpose({c})"
        for a, b, c, d in zip("adg", "beh", "cfi", "dgj", strict=True)
    )
    options = {"level": GraphOptimizationLevel.ORT_DISABLE_ALL, "weights": "int64[1] flat = {-1}"}
    x = {"x": np.zeros(MIB, np.float32)}
    for _ in range(3):
        session(f"{body} y = ReduceSum(j)", "float[n] x", "float[k] y", 9 * MIB, **options).run(None, x)
    run = session(f"{body} y = ReduceSum(j)", "float[n] x", "float[k] y", 7 * MIB, **options).run
    with pytest.raises(
        ResourceError, match=r'Neg "c" .*would hold 8388608 bytes at a time, the limit .* 7340032; raise it in'
    ):
        run(None, x)


def test_a_second_size_may_exceed_the_limit_too():
    checked = session("a = Exp(x) y = Neg(a)", "float[n] x", "float[n] y", 4 * MIB)
    for size in (10, 20, 30):
        checked.run(None, {"x": np.zeros(size, np.float32)})
    with pytest.raises(ResourceError, match="max_run_bytes"):
        checked.run(None, {"x": np.zeros(4 * MIB, np.float32)})
    checked.run(None, {"x": np.zeros(40, np.float32)})


def test_a_small_model_does_not_take_more_than_the_default_limit():
    """Its tensors are below the limit of one tensor each."""
    text = "<ir_version: 8, opset_import: ['' : 17]> g (int64[1] n) => (float y) {%s}".replace("'", '"') % (
        "a = ConstantOfShape(n) b = Neg(a) c = Neg(b) d = Sum(a, b, c) y = ReduceMax<keepdims=0>(d)"
    )
    run = InferenceSession(onnx.parser.parse_model(text).SerializeToString()).run
    with pytest.raises(ResourceError, match="max_run_bytes is 4294967296"):
        run(None, {"n": np.array([900_000_000])})  # 3.6 GB each, none of which is touched
