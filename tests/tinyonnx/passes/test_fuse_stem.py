"""The first three convolutions of a mobile network."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import model_text, numbers

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
