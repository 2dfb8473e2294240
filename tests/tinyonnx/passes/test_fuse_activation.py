"""Activations in the epilogue of Conv and Gemm."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text, unoptimised


@pytest.mark.parametrize(
    "activation",
    [
        "Relu(c)",
        "HardSwish(c)",
        "Sigmoid(c)",
        "Tanh(c)",
        "LeakyRelu<alpha=0.3>(c)",
        "HardSigmoid(c)",
        "HardSigmoid<alpha=0.3, beta=0.1>(c)",
    ],
)
@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_activation_goes_into_the_epilogue(optimise, op, activation):
    if op == "Conv":
        body, shape, weights = "c = Conv<pads=[1,1,1,1]>(x, w)", (2, 4, 6, 5), floats("w", 8, 4, 3, 3)
    else:
        body, shape, weights = "c = Gemm<transB=1>(x, w, b)", (3, 4), f"{floats('w', 8, 4)}, {floats('b', 8)}"
    dims = ",".join(map(str, shape))
    out = "n,c,h,k" if op == "Conv" else "n,c"
    text = model_text(f"{body} y = {activation}", f"float[{dims}] x", f"float[{out}] y", weights)
    result = optimise(text, x=data(*shape))
    assert dict(result.ops) == {f"Fused{op}": 1}
    assert result.graph.nodes[0].origin == ("c", "y")
    assert result.error < 1e-5


def test_nan_and_infinity_survive_fusion(optimise):
    body = "c = Conv(x, w) y = Relu(c)"
    text = model_text(body, "float[1,1,1,4] x", "float[n,c,h,k] y", "float[1,1,1,1] w = {1.0}")
    x = np.array([np.nan, np.inf, -np.inf, -1.0], np.float32).reshape(1, 1, 1, 4)
    model_nodes = optimise(text, x=np.zeros_like(x)).ops
    assert dict(model_nodes) == {"FusedConv": 1}
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (y,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(y.reshape(-1), [np.nan, np.inf, 0.0, 0.0])


X, Y = "float[1,4,6,5] x", "float[n,c,h,k] y"
W = floats("w", 4, 4, 1, 1)


@pytest.mark.parametrize(
    ("activation", "opset"),
    [
        ("Clip(c, low, high)", 17),
        ("Clip(c, low)", 17),
        ('Clip(c, "", high)', 17),
        ("Clip(c)", 17),
        ("Clip<min=-0.5, max=0.25>(c)", 10),
        ("Clip<max=0.25>(c)", 10),
        ("LeakyRelu(c)", 17),
        ("Clip(c, high, low)", 17),
    ],
)
def test_bounds_and_defaults(optimise, activation, opset):
    constants = "float low = {-0.5}, float high = {0.25}" if opset > 10 else ""
    text = model_text(f"c = Conv(x, w) y = {activation}", X, Y, ", ".join(filter(None, [W, constants])), opset)
    result = optimise(text, x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"FusedConv": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_swish_keeps_its_factor(optimise, factor):
    body = "c = Conv(x, w) a = Mul(c, f) s = Sigmoid(a) y = Mul(c, s)"
    result = optimise(model_text(body, X, Y, f"{W}, float f = {{{factor}}}"), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"FusedConv": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize("body", ["c = Conv(x, w) y = Clip(c, low)", "c = Conv(x, w) y = Clip(c, zero, low)"])
def test_a_bound_that_is_not_constant_stays(optimise, body):
    text = model_text(body, f"{X}, float low", Y, f"{W}, float zero = {{0.0}}")
    result = optimise(text, x=data(1, 4, 6, 5), low=np.array(0.25, np.float32))
    assert dict(result.ops) == {"Conv": 1, "Clip": 1}
    assert result.error < 1e-5


def test_only_activations_are_fused(optimise):
    result = optimise(model_text("c = Conv(x, w) y = Abs(c)", X, Y, W), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"Conv": 1, "Abs": 1}
    result = optimise(model_text("c = Abs(x) y = Relu(c)", X, Y), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"Abs": 1, "Relu": 1}


def test_a_second_activation_stays(optimise):
    result = optimise(model_text("c = Conv(x, w) a = Tanh(c) y = Sigmoid(a)", X, Y, W), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"FusedConv": 1, "Sigmoid": 1}
    assert result.refused("has the activation Tanh already")
    assert result.error < 1e-5


@pytest.mark.parametrize("other", ["z = Neg(c)", "z = Identity(c)", "z = Identity(y) u = Neg(c)"])
def test_a_result_that_is_read_elsewhere_stays(optimise, other):
    outputs = f"{Y}, float[n,c,h,k] z" + (", float[n,c,h,k] u" if "u =" in other else "")
    result = optimise(model_text(f"c = Conv(x, w) y = Relu(c) {other}", X, outputs, W), x=data(1, 4, 6, 5))
    assert result.ops["Conv"] == result.ops["Relu"] == 1
    assert result.refused("not fused with c: its output is read")
    assert result.error < 1e-5


def test_a_result_that_a_subgraph_captures_stays(optimise):
    then, other = "t () => (float[n,c,h,k] a) { a = Neg(c) }", "e () => (float[n,c,h,k] b) { b = Abs(c) }"
    branches = f"then_branch = {then}, else_branch = {other}"
    body = f"c = Conv(x, w) y = Relu(c) z = If (yes) <{branches}>"
    text = model_text(body, f"{X}, bool yes", f"{Y}, float[n,c,h,k] z", W)
    for yes in (True, False):
        result = optimise(text, x=data(1, 4, 6, 5), yes=np.array(yes))
        assert result.ops["Conv"] == result.ops["Relu"] == 1
        assert result.error < 1e-5


def test_integers_stay(optimise):
    """The bounds of a fused Clip are floats: here they would be off by one."""
    bound = (1 << 53) + 1
    text = model_text(
        "g = Gemm(a, b) y = Clip(g, low)",
        "int64[1,1] a",
        "int64[n,c] y",
        f"int64[1,1] b = {{1}}, int64 low = {{{bound}}}",
    )
    result = optimise(text, [np.array([[bound]])], a=np.array([[5]]))
    assert dict(result.ops) == {"Gemm": 1, "Clip": 1}
    assert result.refused("its results are integers")


def test_a_gemm_that_broadcasts_otherwise_stays(optimise):
    text = model_text(
        "g = Gemm<broadcast=1>(a, b, c) y = Relu(g)",
        "float[2,3] a",
        "float[n,c] y",
        f"{floats('b', 3, 4)}, {floats('c', 4)}",
        opset=6,
    )
    newer = text.replace("<broadcast=1>", "").replace('"" : 6', '"" : 17')
    a = data(2, 3)
    (expected,) = tinyonnx.InferenceSession(onnx.parser.parse_model(newer).SerializeToString()).run(None, {"a": a})
    result = optimise(text, [expected], a=a)
    assert dict(result.ops) == {"Gemm": 1, "Relu": 1}
    assert result.refused("broadcasts as in opset 6")
    assert optimise(text.replace("<broadcast=1>", "").replace('"" : 6', '"" : 7'), a=a).ops == {"FusedGemm": 1}


def test_an_old_convolution_is_fused(optimise):
    expected = np.maximum(data(1, 4, 6, 5), 0)
    identity = ", ".join(str(float(i == j)) for i in range(4) for j in range(4))
    text = model_text("c = Conv(x, w) y = Relu(c)", X, Y, f"float[4,4,1,1] w = {{{identity}}}", opset=6)
    assert optimise(text, [expected], x=data(1, 4, 6, 5)).ops == {"FusedConv": 1}


@pytest.mark.parametrize("bounds", ["nan, one", "zero, nan"])
def test_a_bound_that_is_not_a_number_stays(optimise, bounds):
    constants = f"{W}, float zero = {{0.0}}, float one = {{1.0}}"
    text = model_text(f"nan = Div(zero, zero) c = Conv(x, w) y = Clip(c, {bounds})", X, Y, constants)
    result = optimise(text, unoptimised(text, x=data(1, 4, 6, 5)), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"Conv": 1, "Clip": 1}


def test_an_activation_of_another_domain_stays():
    tinyonnx.op("Relu", domain="tests.activation")(lambda x: -x)
    text = f"""<ir_version: 8, opset_import: ["" : 17, "tests.activation" : 1]>
        g (float[1,3,5,5] x) => (float[n,m,h,k] y, float[n,m,h,k] c) <{floats("w", 2, 3, 1, 1)}>
        {{ c = Conv(x, w) y = tests.activation.Relu(c) }}"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    y, c = session.run(None, {"x": data(1, 3, 5, 5)})
    np.testing.assert_array_equal(y, -c)
    (alone,) = session.run(["y"], {"x": data(1, 3, 5, 5)})
    np.testing.assert_array_equal(alone, y)


@pytest.mark.parametrize("attributes", ["", "<alpha = 1.7>"])
def test_swish_goes_into_the_epilogue(optimise, attributes):
    x = data(1, 3, 5, 5)
    body, weights = f"c = Conv(x, w) y = Swish{attributes}(c)", floats("w", 2, 3, 1, 1)
    text = model_text(body, "float[1,3,5,5] x", "float[n,m,h,k] y", weights, opset=24)
    result = optimise(text, unoptimised(text, x=x), x=x)
    assert dict(result.ops) == {"FusedConv": 1}
    assert result.error < 1e-5
