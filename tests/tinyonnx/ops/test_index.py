"""Gather, Scatter and operators that return indices: against onnxruntime and onnx's own cases; sizes are announced."""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

import tinyonnx.ops  # noqa: F401
from tests.tinyonnx.ops import oracles
from tests.tinyonnx.ops.running import check_against_onnxruntime, context_of, onnxruntime_outputs, run
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.registry import lookup

F32, I64 = np.float32, np.int64


def x(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(F32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, I64)


def words(*values: str) -> np.ndarray:
    return np.array(values, object)


def outputs(name: str, *inputs: Any, opset: int = 18, **attributes: Any) -> list[Any]:
    """Return the outputs of operators without a shape rule."""
    result = lookup("", name, opset).function(*inputs, **attributes)
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_scatter_reductions(reduction, dtype):
    data = (x(4, 3) * 10).astype(dtype)
    where = np.array([[0, 2, 1], [3, 0, -1]], I64)
    updates = (x(2, 3) * 10).astype(dtype)
    check_against_onnxruntime("ScatterElements", data, where, updates, opset=18, reduction=reduction)
    rows = np.array([[1], [-1]], I64) if reduction == "none" else np.array([[1], [1]], I64)
    check_against_onnxruntime("ScatterND", data, rows, updates, opset=18, reduction=reduction)


@pytest.mark.parametrize(("name", "opset"), [("Scatter", 9), ("ScatterElements", 11), ("ScatterND", 11)])
def test_scatter_before_reductions(name, opset):
    where = np.array([[2, 0]], I64) if name != "ScatterND" else np.array([[2, 0], [0, 1]], I64)
    updates = np.array([[5, 6]], F32) if name != "ScatterND" else np.array([5, 6], F32)
    check_against_onnxruntime(name, x(3, 3), where, updates, opset=opset)


def test_scatter_lets_infinities_and_nan_be():
    data, where = np.array([3e38, 1, np.nan], F32), np.array([[0], [1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("ScatterND", data, where, np.array([3e38, 2], F32), reduction="add")[0] == np.inf
        assert np.isnan(run("ScatterND", data, where, np.array([np.nan, 2], F32), reduction="max")[0])


def test_scatter_of_bfloat16():
    data = np.array([1, 2], ml_dtypes.bfloat16)
    result = run("ScatterND", data, np.array([[1], [1]]), np.array([3, 4], ml_dtypes.bfloat16), reduction="add")
    assert result.astype(F32).tolist() == [1, 9]


def test_strings_stay_strings():
    data = words("a", "bc", "def")
    for result, expected in [
        (run("Gather", data, np.array(1)), "bc"),
        (run("Gather", data, ints(-1, 0)), ["def", "a"]),
        (run("GatherND", data, ints(2)), "def"),
        (run("GatherElements", data, ints(1, 1)), ["bc", "bc"]),
        (run("ScatterElements", data, ints(0), words("long enough")), ["long enough", "bc", "def"]),
        (run("OneHot", ints(1), np.array(2), words("off", "on")), [["off", "on"]]),
        (run("Pad", data, ints(0, 1), np.array("pad", object)), ["a", "bc", "def", "pad"]),
        (run("Pad", data, ints(1, 0)), ["", "a", "bc", "def"]),
        (run("Tile", data[:1], ints(2)), ["a", "a"]),
        (run("Concat", data[:1], data[1:2], axis=0), ["a", "bc"]),
        (outputs("Unique", words("b", "a", "b"))[0], ["a", "b"]),
    ]:
        assert result.dtype == object
        assert result.tolist() == expected


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique(ordered, axis):
    # in order of appearance the values turn round (2, 3, 1), so that a permutation isn't its own inverse
    data = np.array([[2, 3, 1, 3], [2, 3, 1, 3], [3, 3, 1, 3], [1, 3, 1, 3]], F32)
    attributes = {"sorted": ordered} | ({} if axis is None else {"axis": axis})
    expected = onnxruntime_outputs("Unique", data, opset=11, n_outputs=4, **attributes)
    for output, wanted in zip(outputs("Unique", data, **attributes), expected, strict=True):
        np.testing.assert_array_equal(output, wanted, strict=True)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(axis):
    attributes = {} if axis is None else {"axis": axis}
    condition = np.array([True, False, True])
    (expected,) = onnxruntime_outputs("Compress", x(3, 4), condition, opset=11, **attributes)
    np.testing.assert_array_equal(outputs("Compress", x(3, 4), condition, **attributes)[0], expected, strict=True)


@pytest.mark.parametrize("data", [np.array([[0, 2], [3, 0]], F32), np.zeros((2, 0, 3), F32), np.array([True, False])])
def test_non_zero(data):
    (expected,) = onnxruntime_outputs("NonZero", data, opset=13)
    np.testing.assert_array_equal(outputs("NonZero", data)[0], expected, strict=True)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot_counts_negatives_from_the_end_and_leaves_others_off(axis):
    indices = np.array([[0, -1, 3], [-4, 4, -5]], I64)
    check_against_onnxruntime("OneHot", indices, np.array(4, I64), np.array([2, 7], F32), opset=11, axis=axis)


@pytest.mark.parametrize("opset", [1, 10, 11])
def test_top_k(opset):
    data = np.array([[3, 1, 3, 2], [0, -1, 5, 5]], F32)
    if opset == 1:
        check_against_onnxruntime("TopK", data, opset=opset, n_outputs=2, k=3, axis=1)
    else:
        check_against_onnxruntime("TopK", data, ints(3), opset=opset, n_outputs=2)
        check_against_onnxruntime("TopK", data, ints(1), opset=opset, n_outputs=2, axis=0)
    if opset > 10:
        check_against_onnxruntime("TopK", data, ints(4), opset=opset, n_outputs=2, largest=0)


@pytest.mark.parametrize("k", [-5, -2, 0, 1, 3, 9])
@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (0, 3)])
def test_eye_like(k, shape):
    np.testing.assert_array_equal(run("EyeLike", np.ones(shape, F32), k=k), np.eye(*shape, k=k, dtype=F32))
    assert run("EyeLike", np.ones(shape, F32), k=k, dtype=7).dtype == I64


@pytest.mark.parametrize("batch_axis", [0, 1])
def test_reverse_sequence(batch_axis):
    check_against_onnxruntime(
        "ReverseSequence", x(3, 3, 2), ints(1, 3, 2), opset=10, batch_axis=batch_axis, time_axis=1 - batch_axis
    )


FAMILY = ["Scatter", "ScatterElements", "ScatterND", "Unique", "Compress", "NonZero", "OneHot", "TopK", "EyeLike"]


@pytest.mark.parametrize("op_type", [*FAMILY, "ReverseSequence", "GatherND"])
def test_backend_cases(op_type):
    oracles.check_cases(op_type, _check_backend_case)


def _check_backend_case(case):
    node = case.model.graph.node[0]
    attributes = {a.name: oracles.helper.get_attribute_value(a) for a in node.attribute}
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    entry = lookup("", node.op_type, case.opset)
    assert case.data
    for feeds, expected in case.data:
        known = dict(zip((i.name for i in case.model.graph.input), feeds, strict=True))
        inputs = [known[name] if name else None for name in node.input]
        ctx = [context_of(node.op_type, case.opset, len(node.output))] * entry.takes_ctx
        results = entry.function(*ctx, *inputs, **attributes)
        results = results if isinstance(results, tuple) else [results]
        present = [r for r, name in zip(results, node.output) if name]
        for result, wanted in zip(present, expected, strict=True):
            wanted = numpy_helper.to_array(wanted) if not isinstance(wanted, np.ndarray) else wanted
            np.testing.assert_allclose(result, wanted, rtol=1e-6)
            assert result.dtype == wanted.dtype
            assert result.shape == wanted.shape


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("ConstantOfShape", [ints(2**40)], {}),
        ("Range", [np.array(0, I64), np.array(2**50, I64), np.array(1, I64)], {}),
        ("Range", [np.array(0, F32), np.array(1e30, F32), np.array(1e-9, F32)], {}),
        ("Tile", [x(2), ints(2**40)], {}),
        ("Expand", [x(1), ints(2**40)], {}),
        ("Pad", [x(2), ints(0, 2**40)], {}),
        ("Pad", [x(2), ints(0, 2**40)], {"mode": "wrap"}),
        ("OneHot", [ints(0), np.array(2**40), x(2)], {}),
        ("EyeLike", [np.broadcast_to(np.int8(0), (2**20, 2**20))], {}),
    ],
)
def test_what_is_huge_is_refused_before_it_is_allocated(name, inputs, attributes):
    entry = lookup("", name, 19)
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        entry.function(context_of(name, 19, 1), *inputs, **attributes)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("Gather", [x(3), ints(0)], {"axis": 1}, "axis 1 is out of range for rank 1"),
        ("Gather", [x(3), x(1)], {}, "index must be integers, is float32"),
        ("Gather", [x(3), ints(0, 3)], {}, "index 3 is out of range for 3 elements"),
        ("Gather", [x(2, 3), ints(-4, 1)], {"axis": 1}, "index -4 is out of range for 3 elements"),
        ("Gather", [x(3, 0), ints(3)], {}, "index 3 is out of range for 3 elements"),
        ("Gather", [x(0, 3), ints(0)], {}, "index 0 is out of range for 0 elements"),
        ("Gather", [x(3), np.array([3], np.uint64)], {}, "index 3 is out of range for 3 elements"),
        ("GatherElements", [x(3, 3), ints(0)], {}, "indices have rank 1, data has rank 2"),
        ("GatherElements", [x(2, 2), np.zeros((1, 3), I64)], {}, "reach beyond data"),
        ("GatherND", [x(3), np.zeros((1, 2), I64)], {}, "don't fit data"),
        ("GatherND", [x(3), np.zeros((1, 0), I64)], {}, "don't fit data"),
        ("GatherND", [x(3), ints(3)], {}, "index 3 is out of range for 3 elements"),
        ("ScatterND", [x(3), ints(-4), np.array(1, F32)], {}, "index -4 is out of range for 3 elements"),
        ("ScatterElements", [x(3), ints(3), x(1)], {}, "index 3 is out of range for 3 elements"),
        ("ScatterElements", [x(3), ints(0), x(1).astype(np.float64)], {}, "updates are float64, data is float32"),
        ("ScatterElements", [x(3), ints(0), x(1)], {"reduction": "mean"}, "unknown reduction 'mean'"),
        ("ScatterElements", [words("a"), ints(0), words("b")], {"reduction": "add"}, "can't reduce strings"),
        ("OneHot", [ints(0), np.array(np.nan), x(2)], {}, "depth must be one positive number"),
        ("OneHot", [ints(0), np.array(3), x(3)], {}, r"values must be off and on, shape \[2\]"),
        ("TopK", [x(3), ints(1, 2)], {}, "k must be one integer"),
        ("TopK", [x(3), ints(-1)], {}, "k is -1"),
        ("EyeLike", [x(3)], {}, "needs rank 2"),
        ("EyeLike", [x(3, 3)], {"dtype": 99}, "unknown data type 99"),
        ("Compress", [x(3), np.array([True] * 4)], {}, "4 conditions for 3 elements"),
        ("Unique", [x(3)], {"axis": 1}, "axis 1 is out of range"),
        ("ReverseSequence", [x(3, 2), ints(1, 4)], {}, "length 4 of sequence 1 is out of range"),
        ("ReverseSequence", [x(3, 2), ints(1)], {}, r"\[1\] lengths for a batch of 2"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    entry = lookup("", name, 18)
    with pytest.raises(OpError, match=message):
        entry.function(*([context_of(name, 18, 1)] if entry.takes_ctx else []), *inputs, **attributes)
