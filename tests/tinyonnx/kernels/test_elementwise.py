"""Activations and arithmetic in both memory orders, also in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.ir import Array
from tinyonnx.registry import Info, lookup


def values() -> Array:
    x = noise(0, 2, 5, 3, 7) * 8
    x.flat[:8] = np.nan, np.inf, -np.inf, 0.0, -0.0, 200.0, -200.0, 1e-30
    return x


@pytest.mark.parametrize("layout", ["channels_last", "row_major"])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("Relu", {}),
        ("HardSwish", {}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Swish", {}),
        ("Swish", {"alpha": -0.5}),
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
    ],
)
def test_activation(name: str, attributes: dict[str, Any], in_place: bool, layout: str) -> None:
    assert_close(*run(name, values(), layout=layout, in_place=in_place, **attributes), tolerance=1e-6)


def test_sigmoid_is_accurate_everywhere() -> None:
    x = np.linspace(-80, 80, 20001, dtype=np.float32)
    actual, _ = run("Sigmoid", x)
    np.testing.assert_allclose(actual, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-6)
    ends, _ = run("Sigmoid", np.array([-np.inf, np.inf], np.float32))
    assert ends.tolist() == [0, 1]  # 0 and not almost: times infinity it is NaN


def test_clip() -> None:
    low, high = np.array(-1.5, np.float32), np.array(2, np.float32)
    for bounds in ((low, high), (low,), (None, high), ()):
        assert_close(*run("Clip", values(), *bounds))
    assert_close(*run("Clip", values(), opset=6, min=-1.0, max=3.0))


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("layout", ["channels_last", "row_major"])
def test_arithmetic(name: str, layout: str) -> None:
    a, b = values(), values()[::-1].copy()
    scalar = np.array([2.5], np.float32)
    assert_close(*run(name, a, b, constants=(), layout=layout))
    assert_close(*run(name, a, b, constants=(), layout=layout, in_place=True))
    assert_close(*run(name, a, scalar, layout=layout))
    assert_close(*run(name, scalar, a, constants=(0,), layout=layout))


def test_refusals() -> None:
    f4 = np.dtype(np.float32)
    array = np.zeros((2, 3), np.float32)
    out, entry = Info(f4, (2, 3)), lookup("", "Add", 6)  # from opset 7 on any shapes broadcast
    assert "constant array" in str(choose(entry, out, [out, Info(f4, (2, 3), array)], {}))
    assert "shape" in str(choose(entry, out, [out, Info(f4, (3,))], {}))
    integers = Info(np.dtype(np.int64), (2, 3))
    assert "int64" in str(choose(entry, integers, [integers, integers], {}))
