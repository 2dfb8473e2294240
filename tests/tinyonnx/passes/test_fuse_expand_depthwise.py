"""1×1 convolutions before depthwise ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import model_text, numbers, unoptimised

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
    result.assert_without("ExpandDepthwise", 1e-4)


MORE = ", ".join(
    (
        WEIGHTS,
        f"float[24, 8, 3, 3] w3 = {numbers(1728)}",
        f"float[24, 4, 1, 1] wg = {numbers(96)}",
        f"float[48, 1, 3, 3] t2 = {numbers(432)}",
        f"float[24, 24, 3, 3] full = {numbers(5184)}",
        f"float[24, 3, 3, 3] threes = {numbers(648)}",
    )
)


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv <pads = [1, 1, 1, 1]> (x, w3) y = Conv <group = 24> (h, t)",
        "h = Conv(x, w3) y = Conv <group = 24> (h, t)",
        'h = Conv <auto_pad = "SAME_UPPER"> (x, w3) y = Conv <group = 24> (h, t)',
        "h = Conv <group = 2> (x, wg) y = Conv <group = 24> (h, t)",
        "h = Conv(x, w) y = Conv(h, full)",
        "h = Conv(x, w) y = Conv <group = 8> (h, threes)",
        "h = Conv(x, w) i = Abs(h) y = Conv <group = 24> (i, t)",
        "h = Conv(x, w) r = Neg(h) i = Conv <group = 24, pads = [1, 1, 1, 1]> (h, t) y = Add(i, r)",
        "g = Conv(x, w) r = Tanh(g) h = Conv(x, w, b) s = Add(h, r) y = Conv <group = 24> (s, t)",
    ],
)
def test_other_convolutions_stay(optimise, body):
    result = optimise(model_text(body, "float[2, 8, 9, 11] x", "float[N, C, H, W] y", MORE), x=X)
    result.assert_without("ExpandDepthwise", 1e-4)


def test_several_filters_for_each_channel_stay(optimise):
    body = "h = Conv(x, w) y = Conv <group = 24> (h, t2)"
    result = optimise(model_text(body, "float[2, 8, 9, 11] x", "float[N, C, H, W] y", MORE), x=X)
    result.assert_without("ExpandDepthwise", 1e-4)


def test_negative_pads_stay(optimise):
    model = text("h = Conv(x, w) y = Conv <group = 24, pads = [1, 1, -1, 1]> (h, t)")
    result = optimise(model, unoptimised(model, x=X), x=X)
    result.assert_without("ExpandDepthwise", 1e-4)


def test_a_residual_of_the_depthwise_convolution_stays_outside(optimise):
    body = "r = Tanh(q) h = Conv(x, w) i = Conv <group = 24, pads = [1, 1, 1, 1]> (h, t) y = Add(i, r)"
    text = model_text(body, "float[2, 8, 9, 11] x, float[2, 24, 9, 11] q", "float[N, C, H, W] y", WEIGHTS)
    q = np.random.default_rng(3).normal(size=(2, 24, 9, 11)).astype(np.float32)
    result = optimise(text, x=X, q=q)
    result.assert_without("ExpandDepthwise", 1e-4)


@pytest.mark.parametrize("variable", ["w", "t"])
def test_weights_that_are_not_constant_stay(optimise, variable):
    shape = {"w": (24, 8, 1, 1), "t": (24, 1, 3, 3)}[variable]
    weights = f"float[24, 1, 3, 3] t = {numbers(216)}" if variable == "w" else f"float[24, 8, 1, 1] w = {numbers(192)}"
    inputs = f"float[2, 8, 9, 11] x, float[{', '.join(map(str, shape))}] {variable}"
    text = model_text("h = Conv(x, w) y = Conv <group = 24> (h, t)", inputs, "float[N, C, H, W] y", weights)
    result = optimise(text, **{"x": X, variable: np.random.default_rng(4).normal(size=shape).astype(np.float32)})
    result.assert_without("ExpandDepthwise", 1e-4)


def test_shapes_that_are_unknown_stay(optimise):
    body = "z = Reshape(x, target) h = Conv(z, w) y = Conv <group = 24> (h, t)"
    text = model_text(body, "float[2, 8, 9, 11] x, int64[4] target", "float[N, C, H, W] y", WEIGHTS)
    result = optimise(text, x=X, target=np.array([1, 8, 18, 11]))
    result.assert_without("ExpandDepthwise", 1e-4)


def test_a_wide_image_that_is_read_elsewhere_is_refused_with_a_reason(optimise):
    body = "h = Conv(x, w) y = Conv <group = 24> (h, t) z = Relu(h)"
    result = optimise(text(body, "float[N, 24, H, W] y, float[N, 24, I, J] z"), x=X)
    assert result.refused("fuse_expand_depthwise: skipping y: not fused with h: its output is read by y and by z")
