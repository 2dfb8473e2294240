"""Integer products and convolutions against onnxruntime, exact sums, and onnx's cases."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.running import check_against_onnxruntime, check_backend_cases, run
from tinyonnx.errors import OpError

F32 = np.float32


def whole(*shape, dtype=np.uint8, seed=0):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def scales(*shape, seed=5):
    return np.asarray(np.random.default_rng(seed).uniform(0.01, 0.02, shape), F32)


@pytest.mark.parametrize("name", ["ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"])
def test_backend_cases(name):
    check_backend_cases(name)


# -- matrices ---------------------------------------------------------------------------


@pytest.mark.parametrize("a_type", [np.uint8, np.int8])
@pytest.mark.parametrize("b_type", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "shapes", [((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 1, 3, 5), (3, 5, 4)), ((3, 400), (400, 2))]
)
def test_matmul_integer(a_type, b_type, shapes):
    a, b = whole(*shapes[0], dtype=a_type), whole(*shapes[1], dtype=b_type, seed=1)
    check_against_onnxruntime("MatMulInteger", a, b, opset=10)
    zeros = np.array(7, a_type), np.array(-3).astype(b_type)
    check_against_onnxruntime("MatMulInteger", a, b, *zeros, opset=10)
    columns = whole(shapes[1][-1], dtype=b_type, seed=2)
    if len(shapes[1]) == 2:
        check_against_onnxruntime("MatMulInteger", a, b, zeros[0], columns, opset=10)


def test_matmul_integer_with_a_zero_point_per_row():
    a, b, rows = whole(2, 3, 5), whole(2, 5, 4, seed=1), whole(2, 3, 1, seed=2)
    expected = (a.astype(int) - rows) @ b.astype(int)
    np.testing.assert_array_equal(run("MatMulInteger", a, b, rows), expected)
    expected = (a.astype(int) - rows[0]) @ b.astype(int)
    np.testing.assert_array_equal(run("MatMulInteger", a, b, rows[0, :, 0]), expected)


@pytest.mark.parametrize("terms", [257, 258, 259, 40000])
def test_sums_are_exact(terms):
    a, b = np.full((1, terms), 255, np.uint8), np.full((terms, 1), 255, np.uint8)
    a[0, 0] = 254
    exact = 255 * 255 * terms - 255
    expected = np.array([[exact]], np.int64).astype(np.int32)
    np.testing.assert_array_equal(run("MatMulInteger", a, b), expected)


@pytest.mark.parametrize("a_type", [np.uint8, np.int8])
@pytest.mark.parametrize("opset", [10, 21])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize(
    "shapes", [((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 3, 5), (2, 5, 4)), ((3, 300), (300, 2))]
)
def test_qlinear_matmul(a_type, opset, per_column, shapes):
    a, b = whole(*shapes[0], dtype=a_type), whole(*shapes[1], dtype=np.int8, seed=1)
    wide = () if not per_column else shapes[1][-1:] if len(shapes[1]) == 2 else (*shapes[1][:-2], 1, shapes[1][-1])
    b_zero = np.asarray(whole(*wide, dtype=np.int8, seed=4)) if per_column else np.array(5, np.int8)
    check_against_onnxruntime(
        "QLinearMatMul",
        *(a, scales(), np.array(100, a_type), b, scales(*wide, seed=6), b_zero),
        *(np.array(0.2, F32), np.array(60, a_type)),
        opset=opset,
        atol=0,
    )


@pytest.mark.parametrize(("a_shape", "b_shape"), [((5,), (2, 5, 4)), ((2, 3, 5), (5,)), ((5,), (5,))])
def test_qlinear_matmul_of_vectors(a_shape, b_shape):
    a, b = whole(*a_shape), whole(*b_shape, seed=1)
    a_scale = scales(*a_shape[:-1], 1) if len(a_shape) > 1 else scales()
    b_scale = scales(*b_shape[:-2], 1, b_shape[-1]) if len(b_shape) > 1 else scales()
    zero = np.array(3, np.uint8)
    y = run(
        "QLinearMatMul",
        *(a, a_scale, np.full(a_scale.shape, 3, np.uint8), b, b_scale, np.full(b_scale.shape, 3, np.uint8)),
        *(np.array(0.3, F32), zero),
    )
    real = np.matmul((a - 3.0) * a_scale, (b - 3.0) * b_scale) / F32(0.3)
    np.testing.assert_array_equal(y, np.clip(np.rint(real) + 3, 0, 255))


def test_qlinear_matmul_of_float8():
    dtype = ml_dtypes.float8_e4m3fn
    a, b = np.array([[1, 2], [3, 4]], F32).astype(dtype), np.array([[1, 0], [0, 2]], F32).astype(dtype)
    one, zero = np.array(1, F32), np.array(0, dtype)
    y = run("QLinearMatMul", a, one, zero, b, one, zero, np.array(0.5, F32), zero, opset=21)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype(F32), [[2, 8], [6, 16]])


# -- convolutions -----------------------------------------------------------------------

GEOMETRIES = [
    ({}, (2, 4, 9), (6, 4, 3)),
    ({"pads": [1, 2, 0, 1], "strides": [2, 1]}, (2, 4, 7, 6), (6, 4, 3, 2)),
    ({"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, (1, 4, 7, 6), (6, 2, 3, 3)),
    ({"group": 4, "dilations": [2, 1], "pads": [1, 1, 1, 1]}, (1, 4, 7, 6), (4, 1, 3, 3)),
    ({"auto_pad": "SAME_LOWER"}, (1, 2, 4, 5, 4), (3, 2, 2, 2, 2)),
    ({}, (1, 40, 5, 5), (2, 40, 3, 3)),
]


@pytest.mark.parametrize(("attributes", "x", "w"), GEOMETRIES)
@pytest.mark.parametrize("zero", [None, 9])
def test_conv_integer(attributes, x, w, zero):
    zeros = () if zero is None else (np.array(zero, np.uint8), np.array(3, np.uint8))
    check_against_onnxruntime("ConvInteger", whole(*x), whole(*w, seed=1), *zeros, opset=10, **attributes)


def test_conv_integer_with_a_zero_point_per_filter():
    x, w, zeros = whole(1, 2, 6), whole(3, 2, 3, dtype=np.int8, seed=1), np.array([1, -2, 3], np.int8)
    y = run("ConvInteger", x, w, np.array(4, np.uint8), zeros, pads=[1, 1])
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x.astype(int) - 4, [(0, 0), (0, 0), (1, 1)]), 3, axis=2)
    expected = np.einsum("nclk,fck->nfl", windows, w.astype(int) - zeros[:, None, None])
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("attributes", "x", "w"), GEOMETRIES)
@pytest.mark.parametrize("types", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
@pytest.mark.parametrize("per_filter", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_qlinear_conv(attributes, x, w, types, per_filter, bias):
    x_type, w_type = types
    filters = w[:1] if per_filter else ()
    check_against_onnxruntime(
        "QLinearConv",
        *(whole(*x, dtype=x_type), scales(), np.array(100, x_type)),
        *(whole(*w, dtype=w_type, seed=1), scales(*filters), np.zeros(filters, w_type)),
        *(np.array(0.1, F32), np.array(40, x_type)),
        *([np.random.default_rng(3).integers(-9999, 9999, w[0], dtype=np.int32)] if bias else []),
        opset=10,
        atol=0,
        **attributes,
    )


# -- refusals ---------------------------------------------------------------------------


def test_matmul_refusals():
    a, b = whole(3, 5), whole(5, 4)
    with pytest.raises(OpError, match="5 columns meet 3 rows"):
        run("MatMulInteger", a, a)
    with pytest.raises(OpError, match="b is int32, must be int8 or uint8"):
        run("MatMulInteger", a, b.astype(np.int32))
    with pytest.raises(OpError, match="a is uint8, its zero point int8"):
        run("MatMulInteger", a, b, np.array(1, np.int8))
    with pytest.raises(OpError, match="a_zero_point has 4 numbers, there are 3 rows"):
        run("MatMulInteger", a, b, whole(4))
    with pytest.raises(OpError, match="b_zero_point has 3 numbers, there are 4 columns"):
        run("MatMulInteger", a, b, None, whole(3))
    with pytest.raises(OpError, match=r"b_zero_point has shape \[2, 2\], should be one number, a vector or \[1, 4\]"):
        run("MatMulInteger", a, b, None, whole(2, 2))
    one, zero = np.array(1, F32), np.array(0, np.uint8)
    with pytest.raises(OpError, match="y_scale has 2 numbers, there are 3 rows"):
        run("QLinearMatMul", a, one, zero, b, one, zero, np.ones(2, F32), zero)


def test_conv_refusals():
    x, w = whole(1, 2, 5), whole(3, 2, 3)
    one, zero = np.array(1, F32), np.array(0, np.uint8)
    with pytest.raises(OpError, match="x has 2 channels, w expects 4"):
        run("ConvInteger", x, whole(3, 4, 3))
    with pytest.raises(OpError, match="x is int32"):
        run("ConvInteger", x.astype(np.int32), w)
    with pytest.raises(OpError, match=r"x_zero_point has shape \[2\], must be one number"):
        run("ConvInteger", x, w, whole(2))
    with pytest.raises(OpError, match=r"w_zero_point has shape \[2\]"):
        run("ConvInteger", x, w, zero, whole(2))
    with pytest.raises(OpError, match=r"w_scale has shape \[2\]"):
        run("QLinearConv", x, one, zero, w, np.ones(2, F32), zero, one, zero)
    with pytest.raises(OpError, match=r"y_scale has shape \[3\], must be one number"):
        run("QLinearConv", x, one, zero, w, one, zero, np.ones(3, F32), zero)
    with pytest.raises(OpError, match=r"b is int32 of shape \[2\], should be int32 of shape \[3\]"):
        run("QLinearConv", x, one, zero, w, one, zero, one, zero, np.zeros(2, np.int32))
    with pytest.raises(OpError, match="b is float32"):
        run("QLinearConv", x, one, zero, w, one, zero, one, zero, np.zeros(3, F32))
