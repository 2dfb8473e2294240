"""Depthwise convolutions and the 1×1 ones before and after them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import model_text


def numbers(n: int) -> str:
    return "{" + ", ".join(f"{v:.3f}" for v in np.random.default_rng(n).normal(size=n)) + "}"


WEIGHTS = ", ".join(
    (
        f"float[24, 8, 1, 1] w = {numbers(192)}",
        f"float[24, 1, 3, 3] t = {numbers(216)}",
        f"float[8, 1, 3, 3] d = {numbers(72)}",
        f"float[24] b = {numbers(24)}",
    )
)
X = np.random.default_rng(9).normal(size=(2, 8, 9, 11)).astype(np.float32)


def text(body: str, outputs: str = "float[N, 24, H, W] y") -> str:
    return model_text(body, "float[2, 8, 9, 11] x", outputs, WEIGHTS)


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, w, b) y = Conv <group = 24, pads = [1, 1, 1, 1]> (h, t, b)",
        "h = Conv(x, w) i = Relu(h) y = Conv <group = 24, strides = [2, 2]> (i, t)",
        'h = Conv(x, w) i = HardSwish(h) j = Conv <group = 24, auto_pad = "SAME_LOWER"> (i, t) y = Sigmoid(j)',
    ],
)
def test_fused(optimise, body):
    result = optimise(text(body), x=X)
    assert result.ops == {"ExpandDepthwise": 1}
    assert result.error < 1e-4


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("y = Conv(x, w) z = Conv <group = 24> (y, t)", "float[N, 24, H, W] y, float[N, 24, I, J] z"),
        ("h = Conv <pads = [1, 1, 1, 1]> (x, w) y = Conv <group = 24> (h, t)", "float[N, 24, H, W] y"),
        ("h = Conv <strides = [2, 2]> (x, w) y = Conv <group = 24> (h, t)", "float[N, 24, H, W] y"),
        ("h = Conv(x, w) i = Conv <group = 24, pads = [1, 1, 1, 1]> (h, t) y = Add(i, h)", "float[N, 24, H, W] y"),
    ],
)
def test_left_alone(optimise, body, outputs):
    result = optimise(text(body, outputs), x=X)
    assert "ExpandDepthwise" not in result.ops
    assert result.error < 1e-4


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv <group = 8, pads = [1, 1, 1, 1]> (x, d) y = Conv(h, w, b)",
        "h = Conv <group = 8> (x, d) i = Relu(h) j = Conv(i, w) y = HardSwish(j)",
        "h = Conv <group = 8, strides = [2, 2]> (x, d) i = Sigmoid(h) j = Conv(i, w) y = Tanh(j)",
    ],
)
def test_depthwise_goes_into_the_convolution_after_it(optimise, body):
    result = optimise(text(body), x=X)
    assert result.ops["DepthwisePointwise"] == 1
    assert result.ops["Conv"] == result.ops["FusedConv"] == 0
    assert result.error < 1e-4


def test_a_residual_comes_along(optimise):
    body = "r = Conv(x, w) h = Conv <group = 8, pads = [1, 1, 1, 1]> (x, d) j = Conv(h, w) k = Add(j, r) y = Relu(k)"
    result = optimise(text(body), x=X)
    assert result.ops == {"Conv": 1, "DepthwisePointwise": 1}
    assert result.error < 1e-4


def test_depthwise_that_is_read_twice_stays(optimise):
    result = optimise(
        text("h = Conv <group = 8> (x, d) y = Conv(h, w) z = Relu(h)", "float[N, 24, H, W] y, float[N, 8, I, J] z"), x=X
    )
    assert "DepthwisePointwise" not in result.ops
    assert result.error < 1e-4


STEM = ", ".join(
    (
        f"float[8, 1, 3, 3] s = {numbers(72)}",
        f"float[8, 1, 3, 3] d = {numbers(72)}",
        f"float[8, 8, 1, 1] w = {numbers(64)}",
        f"float[8, 1, 3, 3] unused = {numbers(72)}",
    )
)
IMAGE = np.random.default_rng(8).normal(size=(2, 1, 17, 22)).astype(np.float32)


def stem(body: str, outputs: str = "float[N, 8, H, W] y") -> str:
    return model_text(body, "float[2, 1, 17, 22] x", outputs, STEM)


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, s) i = HardSwish(h) "
        "j = Conv <group = 8, pads = [1, 1, 1, 1]> (i, d) k = Relu(j) l = Conv(k, w) y = Add(l, i)",
        'h = Conv <auto_pad = "SAME_UPPER", strides = [2, 1]> (x, s) '
        "j = Conv <group = 8, strides = [2, 2]> (h, d) l = Conv(j, w) y = Relu(l)",
    ],
)
def test_the_first_three_layers_become_one(optimise, body):
    result = optimise(stem(body), x=IMAGE)
    assert result.ops == {"Stem": 1}
    assert result.error < 1e-4


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "h = Conv <strides = [2, 2]> (x, s) j = Conv <group = 8> (h, d) y = Conv(j, w) z = Relu(h)",
            "is read by",
        ),
        ("h = Conv <dilations = [2, 2]> (x, s) j = Conv <group = 8> (h, d) y = Conv(j, w)", "dilations"),
        (
            "h = Conv <pads = [1, 1, 1, 1]> (x, s) j = Conv <group = 8, pads = [1, 1, 1, 1]> (h, d) l = Conv(j, w) "
            "r = Conv <pads = [1, 1, 1, 1]> (x, unused) q = Relu(r) y = Add(l, q)",
            "adds something else",
        ),
    ],
)
def test_first_layers_that_stay_apart(optimise, body, reason):
    outputs = "float[N, 8, H, W] y, float[N, 8, I, J] z" if "z =" in body else "float[N, 8, H, W] y"
    result = optimise(stem(body, outputs), x=IMAGE)
    assert "Stem" not in result.ops
    assert any(reason in refusal for refusal in result.refusals())
    assert result.error < 1e-4
