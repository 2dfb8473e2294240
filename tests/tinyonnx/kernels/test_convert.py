"""Conversions between element types against numpy's, and tests of single numbers."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import choose, run
from tinyonnx.registry import Info, lookup

NUMBERS = {
    np.dtype(t): code
    for t, code in [
        *((np.float32, 1), (np.uint8, 2), (np.int8, 3), (np.int16, 5), (np.int32, 6)),
        *((np.int64, 7), (np.bool_, 9), (np.float64, 11)),
    ]
}
"""ONNX's numbers of the types to which kernels convert."""

SOME = {
    np.int8: (np.bool_, np.uint8, np.int16, np.float32),
    np.int16: (np.int8, np.int32, np.float64),
    np.int32: (np.int8, np.int32, np.int64, np.float32),
    np.uint16: (np.int16, np.int32, np.float32),
    np.uint32: (np.uint8, np.int32, np.int64, np.float64),
    np.uint64: (np.bool_, np.int16, np.int64, np.float64),
    np.bool_: (np.bool_, np.int8, np.int32, np.float32),
    np.float64: (np.bool_, np.int8, np.int32, np.int64, np.float32),
}
"""Types to which the others are converted: each pair is compiled for itself, so each way is tried with some."""

CASTS = [
    *((np.dtype(source), to) for source in (np.float32, np.int64, np.uint8) for to in NUMBERS),
    *((np.dtype(source), np.dtype(to)) for source, types in SOME.items() for to in types),
]


def values(dtype: np.dtype[Any]) -> np.ndarray:
    """Return more numbers than a vector has, in four axes, with the ends of the range."""
    if dtype == np.bool_:
        return np.arange(2 * 3 * 5 * 31).reshape(2, 3, 5, 31) % 3 == 0
    if dtype.kind == "f":
        x = np.linspace(-140, 300, 2 * 3 * 5 * 31).astype(dtype)
        x[:8] = 0.0, -0.0, 0.99, -0.99, 2147483520.0, -2147483648.0, 16777217.0, 1e-40
    else:
        x = (np.arange(2 * 3 * 5 * 31) * 7919).astype(dtype)
        x[:3] = np.iinfo(dtype).min, np.iinfo(dtype).max, np.iinfo(dtype).max // 3
    return x.reshape(2, 3, 5, 31)


@pytest.mark.parametrize(("source", "to"), CASTS, ids=str)
def test_cast(source: np.dtype[Any], to: np.dtype[Any]) -> None:
    for layout in ("row_major", "channels_last"):
        actual, expected = run("Cast", values(source), constants=(), layout=layout, to=NUMBERS[to])
        np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize("to", [t for t in NUMBERS if t.kind in "iu"], ids=str)
@pytest.mark.parametrize("source", [np.float32, np.float64])
def test_cast_of_what_is_no_integer(source: Any, to: np.dtype[Any]) -> None:
    large = [np.nan, np.inf, -np.inf, 2.0**31, -(2.0**31), 3e9, -3e9, 1e10, -1e10, 2.0**63, -(2.0**63), 1e30]
    x = np.array(large * 5, source)
    least = -(2**63) if to == np.int64 else -(2**31)
    wanted = np.array([int(v) if least <= v < -least else least for v in x.tolist()], np.int64).astype(to)
    actual, by_numpy = run("Cast", x, constants=(), layout="row_major", to=NUMBERS[to])
    np.testing.assert_array_equal(actual, wanted, strict=True)
    if platform.machine() in ("x86_64", "AMD64"):
        np.testing.assert_array_equal(actual, by_numpy)


def test_cast_like_and_tests_of_numbers() -> None:
    x = np.float32([[0.0, -0.0, np.nan, 1.5, -np.inf, 7]] * 11)
    np.testing.assert_array_equal(*run("CastLike", x, np.zeros(1, bool), layout="row_major"), strict=True)
    np.testing.assert_array_equal(*run("IsNaN", x, layout="row_major"), strict=True)
    np.testing.assert_array_equal(*run("IsNaN", x.astype(np.float64), layout="row_major"), strict=True)
    np.testing.assert_array_equal(*run("Not", x > 1, layout="row_major"), strict=True)


def test_every_float16_and_the_numbers_between() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    widened = run("Cast", every, constants=(), layout="row_major", to=1)
    np.testing.assert_array_equal(*widened, strict=True)
    np.testing.assert_array_equal(*map(np.signbit, widened))
    finite = np.sort(every[np.isfinite(every)].astype(np.float32))
    middles = (finite[1:] + finite[:-1]) / 2
    near = [np.nextafter(middles, np.float32(end)) for end in (-np.inf, np.inf)]
    ends = np.float32([65519.99, 65520, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 2.0**-25])
    with np.errstate(over="ignore"):
        rounded = run("Cast", np.concatenate([middles, *near, ends]), constants=(), layout="row_major", to=10)
    np.testing.assert_array_equal(*rounded, strict=True)
    np.testing.assert_array_equal(*map(np.signbit, rounded))


@pytest.mark.parametrize("types", [("float16", "float64"), ("float32", "uint32"), ("float64", "uint64")])
def test_refusals(types: tuple[str, str]) -> None:
    x, out = (Info(np.dtype(t), (3,)) for t in types)
    assert choose(lookup("", "Cast", 22), out, [x], {}) == f"{types[0]} to {types[1]}"
    constant = Info(np.dtype(np.int32), (3,), np.zeros(3, np.int32))
    assert choose(lookup("", "Cast", 22), x, [constant], {}) == "the input is constant"
    half = Info(np.dtype(np.float16), (3,))
    assert choose(lookup("", "IsNaN", 22), out, [half], {}) == "float16"
