"""Passes that bring nodes into the form that kernels take."""

from __future__ import annotations

from collections.abc import Callable

from tests.passes.conftest import Optimised, data, model_text


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
