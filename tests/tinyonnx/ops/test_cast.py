"""Element types against onnx.helper; conversions against onnx's reference and by the specification's tables."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import tinyonnx.ops  # noqa: F401
from tests.tinyonnx.ops.running import run
from tinyonnx.dtypes import NUMBERS as DTYPE_NUMBERS
from tinyonnx.dtypes import from_onnx_type, numpy_dtype, onnx_type
from tinyonnx.errors import OpError

NUMBERS = {name: number for name, number in TensorProto.DataType.items() if name != "UNDEFINED"}
FLOAT8 = ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"]


def test_every_element_type_has_its_dtype_and_its_name():
    assert sorted(DTYPE_NUMBERS.values()) == sorted(NUMBERS.values())
    for name, number in NUMBERS.items():
        dtype = numpy_dtype(number)
        assert dtype == helper.tensor_dtype_to_np_dtype(number)
        assert onnx_type(dtype) == f"tensor({name.lower()})"
        assert from_onnx_type(f"tensor({name.lower()})") == dtype
    assert onnx_type(np.dtype("M8[s]")) is None
    with pytest.raises(KeyError):
        from_onnx_type("seq(tensor(float))")


def reference(x, to: int, opset: int = 24, **attributes):
    node = helper.make_node("Cast", ["x"], ["y"], to=to, **attributes)
    graph = helper.make_graph(
        [node],
        "cast",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", to, x.shape)],
    )
    proto = helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(proto).run(None, {"x": x})[0]


def bits(x):
    return x.view({1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[x.dtype.itemsize])


EDGES = [0.0, -0.0, 1.0, -1.5, 1e-9, 3e-4, 0.1, 17.0, 239.9, 240.1, 255.9, 447.0, 470.0, 57344.0, 6e4, 1e30, -1e30]


@pytest.mark.parametrize("name", FLOAT8)
@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("source", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_float8_rounds_and_saturates(name, saturate, source):
    with np.errstate(over="ignore"):
        x = np.array([*EDGES, np.inf, -np.inf], np.float32).astype(source)
    output = run("Cast", x, to=NUMBERS[name], saturate=saturate, opset=24)
    np.testing.assert_array_equal(bits(output), bits(reference(x, NUMBERS[name], saturate=saturate)))


@pytest.mark.parametrize("name", FLOAT8)
def test_nan_stays_nan(name):
    x = np.array([np.nan], np.float32)
    assert np.isnan(run("Cast", x, to=NUMBERS[name]).astype(np.float32)).all()


@pytest.mark.parametrize("round_mode", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_float8e8m0(round_mode, saturate):
    # normal numbers, exact powers and halves between them
    x = np.array([2.0**-126, 2.0**-60, 0.9, 1, 1.4999, 1.5, 1.5001, 2, 3e10, 2.0**127, np.nan], np.float32)
    output = run("Cast", x, to=24, opset=24, round_mode=round_mode, saturate=saturate)
    np.testing.assert_array_equal(bits(output), bits(reference(x, 24, round_mode=round_mode, saturate=saturate)))


def test_float8e8m0_special_values():
    x = np.array([0, np.inf, 3e38, 1e-45], np.float32)
    assert bits(run("Cast", x, to=24, opset=24)).tolist() == [0, 254, 254, 0]
    assert bits(run("Cast", x, to=24, opset=24, saturate=0, round_mode="nearest")).tolist() == [255, 255, 255, 255]


@pytest.mark.parametrize(
    "source", ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "UINT64", "BOOL", "INT4", "UINT4"]
)
@pytest.mark.parametrize("target", [n for n in NUMBERS if n not in ("STRING", "COMPLEX64", "COMPLEX128", "FLOAT8E8M0")])
def test_small_numbers_between_all_types(source, target):
    x = np.array([0, 1, 2, 5, 7, 3], np.float32).astype(numpy_dtype(NUMBERS[source]))
    output = run("Cast", x, to=NUMBERS[target], opset=25)
    # the reference can't convert small integers to other small types
    expected = reference(x.astype(np.int8) if "INT4" in source else x, NUMBERS[target], opset=25)
    assert output.dtype == expected.dtype
    np.testing.assert_array_equal(output.astype(np.float64), expected.astype(np.float64))


def test_integers_out_of_range_lose_their_high_bits():
    x = np.array([200, -300, 2**40 + 5])
    assert run("Cast", x, to=TensorProto.INT8).tolist() == [-56, -44, 5]
    assert run("Cast", x, to=TensorProto.INT4, opset=21).astype(int).tolist() == [-8, 4, 5]


def test_names_of_types_in_opset_1():
    x = np.array([1.9, 0], np.float64)
    assert run("Cast", x, to="INT32", opset=1).dtype == np.int32
    assert run("Cast", x, to="FLOAT", opset=1).dtype == np.float32
    assert run("Cast", x, to="BOOL", opset=1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        (np.float32, 0.1, "0.1"),
        (np.float64, 1 / 3, "0.3333333333333333"),
        (np.float16, 0.1, "0.1"),
        (np.float32, 100, "100"),
        (np.float32, -0.0, "-0"),
        (np.float32, 1e30, "1e+30"),
        (np.float32, -np.inf, "-INF"),
        (np.float32, np.nan, "NaN"),
        (np.int64, -(2**63), "-9223372036854775808"),
        (np.bool_, True, "1"),
        (ml_dtypes.int4, -8, "-8"),
    ],
)
def test_numbers_as_text(dtype, value, text):
    output = run("Cast", np.array([value]).astype(dtype), to=TensorProto.STRING)
    assert output.dtype == object
    assert output.tolist() == [text]
    assert type(output[0]) is str


def test_text_as_numbers():
    x = np.array([["3.5", " 7 "], ["+INF", "1e3"]], object)
    np.testing.assert_array_equal(run("Cast", x, to=1), np.array([[3.5, 7], [np.inf, 1000]], np.float32), strict=True)
    x = np.array(["18446744073709551615", "2.9", "-0"], object)
    np.testing.assert_array_equal(run("Cast", x, to=13), np.array([2**64 - 1, 2, 0], np.uint64), strict=True)
    assert run("Cast", np.array(["1", "0"], object), to=9).tolist() == [True, False]
    assert run("Cast", np.array("5", object), to=6).shape == ()


@pytest.mark.parametrize(
    ("x", "to", "message"),
    [
        (np.array(["x1"], object), 1, "can't cast the string 'x1' to float32"),
        (np.array(["1_0"], object), 7, "can't cast the string '1_0' to int64"),
        (np.array(["nan"], object), 7, "can't cast the string 'nan' to int64"),
        (np.array(["300"], object), 3, "to int8: it is out of range"),
        (np.array(["1" * 30], object), 7, "to int64: it is out of range"),
        (np.array([1j]), 1, "can't cast complex128 to float32"),
        (np.array([1.0]), 0, "unknown data type 0"),
        (np.array([1.0]), "FLOAT33", "unknown data type FLOAT33"),
    ],
)
def test_refusals_say_what_is_wrong(x, to, message):
    with pytest.raises(OpError, match=message):
        run("Cast", x, to=to)


def test_cast_like_takes_only_the_type():
    output = run("CastLike", np.array([1.7, -1.7], np.float32), np.zeros((3, 3), np.int8))
    np.testing.assert_array_equal(output, np.array([1, -1], np.int8), strict=True)


# -- BitCast ----------------------------------------------------------------------------

NOT_CASTABLE = {"FLOAT6E2M3", "FLOAT6E3M2", "STRING"}
WIDTH = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
CASTABLE = {n: WIDTH.get(n, numpy_dtype(i).itemsize * 8) for n, i in NUMBERS.items() if n not in NOT_CASTABLE}
PAIRS = [(a, b) for a in CASTABLE for b in CASTABLE if CASTABLE[a] == CASTABLE[b] and "BOOL" not in (a, b)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_bit_cast_keeps_every_bit(source, target):
    width = CASTABLE[source]
    if width < 8:
        codes = np.arange(2**width, dtype=np.uint8)
    else:
        codes = np.random.default_rng(0).integers(0, 256, 8 * width, np.uint8)
    x = codes.view(numpy_dtype(NUMBERS[source])).reshape(2, -1)
    y = run("BitCast", x, opset=26, to=NUMBERS[target])
    assert y.dtype == numpy_dtype(NUMBERS[target])
    assert y.shape == x.shape
    assert y.tobytes() == codes.tobytes()


def test_bit_cast_of_signed_quarter_bytes():
    x = np.array([-8, -1, 0, 7]).astype(ml_dtypes.int4)
    unsigned = run("BitCast", x, opset=26, to=TensorProto.UINT4)
    assert unsigned.astype(int).tolist() == [8, 15, 0, 7]
    assert run("BitCast", unsigned, opset=26, to=TensorProto.INT4).astype(int).tolist() == [-8, -1, 0, 7]


def test_bit_cast_by_hand():
    one = np.array(1.0, np.float32)
    assert run("BitCast", one, opset=26, to=TensorProto.INT32).item() == 0x3F800000
    assert run("BitCast", np.array([0, 1, 2], np.uint8), opset=26, to=TensorProto.BOOL).tolist() == [False, True, True]
    strided = np.arange(8, dtype=np.uint32)[::3]
    assert run("BitCast", strided, opset=26, to=TensorProto.INT32).tolist() == [0, 3, 6]


@pytest.mark.parametrize(
    ("x", "to", "message"),
    [
        (np.zeros(1, np.float32), TensorProto.DOUBLE, "float32 has 32 bits, float64 has 64"),
        (np.zeros(1, np.uint8), TensorProto.UINT4, "uint8 has 8 bits, uint4 has 4"),
        (np.zeros(1, np.float32), TensorProto.STRING, "strings have no bits"),
        (np.array([""], object), TensorProto.INT64, "strings have no bits"),
        (np.zeros(1, np.float32), 99, "unknown data type 99"),
    ],
)
def test_bit_cast_refusals(x, to, message):
    with pytest.raises(OpError, match=message):
        run("BitCast", x, opset=26, to=to)
