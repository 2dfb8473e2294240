"""The first three convolutions of a mobile network."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import model_text, numbers, unoptimised

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
    assert result.applied("takes in the convolution") == 1
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


MORE = ", ".join(
    (
        STEM,
        f"float[8, 1, 5, 7] taps35 = {numbers(280)}",
        f"float[8, 1, 4, 8] taps32 = {numbers(256)}",
        f"float[2, 1, 3, 3] two = {numbers(18)}",
        f"float[8, 1, 1, 1] thin = {numbers(8)}",
    )
)
REST = "j = Conv <group = 8> (h, d) y = Conv(j, w)"


def test_the_largest_filters(optimise):
    for name, fused in (("taps32", True), ("taps35", False)):
        text = model_text(f"h = Conv(x, {name}) {REST}", "float[2, 1, 17, 22] x", "float[N, 8, H, W] y", MORE)
        result = optimise(text, x=IMAGE)
        assert ("Stem" in result.ops) == fused
        assert fused or result.refused("more than 32 taps")
        assert result.error < 1e-4


@pytest.mark.parametrize(
    "body",
    [
        f"g = Conv(x, s) h = Abs(g) {REST}",
        f"r = Conv(x, thin) p = Conv <pads = [1, 1, 1, 1]> (x, s) h = Add(p, r) {REST}",
        f"h = Conv <dilations = [1, 2]> (x, s) {REST}",
    ],
)
def test_other_first_layers_stay(optimise, body):
    result = optimise(model_text(body, "float[2, 1, 17, 22] x", "float[N, 8, H, W] y", MORE), x=IMAGE)
    result.assert_without("Stem", 1e-4)


def test_negative_pads_stay(optimise):
    model = stem(f"h = Conv <pads = [-1, 1, 1, 1]> (x, s) {REST}")
    result = optimise(model, unoptimised(model, x=IMAGE), x=IMAGE)
    assert "Stem" not in result.ops
    assert result.refused("negative pads")
    assert result.error < 1e-4


def test_groups_stay(optimise):
    body = f"h = Conv <group = 2> (x, s) {REST}"
    result = optimise(
        model_text(body, "float[2, 2, 17, 22] x", "float[N, 8, H, W] y", STEM), x=np.concatenate([IMAGE, -IMAGE / 2], 1)
    )
    assert "Stem" not in result.ops
    assert result.refused("groups")
    assert result.error < 1e-4


def test_one_spatial_axis_stays(optimise):
    weights = f"float[8, 1, 3] s = {numbers(24)}, float[8, 1, 3] d = {numbers(24)}, float[8, 8, 1] w = {numbers(64)}"
    text = model_text(f"h = Conv(x, s) {REST}", "float[2, 1, 22] x", "float[N, 8, H] y", weights)
    result = optimise(text, x=IMAGE[:, :, 0])
    result.assert_without("Stem", 1e-4)


def test_filters_that_are_not_constant_stay(optimise):
    weights = f"float[8, 1, 3, 3] d = {numbers(72)}, float[8, 8, 1, 1] w = {numbers(64)}"
    inputs = "float[2, 1, 17, 22] x, float[8, 1, 3, 3] s"
    text = model_text(f"h = Conv(x, s) {REST}", inputs, "float[N, 8, H, W] y", weights)
    result = optimise(text, x=IMAGE, s=np.random.default_rng(7).normal(size=(8, 1, 3, 3)).astype(np.float32))
    result.assert_without("Stem", 1e-4)
