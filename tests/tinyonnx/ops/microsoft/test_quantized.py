"""com.microsoft: quantised operators and products against ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.microsoft.running import call, check_contrib, contrib_outputs
from tests.tinyonnx.ops.running import normal, run
from tinyonnx.errors import OpError

F16, F32 = np.float16, np.float32
TYPES = [np.uint8, np.int8]


def whole(*shape, dtype=np.uint8, seed=0):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def number(value, dtype=F32):
    return np.array(value, dtype)


# -- to and fro -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize_and_back(dtype, axis):
    x, shape = normal(3, 3) * F32(9), () if axis is None else (3,)
    scale, zero = np.asarray(np.abs(normal(*shape, seed=1)) + F32(0.1)), np.full(shape, 3, dtype)
    attributes = {} if axis is None else {"axis": axis}
    (y,) = check_contrib("QuantizeLinear", x, scale, zero, **attributes)
    check_contrib("DequantizeLinear", y, scale, zero, **attributes)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
def test_dequantize_four_bits(dtype):
    x = np.arange(16).astype(np.uint8).astype(dtype).reshape(4, 4)
    (y,) = contrib_outputs("DequantizeLinear", x, number(0.5), np.array(2, dtype))
    np.testing.assert_array_equal(y, (x.astype(F32) - 2) / 2)


# -- elementwise ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 4)), ((2, 3), (1,))])
def test_binary(name, dtype, shapes):
    a, b = whole(*shapes[0], dtype=dtype), np.asarray(whole(*shapes[1], dtype=dtype, seed=1))
    zero = [number(z, dtype) for z in (7, 3, 20)]
    factor = 0.0317 if name == "QLinearAdd" else 0.737
    check_contrib(name, a, number(0.0173), zero[0], b, number(0.0291), zero[1], number(factor), zero[2], atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_unary(dtype):
    x, zero = np.arange(256).astype(np.uint8).view(dtype).reshape(2, 128), number(50, dtype)
    check_contrib("QLinearSigmoid", x, number(0.0473), zero, number(0.00391), number(3, dtype), atol=0)
    check_contrib("QLinearLeakyRelu", x, number(0.0473), zero, number(0.0519), number(3, dtype), alpha=0.3, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_absent_zero_points_are_0(dtype):
    """ONNX Runtime, which says that it takes them, refuses or crashes."""
    x, scale, zero = whole(2, 8, dtype=dtype), number(0.05), number(0, dtype)
    for name in ("QLinearSigmoid", "QLinearLeakyRelu"):
        np.testing.assert_array_equal(call(name, x, scale, None, scale), call(name, x, scale, zero, scale, zero))
    for name in ("QLinearAdd", "QLinearMul"):
        y = call(name, x, scale, None, x[0], scale, None, scale)
        np.testing.assert_array_equal(y, call(name, x, scale, zero, x[0], scale, zero, scale, zero))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("opset", [12, 13])
@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(dtype, opset, axis):
    x, zero = whole(3, 4, 5, dtype=dtype), number(-128 if dtype == np.int8 else 0, dtype)
    inputs = x, number(0.0173), number(5, dtype), number(1 / 256), zero
    check_contrib("QLinearSoftmax", *inputs, opset=opset, axis=axis, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_where(dtype):
    condition = np.random.default_rng(0).random((3, 1)) < 0.5
    x, y = whole(3, 4, dtype=dtype), whole(4, dtype=dtype, seed=1)
    inputs = condition, x, number(0.017), number(4, dtype), y, number(0.023), number(9, dtype)
    check_contrib("QLinearWhere", *inputs, number(0.03), number(2, dtype), atol=0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [1, -1])
def test_concat(dtype, axis):
    parts = []
    for i in range(3):
        shape = [2, 3, 4]
        shape[axis] += i
        parts += [whole(*shape, dtype=dtype, seed=i), number(0.01 * (i + 1.7)), number(5 * i, dtype)]
    check_contrib("QLinearConcat", number(0.0231), number(3, dtype), *parts, axis=axis, atol=0)


# -- windows ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("spatial", [(5, 6), (7,)])
def test_global_average_pool(dtype, channels_last, spatial):
    shape = (2, *spatial, 3) if channels_last else (2, 3, *spatial)
    inputs = whole(*shape, dtype=dtype), number(0.0371), number(7, dtype), number(0.0113), number(5, dtype)
    check_contrib("QLinearGlobalAveragePool", *inputs, channels_last=channels_last, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize("geometry", [{}, {"pads": [1, 0, 1, 1], "strides": [2, 1]}, {"auto_pad": "SAME_UPPER"}])
def test_average_pool(dtype, channels_last, count_include_pad, geometry):
    shape = (2, 7, 6, 3) if channels_last else (2, 3, 7, 6)
    inputs = whole(*shape, dtype=dtype), number(0.0371), number(7, dtype), number(0.0213), number(5, dtype)
    check_contrib(
        "QLinearAveragePool",
        *inputs,
        kernel_shape=[3, 2],
        channels_last=channels_last,
        count_include_pad=count_include_pad,
        atol=0,
        **geometry,
    )


@pytest.mark.parametrize("dtype", TYPES)
def test_nhwc_max_pool(dtype):
    check_contrib("NhwcMaxPool", whole(2, 7, 6, 3, dtype=dtype), kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 1])


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("group", [1, 2])
def test_conv(channels_last, group):
    shape = (2, 7, 6, 4) if channels_last else (2, 4, 7, 6)
    check_contrib(
        "QLinearConv",
        *(whole(*shape), number(0.013), number(100, np.uint8)),
        *(whole(6, 4 // group, 3, 3, dtype=np.int8, seed=1), np.linspace(0.01, 0.02, 6).astype(F32)),
        *(np.zeros(6, np.int8), number(0.117), number(40, np.uint8), np.arange(6, dtype=np.int32) * 1000),
        group=group,
        pads=[1, 1, 1, 1],
        channels_last=channels_last,
        atol=0,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("zero_point", [2, 3])
def test_numbers_half_way_between_two_others(dtype, zero_point):
    a, b = whole(9, 40, dtype=dtype), whole(9, 40, dtype=dtype, seed=1)
    image = whole(2, 3, 6, 8, dtype=dtype)
    z = [number(v, dtype) for v in (1, 4, zero_point)]
    one, two = number(1), number(2)
    check_contrib("QLinearAdd", a, one, z[0], b, one, z[1], two, z[2], atol=0)
    check_contrib("QLinearMul", a, one, z[0], b, number(1 / 64), z[1], two, z[2], atol=0)
    check_contrib("QLinearLeakyRelu", a, one, z[0], two, z[2], alpha=0.5, atol=0)
    check_contrib("QLinearWhere", a > 9, a, one, z[0], b, one, z[1], two, z[2], atol=0)
    check_contrib("QLinearConcat", two, z[2], a, one, z[0], b, one, z[1], axis=0, atol=0)
    check_contrib("QLinearGlobalAveragePool", image[:, :, :2, :2].copy(), one, z[0], one, z[2], atol=0)
    check_contrib("QLinearAveragePool", image, one, z[0], one, z[2], kernel_shape=[2, 2], atol=0)
    check_contrib("QGemm", a, one, z[0], b.T.copy(), number(1 / 64), number(0, dtype), None, two, z[2], atol=0)


# -- products ---------------------------------------------------------------------------


@pytest.mark.parametrize("types", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("a_shape", [(3, 8), (2, 3, 8)])
def test_matmul_integer_to_float(types, per_column, bias, a_shape):
    a, b = whole(*a_shape, dtype=types[0]), whole(8, 5, dtype=types[1], seed=1)
    wide = (5,) if per_column else ()
    check_contrib(
        "MatMulIntegerToFloat",
        *(a, b, number(0.013), np.asarray(np.abs(normal(*wide, seed=2)) + F32(0.01))),
        *(number(9, types[0]), np.asarray(whole(*wide, dtype=types[1], seed=3))),
        *([normal(5, seed=4)] if bias else []),
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_dynamic_quantize_matmul(dtype, per_column, zero, bias):
    wide = (5,) if per_column else ()
    inputs = [normal(2, 3, 8), whole(8, 5, dtype=dtype, seed=1), np.asarray(np.abs(normal(*wide, seed=2)) + F32(0.01))]
    inputs.append(np.asarray(whole(*wide, dtype=dtype, seed=3)) if zero else None)
    check_contrib("DynamicQuantizeMatMul", *inputs, *([normal(5, seed=4)] if bias else []), atol=1e-4)


@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("c", [None, (5,), (3, 1), (3, 5)])
@pytest.mark.parametrize("quantized", [False, True])
def test_qgemm(trans, per_column, c, quantized):
    a, b = whole(3, 8), whole(8, 5, dtype=np.int8, seed=1)
    wide = (5,) if per_column else ()
    inputs = [
        *(a.T.copy() if trans[0] else a, number(0.013), number(100, np.uint8)),
        *(b.T.copy() if trans[1] else b, np.asarray(np.abs(normal(*wide, seed=2)) / 99), np.zeros(wide, np.int8)),
        None if c is None else np.random.default_rng(3).integers(-9999, 9999, c).astype(np.int32),
        *([number(0.13), number(40, np.uint8)] if quantized else []),
    ]
    check_contrib("QGemm", *inputs, transA=trans[0], transB=trans[1], alpha=1.3, atol=0 if quantized else 1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("k", [32, 64, 72])
@pytest.mark.parametrize("zero_points", [None, "packed", "float"])
@pytest.mark.parametrize("bias", [False, True])
def test_matmul_n_bits(bits, k, zero_points, bias):
    n, block = 6, 16
    blocks = -(-k // block)
    packed = whole(n, blocks, block * bits // 8, seed=1)
    scales = normal(n, blocks, seed=2) / F32(10)
    zero = {
        None: None,
        "packed": whole(n, -(-blocks * bits // 8), seed=3),
        "float": np.abs(normal(n, blocks, seed=3)) * F32(3),
    }[zero_points]
    inputs = [normal(2, 3, k), packed, scales, zero, None, normal(n, seed=4) if bias else None]
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    (y,) = contrib_outputs("MatMulNBits", *inputs, **attributes)
    numbers = np.unpackbits(packed.reshape(n, -1), axis=-1, bitorder="little").reshape(n, -1, bits)
    weights = (numbers * (1 << np.arange(bits))).sum(-1)[:, :k].astype(np.float64)
    if zero_points == "packed":
        each = np.unpackbits(zero, axis=-1, bitorder="little")[:, : blocks * bits].reshape(n, blocks, bits)
        zero = (each * (1 << np.arange(bits))).sum(-1)
    middle = np.full((n, blocks), 2 ** (bits - 1)) if zero is None else zero
    weights = (weights - np.repeat(middle, block, axis=1)[:, :k]) * np.repeat(scales, block, axis=1)[:, :k]
    expected = inputs[0].astype(np.float64) @ weights.T + (0 if inputs[5] is None else inputs[5])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    if bits == 4 or (bits == 8 and zero_points != "float"):
        flat = [i.reshape(-1) if j in (2, 3) and i is not None else i for j, i in enumerate(inputs)]
        check_contrib("MatMulNBits", *flat, rtol=1e-4, atol=1e-4, **attributes)


def test_matmul_n_bits_with_columns_in_any_order():
    k, n, block = 32, 3, 16
    order = np.random.default_rng(0).permutation(np.repeat([0, 1], block)).astype(np.int32)
    packed, scales = whole(n, 2, 8, seed=1), normal(n, 2, seed=2)
    (y,) = contrib_outputs("MatMulNBits", np.eye(k, dtype=F32), packed, scales, None, order, K=k, N=n, block_size=block)
    low = np.stack([packed & 15, packed >> 4], axis=-1).reshape(n, k).astype(F32)
    np.testing.assert_allclose(y.T, (low - 8) * scales[:, order], rtol=1e-6)


def test_matmul_n_bits_in_half_precision():
    a, packed, scales = normal(2, 32, dtype=F16), whole(3, 2, 8), normal(3, 2, dtype=F16, seed=1)
    attributes = {"K": 32, "N": 3, "bits": 4, "block_size": 16}
    y = call("MatMulNBits", a, packed, scales, **attributes)
    wide = call("MatMulNBits", a.astype(F32), packed, scales.astype(F32), **attributes)
    np.testing.assert_array_equal(y, wide.astype(F16))


# -- refusals ---------------------------------------------------------------------------

ONE, ZERO = number(1), number(0, np.uint8)
BYTES = whole(2, 3)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("QLinearAdd", [BYTES, ONE, ZERO], {}, "input b is missing"),
        ("QLinearAdd", [BYTES, ONE, ZERO, BYTES, ONE, ZERO], {}, "input c_scale is missing"),
        ("QLinearAdd", [BYTES, ONE, ZERO, BYTES.astype(np.int8), ONE, None, ONE], {}, "a is uint8, b is int8"),
        ("QLinearMul", [BYTES, ONE, ZERO, whole(4), ONE, ZERO, ONE, ZERO], {}, r"\[2, 3\] and \[4\] don't broadcast"),
        ("QLinearMul", [BYTES, normal(2), ZERO, BYTES, ONE, ZERO, ONE], {}, r"the scale of a has shape \[2\]"),
        ("QLinearMul", [BYTES, ONE, number(0, np.int8), BYTES, ONE, ZERO, ONE], {}, "a is uint8, its zero point int8"),
        ("QLinearSigmoid", [BYTES, ONE], {}, "input y_scale is missing"),
        ("QLinearSigmoid", [BYTES, ONE, ZERO, ONE, number(0, np.int8)], {}, "output is uint8, its zero point int8"),
        ("QLinearSoftmax", [BYTES, ONE, ZERO, ONE, ZERO], {"opset": 13, "axis": 2}, "axis 2 is out of range"),
        ("QLinearWhere", [BYTES > 9, BYTES, ONE, ZERO, whole(4), ONE, ZERO, ONE, ZERO], {}, "don't broadcast"),
        ("QLinearConcat", [ONE, ZERO, BYTES], {"axis": 0}, "input x0_scale is missing"),
        ("QLinearConcat", [ONE, ZERO, BYTES, ONE, ZERO, whole(2, 4), ONE, ZERO], {"axis": 0}, "can't join"),
        ("QLinearGlobalAveragePool", [BYTES, ONE, ZERO, ONE, ZERO], {}, "nothing to pool"),
        ("QLinearAveragePool", [BYTES, ONE, ZERO, ONE, ZERO], {"kernel_shape": [1], "channels_last": 1}, "dimensions"),
        ("MatMulIntegerToFloat", [BYTES, whole(3, 4), ONE, normal(3)], {}, r"b_scale has shape \[3\], should be \[4\]"),
        ("DynamicQuantizeMatMul", [normal(2, 3), whole(3, 4), ONE, None, normal(3)], {}, r"the bias has shape \[3\]"),
        ("DynamicQuantizeMatMul", [normal(2, 4), whole(3, 4), ONE], {}, "columns meet"),
        ("QGemm", [BYTES, ONE, ZERO, whole(4, 3), ONE, ZERO], {}, "3 columns meet 4 rows"),
        ("QGemm", [BYTES, ONE, ZERO, whole(3, 4), ONE, ZERO, np.zeros(3, np.int32)], {}, r"c is int32 of shape \[3\]"),
        ("QGemm", [BYTES, ONE, ZERO, whole(3, 4), ONE, ZERO, None, ONE], {}, "input y_zero_point is missing"),
        ("QGemm", [whole(1, 2, 3), ONE, ZERO, whole(3, 4), ONE, ZERO], {}, "a has 3 dimensions"),
    ],
)
def test_refusals(name, inputs, attributes, message):
    with pytest.raises(OpError, match=message):
        call(name, *inputs, **attributes)


@pytest.mark.parametrize(
    ("changes", "attributes", "message"),
    [
        ({}, {"bits": 3}, "bits is 3"),
        ({}, {"block_size": 24}, "block_size is 24"),
        ({}, {"K": 31}, "its last axis should be 31"),
        ({}, {"weight_prepacked": 1}, "prepacked"),
        ({1: whole(3, 2, 7)}, {}, r"B has shape \[3, 2, 7\], should be \[3, 2, 8\]"),
        ({2: normal(3, 3)}, {}, r"scales has shape \[3, 3\]"),
        ({2: normal(3, 2, dtype=F16)}, {}, "scales is float16, should be float32"),
        ({3: whole(3, 2)}, {}, r"zero_points has shape \[3, 2\], should be \[3, 1\]"),
        ({4: np.full(32, 2, np.int32)}, {}, "g_idx is 2 to 2, there are 2 blocks"),
        ({4: np.full(31, 0, np.int32)}, {}, "needs 32 numbers"),
        ({5: normal(4)}, {}, r"bias has shape \[4\]"),
    ],
)
def test_refusals_of_matmul_n_bits(changes, attributes, message):
    inputs = [normal(2, 32), whole(3, 2, 8), normal(3, 2), None, None, None]
    for i, value in changes.items():
        inputs[i] = value
    with pytest.raises(OpError, match=message):
        call("MatMulNBits", *inputs, **{"K": 32, "N": 3, "bits": 4, "block_size": 16, **attributes})


def test_quantised_domains_agree():
    x, scale, zero = normal(3, 4), np.abs(normal(4, seed=1)) + F32(0.1), whole(4)
    np.testing.assert_array_equal(
        call("QuantizeLinear", x, scale, zero, axis=1), run("QuantizeLinear", x, scale, zero, axis=1)
    )
