"""Passes that bring nodes into the form that kernels take."""

from __future__ import annotations

from collections.abc import Callable

from tests.tinyonnx.passes.conftest import Optimised, data, floats, model_text


def test_split_becomes_slices_of_what_is_read(optimise: Callable[..., Optimised]) -> None:
    text = model_text(
        "sizes = Constant<value_ints = [1, 2, 3]>() a, b, c = Split<axis = -1>(x, sizes) y = Sub(a, c)",
        "float[2, 6] x", "float[2, 3] y",
    )  # fmt: skip
    result = optimise(text, x=data(2, 6))
    assert result.ops == {"Slice": 2, "Sub": 1}
    assert result.error == 0


def test_split_into_equal_parts_and_outputs(optimise: Callable[..., Optimised]) -> None:
    text = model_text("a, b = Split<axis = 1>(x)", "float[2, 6, 3] x", "float[2, 3, 3] a, float[2, 3, 3] b", opset=12)
    result = optimise(text, x=data(2, 6, 3))
    assert result.ops == {"Slice": 2}
    assert result.error == 0


def test_empty_roi_is_absent(optimise: Callable[..., Optimised]) -> None:
    text = model_text(
        'y = Resize<mode = "nearest", nearest_mode = "floor">(x, roi, scales)',
        "float[1, 2, 3, 3] x", "float[1, 2, 6, 6] y", "float[0] roi = {}, float[4] scales = {1, 1, 2, 2}", opset=11,
    )  # fmt: skip
    result = optimise(text, x=data(1, 2, 3, 3))
    (node,) = result.graph.nodes
    assert node.inputs[1] is None
    assert result.error == 0


def test_swish_into_the_convolution(optimise: Callable[..., Optimised]) -> None:
    text = model_text(
        "c = Conv(x, w) s = Sigmoid(c) y = Mul(s, c)",
        "float[1, 3, 4, 4] x", "float[1, 2, 4, 4] y", floats("w", 2, 3, 1, 1),
    )  # fmt: skip
    result = optimise(text, x=data(1, 3, 4, 4))
    assert result.ops == {"FusedConv": 1}
    assert result.error < 1e-6


def test_swish_with_a_factor(optimise: Callable[..., Optimised]) -> None:
    text = model_text(
        "a = Mul(x, f) s = Sigmoid(a) y = Mul(x, s)", "float[2, 5] x", "float[2, 5] y", "float f = {1.702}"
    )
    result = optimise(text, x=data(2, 5))
    assert result.ops == {"Swish": 1}
    assert result.error < 1e-6


def test_swish_refused(optimise: Callable[..., Optimised]) -> None:
    text = model_text("s = Sigmoid(x) y = Mul(x, s)", "float[2, 5] x", "float[2, 5] y, float[2, 5] s")
    result = optimise(text, x=data(2, 5))
    assert result.ops == {"Sigmoid": 1, "Mul": 1}
    assert any("as an output" in line for line in result.refusals())
    text = model_text("s = Sigmoid(z) y = Mul(x, s)", "float[2, 5] x, float[2, 5] z", "float[2, 5] y")
    assert optimise(text, x=data(2, 5), z=data(2, 5)).ops == {"Sigmoid": 1, "Mul": 1}
