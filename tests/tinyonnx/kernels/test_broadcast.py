"""Arithmetic with broadcasting against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, run
from tests.tinyonnx.kernels.test_conv import noise

NAMES = ["Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"]


@given(data=st.data())
@settings(max_examples=80)
def test_broadcast(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 16, 17, 40]), min_size=1, max_size=4), "shape")

    def operand(seed: int) -> np.ndarray:
        sizes = [1 if draw(st.booleans(), "repeated") else n for n in shape]
        x = np.abs(noise(seed, *sizes[draw(st.integers(0, len(shape) - 1), "missing") :])) + 0.5
        x.flat[0] = draw(st.sampled_from([1.0, np.nan, np.inf]))
        return x

    a, b = operand(0), operand(1)
    name, layout = draw(st.sampled_from(NAMES)), draw(st.sampled_from(["row_major", "channels_last"]))
    constants = draw(st.sampled_from([(), (0,), (1,)]), "constants")
    if name in ("Min", "Max", "Pow") or a.shape != b.shape:
        assert_close(*run(name, a, b, constants=constants, layout=layout), tolerance=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_in_place(name: str) -> None:
    a, b = np.abs(noise(0, 2, 5, 3, 7)), np.abs(noise(1, 5, 1, 1))
    for layout in ("row_major", "channels_last"):
        assert_close(*run(name, a, b, layout=layout, in_place=True))
        assert_close(*run(name, a, b, constants=(), layout=layout, in_place=True))


def test_square_and_long_rows() -> None:
    x = noise(0, 3, 10000)
    assert_close(*run("Pow", x, np.array(2, np.float32)), tolerance=0)
    assert_close(*run("Pow", x, np.array([[3]], np.float32)), tolerance=2e-7)
    assert_close(*run("Mul", x, noise(1, 3, 1)), tolerance=0)
    assert_close(*run("Mul", x, noise(1, 10000)), tolerance=0)


@pytest.mark.parametrize("layout", ["row_major", "channels_last"])
@pytest.mark.parametrize("shape", [(5, 1, 1), (1,), (2, 5, 3, 40), (40,), (3, 1)])
def test_slopes_of_negative_numbers(layout: str, shape: tuple[int, ...]) -> None:
    x = noise(0, 2, 5, 3, 40)
    x[0, 0, 0, :3], x[1, 4, 2, 5] = (np.nan, np.inf, 0), -0.0
    assert_close(*run("PRelu", x, noise(1, *shape), layout=layout), tolerance=0)
    assert_close(*run("PRelu", x, noise(1, *shape), layout=layout, in_place=True), tolerance=0)
