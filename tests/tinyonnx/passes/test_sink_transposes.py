"""Transposes between orders of channels move on until they meet their inverses."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text

TO_FIRST, TO_LAST = "Transpose<perm = [0, 3, 1, 2]>", "Transpose<perm = [0, 2, 3, 1]>"

WEIGHTS = f"{floats('w', 6, 4, 3, 3)}, {floats('c', 6)}, {floats('k', 1, 1, 1, 6)}, float half = {{0.5}}"


def sunk(
    optimise,
    body: str,
    weights: str = WEIGHTS,
    inputs: str = "float[2,4,9,8] x",
    opset: int = 18,
    rank: int = 4,
    **feeds,
):
    """Optimise a convolution, `a`, whose result is `t` with its channels last."""
    text = model_text(
        f"a = Conv<pads = [1,1,1,1]>(x, w) t = {TO_LAST}(a) {body}",
        inputs,
        f"float[{', '.join('abcde'[:rank])}] y",
        weights,
        opset=opset,
    )
    return optimise(text, **(feeds or {"x": data(2, 4, 9, 8)}))


@pytest.mark.parametrize(
    "body",
    [
        "b = Relu(t)",
        "b = Add(t, c)",
        "b = Sub(c, t)",
        "b = Mul(t, k)",
        "b = Mul(half, t)",
        "p = Sigmoid(t) b = Mul(p, t)",
        "b = Where(yes, t, c)",
        "b = Concat<axis = 3>(t, t)",
        "b = Concat<axis = -2>(t, t)",
        "b = Softmax<axis = 3>(t)",
        "b = ReduceMax(t, last)",
        "m = ReduceMean(t, space) b = Mul(m, t)",
        "b = Pad(t, pads, half)",
        "b = Slice(t, ones, fives, last)",
        "b = Clip(t, half)",
    ],
)
def test_what_is_between_two_transposes_runs_in_the_order_of_the_convolution(optimise, body):
    weights = WEIGHTS + (
        ", bool[6] yes = {1, 0, 1, 1, 0, 0}, int64[1] last = {3}, int64[2] space = {1, 2}"
        ", int64[8] pads = {0, 1, 0, 2, 0, 0, 3, 1}, int64[1] ones = {1}, int64[1] fives = {5}"
    )
    result = sunk(optimise, f"{body} u = {TO_FIRST}(b) y = Neg(u)", weights)
    result.assert_without("Transpose", 1e-5)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [17, 18])
def test_a_mean_over_the_image(optimise, keepdims, opset):
    axes = ("m = ReduceMean<axes = [1, 2], keepdims = %d>(t)", "m = ReduceMean<keepdims = %d>(t, space)")[opset >= 18]
    result = sunk(
        optimise,
        f"{axes % keepdims} y = Neg(m)",
        f"{WEIGHTS}, int64[2] space = {{1, 2}}",
        opset=opset,
        rank=4 if keepdims else 2,
    )
    assert result.ops["Transpose"] == 0
    assert result.error < 1e-5


def test_a_reduction_that_leaves_axes_in_another_order_is_transposed_behind(optimise):
    result = sunk(
        optimise, "m = ReduceMean<keepdims = 0>(t, one) y = Neg(m)", f"{WEIGHTS}, int64[1] one = {{1}}", rank=3
    )
    assert result.ops["Transpose"] == 1
    assert result.error < 1e-5


def test_squeezed_axes(optimise):
    body = "m = ReduceMax(t, one) s = Squeeze(m, one) y = Neg(s)"
    result = sunk(optimise, body, f"{WEIGHTS}, int64[1] one = {{1}}", rank=3)
    assert result.ops["Transpose"] == 1
    assert result.error < 1e-5


def test_transposes_that_meet_are_joined(optimise):
    result = sunk(optimise, "r = Relu(t) u = Transpose<perm = [2, 0, 1, 3]>(r) y = Neg(u)")
    assert result.ops["Transpose"] == 1
    assert result.error < 1e-5


def test_a_residual_of_two_convolutions(optimise):
    """Frameworks whose channels come last export such blocks: five Transposes disappear."""
    weights = f"{floats('w', 6, 4, 3, 3)}, {floats('v', 6, 6, 1, 1)}, {floats('c', 6)}"
    body = f"""s = Add(t, c) r = Relu(s) u = {TO_FIRST}(r) b = Conv(u, v) q = {TO_LAST}(b) e = Mul(q, c)
        f = Add(e, r) g = Relu(f) h = {TO_FIRST}(g) y = Neg(h)"""
    result = sunk(optimise, body, weights)
    assert "Transpose" not in result.ops
    assert result.applied("folded into the weights") == 2
    assert result.error < 5e-5  # of numbers up to 100


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("n = Relu(t) m = Neg(n) f = Reshape(t, flat) g = Reshape(m, flat) y = Add(f, g)", "is read in its order else"),
        ("y = Add(t, z)", "another operand is not transposed"),
        ("v = Transpose<perm = [0, 3, 1, 2]>(z) y = Add(t, v)", "transposed in different ways"),
        ("y = Pad(t, amounts, half, ones2)", "its pads are not constant, or are given for some axes only"),
        ("m = ReduceMax(t) y = Neg(m)", "its axes are not known, or all"),
        ("y = Slice(t, begins, ends)", "its axes are not constant"),
        ("r = Relu(t) y = Add(r, five)", "its result has more axes"),
    ],
)
def test_what_keeps_a_transpose_before_a_node(optimise, body, reason):
    weights = (
        f"{floats('w', 6, 4, 3, 3)}, {floats('five', 2, 1, 1, 1, 1)}, int64[1] flat = {{-1}}, int64[1] ones = {{1}}, "
        "int64[1] ones2 = {2}, int64[2] amounts = {1, 2}, float half = {0.5}, int64[3] begins = {0, 1, 1}, "
        "int64[3] ends = {2, 7, 5}"
    )
    inputs, feeds = "float[2,4,9,8] x", {"x": data(2, 4, 9, 8)}
    if "z)" in body:
        shape = (2, 8, 6, 9) if "perm" in body else (2, 9, 8, 6)
        inputs, feeds["z"] = f"{inputs}, float[{','.join(map(str, shape))}] z", data(*shape)
    result = sunk(optimise, body, weights, inputs, rank=5 if "five" in body else 1 if "flat" in body else 4, **feeds)
    assert result.refused(reason), result.refusals()
    assert result.error < 1e-5


def test_an_intermediate_result_keeps_its_name_and_order():
    import onnx.parser

    import tinyonnx

    text = model_text(
        f"a = Conv<pads = [1,1,1,1]>(x, w) t = {TO_LAST}(a) b = Relu(t) u = {TO_FIRST}(b) y = Neg(u)",
        "float[2,4,9,8] x", "float[2,6,9,8] y", floats("w", 6, 4, 3, 3),
    )  # fmt: skip
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    y, b, t = session.run(["y", "b", "t"], {"x": data(2, 4, 9, 8)})
    np.testing.assert_array_equal(b, np.maximum(t, 0))
    np.testing.assert_array_equal(y, -b.transpose(0, 3, 1, 2))


def test_heads_of_attention_stay(optimise):
    """Other passes expect them in their places."""
    body = "t = Transpose<perm = [0, 2, 1, 3]>(x) s = Mul(t, half) y = Neg(s)"
    result = optimise(
        model_text(body, "float[2,3,4,5] x", "float[2,4,3,5] y", "float half = {0.5}"), x=data(2, 3, 4, 5)
    )
    assert not result.applied("moved behind")
