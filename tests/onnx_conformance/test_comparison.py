from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from onnx.backend.test.runner import Runner

from onnx_conformance.comparison import mismatch, ulp_distance

NAN, INF = np.nan, np.inf


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("actual", "expected", "found"),
    [
        (f32(1), f32(1.0005), None),
        (f32(1), f32(1.002), "1 of 1 numbers differ"),
        (f32(1, 2), f32(1), "shape [2], should be [1]"),
        (f32(1), np.array([1.0]), "is float32, should be float64"),
        (f32(NAN, INF, -INF), f32(NAN, INF, -INF), None),
        (f32(NAN), f32(1), "differ"),
        (f32(1), f32(NAN), "differ"),
        (f32(1), f32(INF), "differ"),
        (f32(INF), f32(-INF), "differ"),
        (np.float32(1), np.asarray(np.float32(1)), None),
        (np.array(["a"], object), np.array(["a"], object), None),
        (np.array(["a"]), np.array(["a"], object), None),
        (np.array(["b"], object), np.array(["a"], object), "other strings"),
        (np.array([1], object), np.array([1]), "is object, should be int64"),
        ([f32(1)], [f32(1)], None),
        ([f32(1)], [f32(1), f32(2)], "has 1 elements, should have 2"),
        ([f32(1), f32(5)], [f32(1), f32(2)], "output[1]"),
        (f32(1), [f32(1)], "is a ndarray, should be a sequence"),
        ([f32(1)], f32(1), "is a list, should be an array"),
        (None, None, None),
        (None, f32(1), "is nothing"),
        (f32(1), None, "should be nothing"),
        ({"a": 1.0}, {"a": 1.0}, None),
        ({"a": 1.0}, {"a": 2.0}, "output['a']"),
        ({"a": 1.0}, {"b": 1.0}, "other keys"),
        (np.array([2**63 - 1]), np.array([2**63 - 1]), None),
        (np.array([3], np.uint8), np.array([4], np.uint8), "differ"),
        (np.array([1 + 1j], np.complex64), np.array([1 + 1j], np.complex64), None),
        (np.array([1 + 1j], np.complex64), np.array([1 + 2j], np.complex64), "differ"),
        (f32().reshape(0, 3), f32().reshape(0, 3), None),
    ],
)  # fmt: skip
def test_mismatch(actual: object, expected: object, found: str | None) -> None:
    message = mismatch(actual, expected, 1e-3, 1e-7)
    assert message is None if found is None else message is not None and found in message


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("factor", [1.0, 1.0009, 1.0011, 1.008, 1.02, -1.0])
def test_numbers_pass_as_in_the_runner_of_onnx(dtype: type, factor: float) -> None:
    expected = np.array([0.5, 3, 100]).astype(dtype)
    actual = (np.array([0.5, 3, 100]) * factor).astype(dtype)
    try:
        Runner.assert_similar_outputs([expected], [actual], 1e-3, 1e-7)
        theirs = True
    except AssertionError:
        theirs = False
    assert (mismatch(actual, expected, 1e-3, 1e-7) is None) == theirs


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2fnuz", "int4", "uint2", "float4_e2m1fn"])
def test_small_types(dtype: str) -> None:
    kind = getattr(ml_dtypes, dtype)
    one, two = np.array([1, 0]).astype(kind), np.array([2, 0]).astype(kind)
    assert mismatch(one, one, 1e-3, 1e-7) is None
    assert "1 of 2" in str(mismatch(one, two, 1e-3, 1e-7))
    assert ulp_distance(one, one) == 0
    assert ulp_distance(one, two) > 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulp_distance_of_floats(dtype: type) -> None:
    one = np.array([1], dtype)
    assert ulp_distance(np.nextafter(one, dtype(2)), one) == 1
    assert ulp_distance(np.nextafter(one, dtype(0)), one) == 1
    assert ulp_distance(np.array([-0.0], dtype), np.array([0.0], dtype)) == 0
    tiny = np.nextafter(dtype(0), dtype(1))
    assert ulp_distance(np.array([-tiny], dtype), np.array([tiny], dtype)) == 2
    assert ulp_distance(np.array([NAN], dtype), np.array([NAN], dtype)) == 0
    assert ulp_distance(one, np.array([NAN], dtype)) == math.inf


def test_ulp_distance_of_other_things() -> None:
    assert ulp_distance(np.array([1, 5]), np.array([1, 2])) == 3
    assert ulp_distance(np.array([2**64 - 1], np.uint64), np.array([0], np.uint64)) == float(2**64 - 1)
    assert ulp_distance(np.array([True]), np.array([False])) == 1
    assert ulp_distance([f32(1), f32(NAN, 1)], [f32(1), f32(NAN, 1)]) == 0
    assert ulp_distance(np.array(["a"], object), np.array(["a"], object)) == 0
    assert ulp_distance(None, None) == 0
    assert ulp_distance(f32(), f32()) == 0
    bfloat = np.array([1, 1.0078125]).astype(ml_dtypes.bfloat16)
    assert ulp_distance(bfloat[:1], bfloat[1:]) == 1
    assert (
        ulp_distance(
            np.array([1 + 1j], np.complex64), np.array([1 + np.nextafter(f32(1), f32(2))[0] * 1j], np.complex64)
        )
        == 1
    )
