"""Derivatives against differences of the function itself."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx

HEADER = '<ir_version: 8, opset_import: ["": 17, "ai.onnx.preview.training": 1]>'


def session(body: str, inputs: str, outputs: str, gradient: str) -> tinyonnx.InferenceSession:
    text = f"{HEADER} test ({inputs}) => ({outputs}) {{ {body} {gradient} }}"
    return tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())


@pytest.mark.parametrize(
    "body",
    [
        "y = Add(a, b)", "y = Sub(a, b)", "y = Mul(a, b)", "y = Div(a, b)", "y = Pow(a, b)", "y = Sum(a, b, a)",
        "c = Mul(a, b) y = Mul(c, a)", "c = Exp(a) y = Sub(c, b)", "c = Log(a) d = Sqrt(b) y = Div(c, d)",
        "c = Sin(a) d = Cos(b) y = Mul(c, d)", "c = Tanh(a) d = Sigmoid(b) y = Mul(c, d)",
        "c = Softplus(a) d = Reciprocal(b) y = Mul(c, d)", "c = Neg(a) d = Abs(c) e = Relu(b) y = Add(d, e)",
        "c = Transpose(a) d = MatMul(b, c) y = Identity(d)", "y = Gemm<transB=1, alpha=0.5>(a, b)",
        "y = Gemm<transA=1>(a, b)", "c = ReduceSum(a) y = Mul(c, b)", "c = ReduceMean<axes=[1]>(a) y = Mul(c, b)",
        "c = ReduceMean<axes=[1], keepdims=0>(a) d = ReduceMean(b) y = Mul(c, d)",
        "c = Flatten<axis=0>(a) d = Flatten<axis=0>(b) y = Mul(c, d)",
    ],
)  # fmt: skip
def test_against_differences(body: str) -> None:
    inputs, outputs = "double[2,3] a, double[2,3] b", "double[n,m] y, double[2,3] da, double[2,3] db"
    s = session(body, inputs, outputs, 'da, db = ai.onnx.preview.training.Gradient<xs=["a","b"], y="y">(a, b)')
    rng = np.random.default_rng(0)
    feeds = {name: rng.uniform(0.5, 2, (2, 3)) for name in "ab"}
    _, *gradients = s.run(None, feeds)
    for name, gradient in zip("ab", gradients, strict=True):
        for place in np.ndindex(2, 3):
            step = np.zeros((2, 3))
            step[place] = 1e-6
            up, down = (s.run(["y"], feeds | {name: feeds[name] + sign * step})[0].sum() for sign in (1, -1))
            assert gradient[place] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-8)


def test_broadcast_operands_and_constants() -> None:
    s = session(
        "k = Constant<value_floats=[2.0, 3.0, 4.0]>() c = Mul(a, k) y = Mul(c, z)",
        "float[2,1] a, float[3] z", "float[2,3] y, float[2,1] da",
        'da = ai.onnx.preview.training.Gradient<xs=["a"], zs=["z"], y="y">(a, z)',
    )  # fmt: skip
    feeds = {"a": np.ones((2, 1), np.float32), "z": np.array([1, 10, 100], np.float32)}
    np.testing.assert_allclose(s.run(["da"], feeds)[0], [[432], [432]])


def test_with_respect_to_an_intermediate_tensor() -> None:
    s = session(
        "h = Exp(a) y = Mul(h, h)", "float[2] a", "float[2] y, float[2] dh",
        'dh = ai.onnx.preview.training.Gradient<xs=["h"], y="y">(h)',
    )  # fmt: skip
    np.testing.assert_allclose(s.run(["dh"], {"a": np.zeros(2, np.float32)})[0], [2, 2])


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        ('da = ai.onnx.preview.training.Gradient<xs=["q"], y="y">(a)', 'tensor "q" does not exist'),
        ('da = ai.onnx.preview.training.Gradient<xs=["a"], y="y">(a)', '"b", which is in neither'),
        ('da = ai.onnx.preview.training.Gradient<xs=["a","b"], y="y">(a)', "1 inputs for the 2"),
    ],
)
def test_what_cannot_be_attached(gradient: str, message: str) -> None:
    with pytest.raises(tinyonnx.ModelError, match=message):
        session("y = Mul(a, b)", "float[2] a, float[2] b", "float[2] y, float[2] da", gradient)


def test_an_operator_without_a_derivative() -> None:
    gradient = 'da = ai.onnx.preview.training.Gradient<xs=["a"], y="y">(a)'
    s = session("y = Erf(a)", "float[2] a", "float[2] y, float[2] da", gradient)
    with pytest.raises(tinyonnx.NodeError, match='Erf "y" has no derivative'):
        s.run(None, {"a": np.ones(2, np.float32)})
