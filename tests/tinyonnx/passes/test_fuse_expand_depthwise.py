"""1×1 convolutions before depthwise ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import model_text, numbers

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
