"""Split replaced by Slices."""

from __future__ import annotations

from tests.tinyonnx.passes.conftest import data, model_text


def test_split_becomes_slices_of_what_is_read(optimise):
    text = model_text(
        "sizes = Constant<value_ints = [1, 2, 3]>() a, b, c = Split<axis = -1>(x, sizes) y = Sub(a, c)",
        "float[2, 6] x", "float[2, 3] y",
    )  # fmt: skip
    result = optimise(text, x=data(2, 6))
    assert result.ops == {"Slice": 2, "Sub": 1}
    assert result.error == 0


def test_split_into_equal_parts_and_outputs(optimise):
    text = model_text("a, b = Split<axis = 1>(x)", "float[2, 6, 3] x", "float[2, 3, 3] a, float[2, 3, 3] b", opset=12)
    result = optimise(text, x=data(2, 6, 3))
    assert result.ops == {"Slice": 2}
    assert result.error == 0
