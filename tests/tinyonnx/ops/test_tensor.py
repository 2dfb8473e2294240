"""Shapes, tensors, indices, casts: older versions against onnxruntime, refusals by message."""

from __future__ import annotations

import numpy as np
import pytest

import tinyonnx.ops  # noqa: F401
from tests.tinyonnx.ops.running import check_against_onnxruntime, context_of, run
from tinyonnx.errors import OpError
from tinyonnx.registry import Info, lookup

I64 = np.int64


def x(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, I64)


@pytest.mark.parametrize(
    ("name", "opset", "inputs", "attributes"),
    [
        ("Reshape", 5, [x(2, 3, 4), ints(0, -1)], {}),
        ("Reshape", 14, [x(0, 3), ints(3, 0)], {"allowzero": 1}),
        ("Squeeze", 11, [x(1, 3, 1)], {"axes": [-1]}),
        ("Squeeze", 11, [x(1, 3, 1)], {}),
        ("Squeeze", 13, [x(1, 3, 1), ints(0, -1)], {}),
        ("Unsqueeze", 11, [x(3)], {"axes": [0, 2]}),
        ("Unsqueeze", 13, [x(3), ints(-1, 0)], {}),
        ("Flatten", 9, [x(2, 3, 4)], {"axis": 0}),
        ("Flatten", 13, [x(2, 3, 4)], {"axis": -1}),
        ("Transpose", 13, [x(2, 3, 4)], {}),
        ("Transpose", 13, [x(2, 3, 4)], {"perm": [1, 2, 0]}),
        ("Expand", 13, [x(3, 1), ints(2, 1, 6)], {}),
        ("Concat", 4, [x(2, 3), x(2, 3)], {"axis": -1}),
        ("Slice", 9, [x(5, 6)], {"starts": [1, -3], "ends": [1000, -1], "axes": [0, 1]}),
        ("Slice", 13, [x(5, 6), ints(-1, 5), ints(-1000, 0), ints(0, 1), ints(-2, -1)], {}),
        ("Slice", 13, [x(5, 6), ints(3), ints(3)], {}),
        ("Slice", 13, [x(5), ints(-7), ints(-9), ints(0), ints(-1)], {}),
        ("Slice", 13, [x(5), ints(1000), ints(1), ints(0), ints(-1)], {}),
        ("Tile", 13, [x(2, 3), ints(2, 0)], {}),
        ("Pad", 10, [x(3, 4)], {"pads": [1, 0, 2, 3], "value": 1.5}),
        ("Pad", 10, [x(3, 4)], {"pads": [1, 2, 2, 3], "mode": "reflect"}),
        ("Pad", 13, [x(3, 4), ints(-1, 1, 0, -2), np.array(2.0, np.float32)], {}),
        ("Pad", 18, [x(3, 4), ints(1, 2), np.array(2.0, np.float32), ints(-1)], {}),
        ("Pad", 19, [x(3, 4), ints(0, 3, 0, 2)], {"mode": "wrap"}),
        ("Gather", 13, [x(3, 4), np.array([[0, -1], [1, 1]], I64)], {"axis": 1}),
        ("GatherElements", 13, [x(3, 4), np.array([[0, -1], [1, 1]], I64)], {"axis": 1}),
        ("GatherND", 13, [x(2, 3, 4), np.array([[[0], [2]], [[1], [-1]]], I64)], {"batch_dims": 1}),
        ("ScatterElements", 18, [x(3, 3), np.zeros((2, 2), I64), x(2, 2)], {"reduction": "add", "axis": 1}),
        ("ScatterND", 18, [x(4, 3), np.array([[1], [1]], I64), x(2, 3)], {"reduction": "max"}),
        ("Trilu", 14, [x(3, 5), np.array(-1, I64)], {"upper": 0}),
    ],
    ids=lambda v: str(v) if isinstance(v, (str, int)) else None,
)
def test_equals_onnxruntime(name, opset, inputs, attributes):
    check_against_onnxruntime(name, *inputs, opset=opset, **attributes)


@pytest.mark.parametrize("opset", [2, 11])
def test_split_as_attribute_and_equal_parts(opset):
    check_against_onnxruntime("Split", x(6, 2), opset=opset, n_outputs=3)
    check_against_onnxruntime("Split", x(6, 2), opset=opset, n_outputs=2, axis=-2, split=[4, 2])


def test_split_as_input_and_uneven():
    check_against_onnxruntime("Split", x(6, 2), ints(1, 5), opset=13, n_outputs=2)
    check_against_onnxruntime("Split", x(7, 2), opset=18, n_outputs=3, num_outputs=3)


def test_top_k_keeps_the_lower_index_first_among_equals():
    values = np.array([1, 3, 3, 2, 3], np.float32)
    entry = lookup("", "TopK", 11)
    top, where = entry.function(values, ints(4))
    assert (top.tolist(), where.tolist()) == ([3, 3, 3, 2], [1, 2, 4, 3])
    low, where = entry.function(values, ints(5), largest=0)
    assert (low.tolist(), where.tolist()) == ([1, 2, 3, 3, 3], [0, 3, 1, 2, 4])


@pytest.mark.parametrize(
    ("value", "to", "expected"),
    [
        (np.array([1.9, -1.9], np.float32), 7, ints(1, -1)),
        (np.array([0.0, -0.5, np.nan], np.float32), 9, np.array([False, True, True])),
        (np.array(["3.5", "nan", "-inf", "1e3"], object), 1, np.array([3.5, np.nan, -np.inf, 1000], np.float32)),
        (np.array(["9007199254740993"], object), 7, ints(9007199254740993)),
        (np.array([1, 0], np.int32), 8, np.array(["1", "0"], object)),
        (np.array([1.5, np.inf], np.float32), 8, np.array(["1.5", "INF"], object)),
        (np.array([70000.0], np.float32), 10, np.array([np.inf], np.float16)),
    ],
)
def test_cast(value, to, expected):
    result = lookup("", "Cast", 19).function(value, to=to)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_shape_and_size_are_known_before_the_run():
    info = Info(np.dtype(np.float32), (2, 0, 5))
    shape = lookup("", "Shape", 15).shape(info, start=-2)
    size = lookup("", "Size", 13).shape(info)
    assert shape.value.tolist() == [0, 5]
    assert size.value.item() == 0


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("Reshape", [x(2, 3), ints(4, 2)], {}, r"can't reshape \[2, 3\] \(6 elements\) to \[4, 2\]"),
        ("Reshape", [x(2, 3), ints(-1, -1)], {}, "more than one unknown"),
        ("Reshape", [x(2, 3), ints(4, -1)], {}, "can't reshape"),
        ("Reshape", [x(6), ints(3, 0)], {}, "copies dimension 1"),
        ("Squeeze", [x(2, 1), ints(0)], {}, "its size is not 1"),
        ("Squeeze", [x(2, 1), ints(5)], {}, "axis 5 is out of range for rank 2"),
        ("Unsqueeze", [x(2), ints(0, 0)], {}, "axes contain duplicates"),
        ("Transpose", [x(2, 3)], {"perm": [0, 0]}, "not a permutation"),
        ("Expand", [x(2, 3), ints(4, 3)], {}, "can't expand"),
        ("Concat", [x(2, 3), x(3, 3)], {"axis": 1}, "can't join"),
        ("Concat", [x(2, 3), x(2, 3).astype(np.float64)], {"axis": 1}, "different dtypes"),
        ("Split", [x(6), ints(2, 5)], {}, "doesn't add up"),
        ("Slice", [x(6), ints(0), ints(3), ints(0), ints(0)], {}, "a step is 0"),
        ("Slice", [x(6), ints(0), ints(3), ints(4)], {}, "axis 4 is out of range"),
        ("Pad", [x(3), ints(-2, -2)], {}, "cut more than the 3 elements"),
        ("Pad", [x(3), ints(1)], {}, "1 pads for 1 axes, expected 2"),
        ("Pad", [x(3), ints(1, 1)], {"mode": "mirror"}, "unknown mode"),
        ("Tile", [x(3), ints(2, 2)], {}, "don't fit"),
        ("Gather", [x(3), ints(3)], {}, "index 3 is out of range for 3 elements"),
        ("GatherElements", [x(3), ints(-4)], {}, "index -4 is out of range"),
        ("ScatterND", [x(3), np.array([[0]], I64), x(2)], {}, "updates have shape"),
        ("ScatterElements", [x(3), ints(0), x(2)], {}, "differ in shape"),
        ("OneHot", [ints(1), ints(0), x(2)], {}, "depth must be one positive number"),
        ("ConstantOfShape", [ints(-1)], {}, "negative dimension"),
        ("Range", [ints(0).reshape(()), ints(5).reshape(()), ints(0).reshape(())], {}, "delta is 0"),
        ("Cast", [np.array(["two"], object)], {"to": 1}, "can't cast the string 'two' to float32"),
        ("Cast", [x(1)], {"to": 99}, "unknown data type 99"),
        ("TopK", [x(3), ints(4)], {}, "k is 4, the axis has 3 elements"),
        ("Constant", [], {}, "exactly one value"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    entry = lookup("", name, 21)
    with pytest.raises(OpError, match=message):
        entry.function(*([context_of(name, 21, 2)] if entry.takes_ctx else []), *inputs, **attributes)


def test_running_directly_keeps_scalars_arrays():
    assert isinstance(run("Gather", x(3), np.array(1, I64)), np.ndarray)
