"""Spelled-out Swish."""

from __future__ import annotations

from tests.tinyonnx.passes.conftest import data, floats, model_text


def test_swish_into_the_convolution(optimise):
    text = model_text(
        "c = Conv(x, w) s = Sigmoid(c) y = Mul(s, c)",
        "float[1, 3, 4, 4] x", "float[1, 2, 4, 4] y", floats("w", 2, 3, 1, 1),
    )  # fmt: skip
    result = optimise(text, x=data(1, 3, 4, 4))
    assert result.ops == {"FusedConv": 1}
    assert result.error < 1e-6


def test_swish_with_a_factor(optimise):
    text = model_text(
        "a = Mul(x, f) s = Sigmoid(a) y = Mul(x, s)", "float[2, 5] x", "float[2, 5] y", "float f = {1.702}"
    )
    result = optimise(text, x=data(2, 5))
    assert result.ops == {"Swish": 1}
    assert result.error < 1e-6


def test_swish_refused(optimise):
    text = model_text("s = Sigmoid(x) y = Mul(x, s)", "float[2, 5] x", "float[2, 5] y, float[2, 5] s")
    result = optimise(text, x=data(2, 5))
    assert result.ops == {"Sigmoid": 1, "Mul": 1}
    assert any("as an output" in line for line in result.refusals())
    text = model_text("s = Sigmoid(z) y = Mul(x, s)", "float[2, 5] x, float[2, 5] z", "float[2, 5] y")
    assert optimise(text, x=data(2, 5), z=data(2, 5)).ops == {"Sigmoid": 1, "Mul": 1}
