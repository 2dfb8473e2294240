"""1×1 convolutions after depthwise ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import model_text, numbers, unoptimised
from tests.tinyonnx.passes.test_fuse_expand_depthwise import X, text


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
    result.assert_without("DepthwisePointwise", 1e-4)


@pytest.mark.parametrize(("filters", "fused"), [(128, True), (129, False)], ids=["1 << 14 weights", "more"])
def test_many_weights_stay(optimise, filters, fused):
    weights = f"float[128, 1, 3, 3] d = {numbers(1152)}, float[{filters}, 128, 1, 1] w = {numbers(128 * filters)}"
    body = "h = Conv <group = 128> (x, d) y = Conv(h, w)"
    result = optimise(
        model_text(body, "float[1, 128, 4, 4] x", "float[N, C, H, W] y", weights),
        x=np.random.default_rng(5).normal(size=(1, 128, 4, 4)).astype(np.float32),
    )
    assert ("DepthwisePointwise" in result.ops) == fused
    assert fused or result.refused("more than 16384 weights")
    assert result.error < 1e-3


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv <group = 8> (x, d) y = Conv <strides = [2, 2]> (h, w)",
        "h = Conv <group = 8> (x, d) y = Conv <pads = [1, 1, 1, 1]> (h, w)",
        "h = Conv <group = 8> (x, d) i = Abs(h) y = Conv(i, w)",
        "r = Neg(x) h = Conv <group = 8, pads = [1, 1, 1, 1]> (x, d) i = Add(h, r) y = Conv(i, w)",
    ],
)
def test_other_convolutions_stay(optimise, body):
    result = optimise(text(body), x=X)
    result.assert_without("DepthwisePointwise", 1e-4)


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv <group = 8> (x, d) y = Conv <pads = [-1, 0, 0, 0]> (h, w)",
        "h = Conv <group = 8, pads = [1, 1, 1, -1]> (x, d) y = Conv(h, w)",
    ],
)
def test_negative_pads_stay(optimise, body):
    result = optimise(text(body), unoptimised(text(body), x=X), x=X)
    result.assert_without("DepthwisePointwise", 1e-4)
