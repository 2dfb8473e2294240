"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear against onnxruntime, their text, and onnx's cases."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

from tests.tinyonnx.ops.running import (
    assert_same,
    check_against_onnxruntime,
    check_backend_cases,
    normal,
    outputs_of,
    run,
)
from tinyonnx.errors import OpError

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
FLOAT8 = [
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e5m2fnuz,
]
NEWEST = onnx.defs.onnx_opset_version()


def number_of(dtype) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def between_casts(name: str, *inputs, opset: int, **attributes):
    """Return onnxruntime's result for inputs that it takes only as constants, as float32."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    constants = [onnx.numpy_helper.from_array(x, n) for n, x in zip(names, inputs, strict=True) if x is not None]
    nodes = [
        onnx.helper.make_node(name, names, ["small"], **attributes),
        onnx.helper.make_node("Cast", ["small"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    graph = onnx.helper.make_graph(nodes, name, [], [onnx.ValueInfoProto(name="y")], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {})[0]


@pytest.mark.parametrize("name", ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"])
def test_backend_cases(name):
    check_backend_cases(name)


# -- integers ---------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, None])
def test_quantize_one_scale(opset, dtype):
    x = normal(3, 4, 5) * F32(90)
    scale = np.array(0.7, F32)
    zero = None if dtype is None else np.array(3, dtype)
    check_against_onnxruntime("QuantizeLinear", x, scale, zero, opset=opset, atol=0)


@pytest.mark.parametrize("opset", [10, 13, 23])
def test_quantize_int32(opset):
    x = np.arange(-400, 400, 7, dtype=np.int32)
    y = run("QuantizeLinear", x, np.array(3, F32), np.array(5, np.int8), opset=opset)
    np.testing.assert_array_equal(y, np.clip([round(int(v) / 3) + 5 for v in x], -128, 127))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize("float_type", [F32, F16])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_quantize_and_back_per_axis(dtype, float_type, axis):
    x = normal(4, 4, 4, dtype=float_type, seed=axis + 3) * float_type(9)
    scale = np.abs(normal(4, dtype=float_type, seed=1)) + float_type(0.1)
    zero = np.arange(4).astype(dtype)
    y = run("QuantizeLinear", x, scale, zero, axis=axis, opset=21)
    assert y.dtype == dtype
    if float_type == F32:
        expected = between_casts("QuantizeLinear", x, scale, zero, axis=axis, opset=21)
    else:  # onnxruntime divides in float32, the text in the type of the scale
        along = [1, 1, 1]
        along[axis] = 4
        info = ml_dtypes.iinfo(dtype)
        quotient = (x / scale.reshape(along)).astype(np.float64)
        expected = np.clip(np.rint(quotient) + zero.astype(F32).reshape(along), float(info.min), float(info.max))
    np.testing.assert_array_equal(y.astype(F32), expected)
    back = run("DequantizeLinear", y, scale, zero, axis=axis, opset=21)
    assert back.dtype == float_type
    expected = between_casts("DequantizeLinear", y, scale, zero, axis=axis, opset=21)
    np.testing.assert_allclose(back.astype(F32), expected, rtol=1e-3 if float_type == F16 else 1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize(("axis", "size"), [(0, 2), (1, 3), (2, 4), (-1, 7), (1, 9)])
def test_blocks(dtype, axis, size):
    x = normal(4, 7, 10) * F32(9)
    shape = list(x.shape)
    shape[axis] = -(-shape[axis] // size)
    scale = np.abs(normal(*shape, seed=1)) + F32(0.1)
    zero = np.random.default_rng(2).integers(0, 8, shape).astype(dtype)
    y = run("QuantizeLinear", x, scale, zero, axis=axis, block_size=size, opset=21)
    expected = between_casts("QuantizeLinear", x, scale, zero, axis=axis, block_size=size, opset=21)
    np.testing.assert_array_equal(y.astype(F32), expected)
    back = run("DequantizeLinear", y, scale, zero, axis=axis, block_size=size, opset=21)
    expected = between_casts("DequantizeLinear", y, scale, zero, axis=axis, block_size=size, opset=21)
    assert_same(back, expected)


def test_one_scale_of_shape_1_fits_any_axis():
    x = normal(2, 3)
    check_against_onnxruntime("QuantizeLinear", x, np.array([0.1], F32), np.array([7], np.uint8), opset=13, atol=0)


@pytest.mark.parametrize("dtype", [ml_dtypes.int2, ml_dtypes.uint2])
def test_two_bits(dtype):
    least, greatest = (-2, 1) if dtype == ml_dtypes.int2 else (0, 3)
    x = np.array([-9, -2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 3.5, 9], F32)
    y = run("QuantizeLinear", x, np.array(1, F32), np.array(1, dtype), opset=25)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype(F32), np.clip(np.rint(x) + 1, least, greatest))
    back = run("DequantizeLinear", y, np.array(2, F32), np.array(1, dtype), opset=25)
    np.testing.assert_array_equal(back, (y.astype(F32) - 1) * 2)


def test_infinities_and_nan_saturate():
    x = np.array([np.inf, -np.inf, np.nan, 1e30], F32)
    y = run("QuantizeLinear", x, np.array(1, F32), np.array(0, np.int8))
    np.testing.assert_array_equal(y, [127, -128, -128, 127])


def test_int32_dequantises_exactly_before_it_is_rounded():
    x = np.array([2**31 - 1, -(2**31), 16777217], np.int32)
    y = run("DequantizeLinear", x, np.array(0.5, F32), np.array(1, np.int32))
    np.testing.assert_array_equal(y, ((x.astype(np.int64) - 1).astype(F32) * F32(0.5)))
    check_against_onnxruntime("DequantizeLinear", x, np.array(0.5, F32), opset=13)


# -- small floats -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOAT8)
@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("float_type", [F32, F16])
def test_float8(dtype, saturate, float_type):
    x = np.concatenate([normal(60, dtype=F32) * 300, [1e4, -1e4, 0, 1e-3, -1e-3]]).astype(float_type)
    scale, zero = np.array(0.5, float_type), np.array(0, dtype)
    y = run("QuantizeLinear", x, scale, zero, saturate=saturate, opset=19)
    assert y.dtype == dtype
    expected = between_casts("QuantizeLinear", x, scale, zero, saturate=saturate, opset=19)
    np.testing.assert_array_equal(y.astype(F32), expected)
    finite = y[np.isfinite(y.astype(F32))]
    back = run("DequantizeLinear", finite, scale, zero, opset=19)
    expected = between_casts("DequantizeLinear", finite, scale, zero, opset=19)
    np.testing.assert_array_equal(back.astype(F32), expected)


@pytest.mark.parametrize("dtype", [ml_dtypes.float4_e2m1fn, ml_dtypes.float6_e2m3fn, ml_dtypes.float6_e3m2fn])
def test_floats_without_infinity_saturate(dtype):
    x = np.array([0, 0.5, 1.2, -3.1, 1000, -1000, np.inf], F32)
    greatest = float(ml_dtypes.finfo(dtype).max)
    y = run("QuantizeLinear", x, np.array(1, F32), output_dtype=number_of(dtype), opset=28)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y[-3:].astype(F32), [greatest, -greatest, greatest])
    nearest = np.arange(256).astype(np.uint8)[: 16 if dtype == ml_dtypes.float4_e2m1fn else 64].view(dtype).astype(F32)
    for value, actual in zip(x[:4], y[:4].astype(F32), strict=True):
        assert abs(actual - value) == np.abs(nearest - value).min()
    np.testing.assert_array_equal(
        run("DequantizeLinear", y, np.array(2, F32), opset=28), (y.astype(F32) * 2).astype(F32)
    )


def test_zero_point_of_float8_is_added():
    dtype = ml_dtypes.float8_e4m3fn
    y = run("QuantizeLinear", np.array([1, 2], F32), np.array(0.5, F32), np.array(4, dtype))
    np.testing.assert_array_equal(y.astype(F32), [6, 8])


# -- types ------------------------------------------------------------------------------


def test_scale_as_power_of_two():
    scale = np.array([2, 0.5], F32).astype(ml_dtypes.float8_e8m0fnu)
    x = np.array([[3, 10], [3, 10]], F32)
    zero = np.array([0, 0], np.int8)
    y = run("QuantizeLinear", x, scale, zero, opset=24, axis=0)
    np.testing.assert_array_equal(y, [[2, 5], [6, 20]])
    back = run("DequantizeLinear", y, scale, zero, opset=24, axis=0, output_dtype=number_of(F16))
    assert back.dtype == F16
    np.testing.assert_array_equal(back, [[4, 10], [3, 10]])
    with pytest.raises(OpError, match="output_dtype is missing, the scale is float8_e8m0fnu"):
        run("DequantizeLinear", y, scale, opset=24, axis=0)


def test_int32_scale_divides_exactly():
    y = run("QuantizeLinear", np.array([2.5, 7.5, 9], F32), np.array(3, np.int32), np.array(0, np.int8), opset=23)
    np.testing.assert_array_equal(y, [1, 2, 3])


@pytest.mark.parametrize("precision", [F32, F16, BF16])
def test_precision_rounds_the_quotient(precision):
    x, scale = normal(200) * F32(1000), np.array(0.37, F32)
    y = run("QuantizeLinear", x, scale, np.array(0, np.int16), precision=number_of(precision), opset=23)
    quotient = (x.astype(precision).astype(F32) / scale.astype(precision).astype(F32)).astype(precision)
    np.testing.assert_array_equal(y, np.rint(quotient.astype(F32)).astype(np.int16))


@pytest.mark.parametrize("opset", [21, 23, NEWEST])
def test_output_dtype(opset):
    x, scale = normal(5), np.array(0.1, F32)
    assert run("QuantizeLinear", x, scale, output_dtype=number_of(np.int16), opset=opset).dtype == np.int16
    zero = np.array(0, np.int8)
    assert run("QuantizeLinear", x, scale, zero, output_dtype=number_of(np.int8), opset=opset).dtype == np.int8
    with pytest.raises(OpError, match="output_dtype is int16, the zero point is int8"):
        run("QuantizeLinear", x, scale, zero, output_dtype=number_of(np.int16), opset=opset)


@pytest.mark.parametrize("name", ["QuantizeLinear", "DequantizeLinear"])
def test_nothing(name):
    x = np.zeros((0, 3), F32 if name == "QuantizeLinear" else np.uint8)
    assert run(name, x, np.ones(3, F32), np.ones(3, np.uint8)).shape == (0, 3)


REFUSED = [
    ("QuantizeLinear", {"axis": 2}, (3, 4), (4,), None, "axis 2 is out of range for an input of rank 2"),
    ("QuantizeLinear", {}, (3, 4), (3,), None, r"scale has 3 numbers, axis 1 of \[3, 4\] has size 4"),
    ("QuantizeLinear", {}, (3, 4), (3, 4), None, "block_size is 0: not one number, nor a vector"),
    ("QuantizeLinear", {"block_size": 2}, (3, 4), (3, 3), None, r"need \[3, 2\]"),
    ("QuantizeLinear", {"block_size": 2}, (3, 4), (2,), None, r"need \[3, 2\]"),
    ("QuantizeLinear", {"block_size": -1}, (3, 4), (4,), None, "block_size is -1"),
    ("QuantizeLinear", {}, (3, 4), (4,), (3,), r"scale has shape \[4\], the zero point \[3\]"),
    ("QuantizeLinear", {"output_dtype": 99}, (3, 4), (4,), None, "unknown data type 99"),
    ("QuantizeLinear", {"output_dtype": 1}, (3, 4), (4,), None, "can't quantise to float32"),
    ("QuantizeLinear", {"precision": 2}, (3, 4), (4,), None, "precision is uint8"),
    ("DequantizeLinear", {"axis": -3}, (3, 4), (4,), None, "axis -3 is out of range for an input of rank 2"),
    ("DequantizeLinear", {}, (3, 4), (3,), None, r"scale has 3 numbers, axis 1 of \[3, 4\] has size 4"),
    ("DequantizeLinear", {"output_dtype": 3}, (3, 4), (4,), None, "output_dtype is int8"),
    ("DequantizeLinear", {}, (3, 4), (4,), (2,), r"scale has shape \[4\], the zero point \[2\]"),
]


@pytest.mark.parametrize(("name", "attributes", "x", "scale", "zero", "message"), REFUSED)
def test_refusals(name, attributes, x, scale, zero, message):
    data = np.zeros(x, F32 if name == "QuantizeLinear" else np.uint8)
    zero_point = None if zero is None else np.zeros(zero, np.uint8)
    with pytest.raises(OpError, match=message):
        run(name, data, np.ones(scale, F32), zero_point, opset=NEWEST, **attributes)


def test_types_that_are_refused():
    one = np.array(1, F32)
    with pytest.raises(OpError, match="x is int64"):
        run("QuantizeLinear", np.zeros(3, np.int64), one)
    with pytest.raises(OpError, match="x is float32, must be a quantised type"):
        run("DequantizeLinear", np.zeros(3, F32), one)
    with pytest.raises(OpError, match="x is uint8, its zero point int8"):
        run("DequantizeLinear", np.zeros(3, np.uint8), one, np.array(0, np.int8))
    with pytest.raises(OpError, match="x is float16"):
        run("DynamicQuantizeLinear", np.zeros(3, F16))


# -- dynamic ----------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-30, -1, 0, 1, 30])
@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), ()])
def test_dynamic(shift, shape):
    check_against_onnxruntime("DynamicQuantizeLinear", np.asarray(normal(*shape) + F32(shift)), opset=11, n_outputs=3)


def test_dynamic_of_zeros():
    check_against_onnxruntime("DynamicQuantizeLinear", np.zeros((2, 3), F32), opset=11, n_outputs=3)


def test_dynamic_of_nothing():
    y, scale, zero = outputs_of("DynamicQuantizeLinear", np.zeros((0, 2), F32), n_outputs=3)
    assert (y.shape, scale, zero) == ((0, 2), 1, 0)


def test_huge_blocks_take_no_memory():
    x = normal(2, 3)
    y = run("QuantizeLinear", x, np.full((2, 1), 0.1, F32), axis=1, block_size=2**62)
    np.testing.assert_array_equal(y, run("QuantizeLinear", x, np.array(0.1, F32)))
