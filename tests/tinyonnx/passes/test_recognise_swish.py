"""Spelled-out Swish."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text, unoptimised


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


@pytest.mark.parametrize(
    "body",
    ["s = Sigmoid(x) y = Mul(s, x)", "s = Sigmoid(x) y = Mul(x, s)", "a = Mul(f, x) s = Sigmoid(a) y = Mul(s, x)"],
)
def test_swish_in_every_order(optimise, body):
    result = optimise(
        model_text(body, "float[2, 5] x", "float[2, 5] y", "float f = {1.5}" if "f" in body else ""), x=data(2, 5)
    )
    assert result.ops == {"Swish": 1}
    assert result.error < 1e-6


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul(x, vector) s = Sigmoid(a) y = Mul(x, s)",
        "a = Div(x, f) s = Sigmoid(a) y = Mul(x, s)",
        "a = Mul(x, x) s = Sigmoid(a) y = Mul(x, s)",
        "n = Neg(x) a = Mul(n, f) s = Sigmoid(a) y = Mul(x, s)",
        "t = Tanh(x) y = Mul(x, t)",
        "s = Sigmoid(x) y = Add(x, s)",
        "s = Sigmoid(x) y = Mul(s, s)",
    ],
)
def test_what_only_looks_like_swish_stays(optimise, body):
    constants = ", ".join(["float f = {1.5}", floats("vector", 5)])
    result = optimise(model_text(body, "float[2, 5] x", "float[n, c] y", constants), x=data(2, 5))
    result.assert_without("Swish", 1e-6)


def test_a_factor_that_raises_the_rank_stays(optimise):
    text = model_text(
        "a = Mul(x, f) s = Sigmoid(a) y = Mul(x, s)", "float[2, 5] x", "float[b, n, c] y", "float[1,1,1] f = {1.5}"
    )
    result = optimise(text, x=data(2, 5))
    result.assert_without("Swish", 1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul(x, f) s = Sigmoid(a) y = Mul(x, s) z = Identity(a)",
        "a = Mul(x, f) s = Sigmoid(a) y = Mul(x, s) z = Identity(s)",
    ],
)
def test_inner_values_that_are_read_elsewhere(optimise, body):
    result = optimise(
        model_text(body, "float[2, 5] x", "float[n, c] y, float[n, c] z", "float f = {1.5}"), x=data(2, 5)
    )
    assert "Swish" not in result.ops
    assert result.refused("its output is read")
    assert result.error < 1e-6


def test_a_factor_that_is_an_input_stays(optimise):
    text = model_text("a = Mul(x, f) s = Sigmoid(a) y = Mul(x, s)", "float[2, 5] x, float f", "float[n, c] y")
    result = optimise(text, x=data(2, 5), f=np.array(1.5, np.float32))
    result.assert_without("Swish", 1e-6)


def test_an_input_of_unknown_shape(optimise):
    """A factor with an axis of its own might raise its rank."""
    body = "z = Reshape(x, target) a = Mul(z, f) s = Sigmoid(a) y = Mul(z, s)"
    text = model_text(body, "float[3, 5] x, int64[2] target", "float[n, c] y", "float f = {1.5}")
    result = optimise(text, x=data(3, 5), target=np.array([3, 5]))
    result.assert_without("Swish", 1e-6)


def test_bfloat16_keeps_its_three_roundings(optimise):
    text = model_text("s = Sigmoid(x) y = Mul(x, s)", "bfloat16[2, 50] x", "bfloat16[n, c] y")
    x = data(2, 50).astype(ml_dtypes.bfloat16)
    result = optimise(text, unoptimised(text, x=x), x=x)
    assert result.refused("its input has no floats")
    assert result.error == 0
