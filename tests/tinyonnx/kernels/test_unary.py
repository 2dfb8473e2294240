"""Functions of one number, everywhere that float32 reaches."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tinyonnx.registry import Info, lookup

NAMES = ["Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Erf", "Gelu", "Floor", "Ceil", "Round", "Sign"]


def values() -> np.ndarray:
    x = np.linspace(-9, 9, 5 * 7 * 60, dtype=np.float32).reshape(1, 5, 7, 60)
    x.flat[:8] = np.nan, np.inf, -np.inf, 0.0, -0.0, 88.5, -200.0, 1e-30
    return x


@pytest.mark.filterwarnings("ignore:.*encountered in")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["row_major", "channels_last"])
def test_values(name: str, layout: str) -> None:
    x = values()
    if name == "Gelu":
        x.flat[2] = 0  # the operator says NaN: -inf times 0
    if name == "Exp":
        assert_close(*run(name, np.minimum(x, 20), layout=layout))
    assert_close(*run(name, x, layout=layout), tolerance=5e-7)
    assert_close(*run(name, x, layout=layout, in_place=True), tolerance=5e-7)


def test_gelu_by_tanh() -> None:
    x = values()
    x.flat[2] = 0
    with np.errstate(all="ignore"):
        assert_close(*run("Gelu", x, layout="row_major", approximate="tanh"), tolerance=5e-7)


def test_exponential_to_both_ends() -> None:
    x = np.linspace(-87, 88.7, 30001, dtype=np.float32)
    actual, _ = run("Exp", x)
    np.testing.assert_allclose(actual, np.exp(x.astype(np.float64)), rtol=3e-7)
    assert run("Exp", np.array([89, 200, -200], np.float32))[0].tolist() == [math.inf, math.inf, 0]


def test_logarithm_of_all_sizes() -> None:
    x = np.concatenate([np.geomspace(1e-45, 3e38, 40001), np.linspace(0.5, 2, 40001)]).astype(np.float32)
    x = x[x != 1]
    np.testing.assert_allclose(run("Log", x)[0], np.log(x.astype(np.float64)), rtol=3e-7)
    with np.errstate(all="ignore"):
        actual, _ = run("Log", np.array([0, -0.0, -1, -np.inf, np.inf, np.nan, 1], np.float32))
    np.testing.assert_array_equal(actual, [-math.inf, -math.inf, math.nan, math.nan, math.inf, math.nan, 0])


def test_error_function_is_accurate_near_zero() -> None:
    x = np.geomspace(1e-30, 5, 20001).astype(np.float32)
    exact = np.array([math.erf(v) for v in x])
    for sign in (1, -1):
        np.testing.assert_allclose(run("Erf", sign * x)[0], sign * exact, rtol=3e-7)


def test_refusals() -> None:
    x = Info(np.dtype(np.float32), (3,))
    assert "sigmoid" in str(choose(lookup("", "Gelu", 22), x, [x], {"approximate": "sigmoid"}))
    wide = Info(np.dtype(np.float64), (3,))
    assert "float64" in str(choose(lookup("", "Exp", 22), wide, [wide], {}))
