"""Sequences and optionals: the operators that onnx's own cases leave out, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import tinyonnx
from tests.tinyonnx.ops.running import context_of
from tinyonnx.errors import OpError
from tinyonnx.registry import lookup

F32, I64 = np.float32, np.int64


def run(name: str, *inputs: Any, opset: int = 18, **attributes: Any) -> Any:
    entry = lookup("", name, opset)
    return entry.function(*[context_of(name, opset, 1)] * entry.takes_ctx, *inputs, **attributes)


def reference(name: str, *inputs: Any, **attributes: Any) -> Any:
    names = [f"x{i}" for i in range(len(inputs))]
    node = onnx.helper.make_node(name, names, ["y"], **attributes)
    (output,) = ReferenceEvaluator(node).run(None, dict(zip(names, inputs, strict=True)))
    return output


@pytest.mark.parametrize(
    "attributes", [{"axis": 0}, {"axis": -1}, {"axis": 0, "new_axis": 1}, {"axis": -1, "new_axis": 1}]
)
def test_concat_from_sequence(attributes):
    parts = [np.arange(6, dtype=F32).reshape(2, 3) * i for i in range(3)]
    expected = reference("ConcatFromSequence", parts, **attributes)
    np.testing.assert_array_equal(run("ConcatFromSequence", parts, **attributes), expected, strict=True)


X = np.arange(12, dtype=F32).reshape(4, 3)


@pytest.mark.parametrize("split", [None, np.array(3), np.array([1, 3]), np.array([0, 4])], ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_split_to_sequence(split, keepdims):
    inputs = [X] if split is None else [X, split]
    expected = reference("SplitToSequence", *inputs, axis=0, keepdims=keepdims)
    output = run("SplitToSequence", *inputs, axis=0, keepdims=keepdims)
    assert len(output) == len(expected)
    for a, b in zip(output, expected, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("position", [-3, -1, 0, 2])
def test_at_and_erase(position):
    items = [np.array(i, F32) for i in range(3)]
    rest = items.copy()
    assert run("SequenceAt", items, np.array(position)) is items[position]
    del rest[position]
    assert run("SequenceErase", items, np.array(position)) == rest
    assert len(items) == 3


@pytest.mark.parametrize("position", [None, -3, -1, 0, 3])
def test_insert_leaves_its_input_alone(position):
    items = [np.array(i, F32) for i in range(3)]
    new = np.array(9, F32)
    at = None if position is None else np.array(position)
    result = run("SequenceInsert", items, new, at)
    assert len(items) == 3
    assert result[3 if position is None else position % 3 if position < 0 else position] is new


@pytest.mark.parametrize(
    "node",
    [
        "y = ConcatFromSequence <axis = 1> (s)",
        "y = ConcatFromSequence <axis = -1, new_axis = 1> (s)",
        "y = ConcatFromSequence <axis = 0, new_axis = 1> (s)",
        "p = Constant <value_int = 1> () t = SequenceErase (s, p) y = ConcatFromSequence <axis = 0> (t)",
        "p = Constant <value_int = -3> () t = SequenceErase (s, p) y = ConcatFromSequence <axis = 0> (t)",
        "t = SequenceErase (s) y = ConcatFromSequence <axis = 0> (t)",
    ],
)
def test_whole_models_like_onnxruntime(node):
    text = f"""<ir_version: 8, opset_import: ["": 17]> agraph (float[2, 3] a, float[2, 3] b) => (float y) {{
        s = SequenceConstruct (a, b, a)
        {node}
    }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    feeds = {"a": np.arange(6, dtype=F32).reshape(2, 3), "b": -np.ones((2, 3), F32)}
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)
    (output,) = tinyonnx.InferenceSession(proto.SerializeToString()).run(None, feeds)
    np.testing.assert_array_equal(output, expected, strict=True)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("SequenceAt", [[X], np.array(1)], {}, "position 1 is out of range for 1 places"),
        ("SequenceErase", [[], None], {}, "position -1 is out of range for 0 places"),
        ("SequenceInsert", [[X], X, np.array(2)], {}, "out of range for inserting into 1"),
        ("SequenceInsert", [[X], X.astype(I64)], {}, "a sequence of float32 can't hold int64"),
        ("SequenceConstruct", [X, X.astype(I64)], {}, "a sequence of float32 can't hold int64"),
        ("SequenceEmpty", [], {"dtype": 77}, "unknown data type 77"),
        ("ConcatFromSequence", [[]], {"axis": 0}, "the sequence is empty"),
        ("ConcatFromSequence", [[X, X[0]]], {"axis": 0}, "can't join"),
        ("ConcatFromSequence", [[X, X[0]]], {"axis": 0, "new_axis": 1}, "different ranks"),
        ("SplitToSequence", [X, np.array([1, 1])], {}, "doesn't add up to the 4 elements"),
        ("SplitToSequence", [X, np.array(0)], {}, "split is 0, must be positive"),
        ("OptionalGetElement", [None], {}, "no element"),
        ("Optional", [], {}, "the type of the missing one"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    with pytest.raises(OpError, match=message):
        run(name, *inputs, **attributes)
