"""Pools, means and squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.fast import assert_close, run
from tests.kernels.test_conv import noise


@given(data=st.data())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_windows(data: st.DataObject) -> None:
    draw = data.draw
    rank = draw(st.integers(1, 2), "rank")

    def several(low: int, high: int, name: str, count: int = rank) -> list[int]:
        return [draw(st.integers(low, high), name) for _ in range(count)]

    kernel = several(2, 4, "kernel")
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": several(1, 3, "stride"),
        "dilations": several(1, 2, "dilation"),
        "pads": several(0, 1, "pad", 2 * rank),
        "ceil_mode": draw(st.integers(0, 1), "ceil"),
    }
    x = noise(0, 2, draw(st.sampled_from([1, 5, 16, 20]), "channels"), *several(7, 14, "size"))
    if draw(st.booleans(), "NaN"):
        x.flat[3] = np.nan
    assert_close(*run("MaxPool", x, **attributes))
    for include in (0, 1):
        assert_close(*run("AveragePool", x, count_include_pad=include, **attributes))


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 20, 7, 1), (2, 17, 300), (1, 1, 1, 1)])
def test_global_mean(shape: tuple[int, ...]) -> None:
    x = noise(0, *shape)
    axes = list(range(2, len(shape)))
    assert_close(*run("GlobalAveragePool", x))
    assert_close(*run("ReduceMean", x, opset=13, axes=axes))
    assert_close(*run("ReduceMean", x, opset=13, axes=[a - len(shape) for a in axes], keepdims=0))
    assert_close(*run("ReduceMean", x, np.array(axes), opset=18))


def test_mean_of_many_pixels_is_exact_enough() -> None:
    x = noise(0, 1, 2, 400, 500) + 100
    actual, _ = run("GlobalAveragePool", x)
    np.testing.assert_allclose(actual, x.mean(axis=(2, 3), dtype=np.float64, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
@pytest.mark.parametrize("in_place", [False, True])
def test_squeeze_excite(biases: bool, gate: str, in_place: bool) -> None:
    for c, s, shape in ((24, 8, (3, 24, 5, 7)), (3, 1, (1, 3, 9)), (37, 5, (2, 37, 1, 1))):
        b1, b2 = (noise(3, s), noise(4, c)) if biases else (None, None)
        inputs = noise(0, *shape), noise(1, c, s), b1, noise(2, s, c), b2
        attributes = {"activation": "Relu", "gate": gate, "gate_alpha": 0.2, "gate_beta": 0.5}
        actual, expected = run(
            "SqueezeExcite", *inputs, constants=(1, 2, 3, 4), fused=True, in_place=in_place, **attributes
        )
        assert_close(actual, expected)


def test_squeeze_excite_keeps_nan_in_its_item() -> None:
    x = noise(0, 2, 4, 3, 3)
    x[1, 2, 0, 0] = np.nan
    inputs = x, noise(1, 4, 2), None, noise(2, 2, 4)
    actual, expected = run("SqueezeExcite", *inputs, constants=(1, 3), fused=True)
    assert_close(actual, expected)
    assert np.isfinite(actual[0]).all()
