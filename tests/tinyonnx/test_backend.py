"""tinyonnx.backend behind onnx's own interface, and under onnx's own tests."""

from __future__ import annotations

import unittest
import warnings

import numpy as np
import onnx
import pytest
from onnx import helper, parser

import tinyonnx
import tinyonnx.backend

MODEL = parser.parse_model(
    """<ir_version: 8, opset_import: ["" : 18]>
    m (float[n] x, float[n] w) => (float[n] sum, float[n] y) <float[2] w = {1, 2}> { sum = Add(x, w) y = Neg(sum) }"""
)
X = np.array([3, 4], np.float32)


def test_prepare_and_run():
    rep = tinyonnx.backend.prepare(MODEL, "CPU")
    for inputs in ([X], (X,), X, {"x": X}):
        outputs = rep.run(inputs)
        np.testing.assert_array_equal(outputs, [[4, 6], [-4, -6]])
    np.testing.assert_array_equal(outputs["y"], outputs.sum * -1)
    np.testing.assert_array_equal(rep.run({"x": X, "w": X})[0], [6, 8])


def test_run_model():
    np.testing.assert_array_equal(tinyonnx.backend.run_model(MODEL, [X])[0], [4, 6])


@pytest.mark.parametrize(
    ("node", "inputs", "arguments", "expected"),
    [
        (helper.make_node("Add", ["a", "b"], ["c"]), [X, X], {}, [[6, 8]]),
        (helper.make_node("Add", ["a", "a"], ["c"]), [X, X], {}, [[6, 8]]),
        (helper.make_node("Add", ["a", "b"], ["c"]), {"a": X, "b": X}, {"opset_version": 7}, [[6, 8]]),
        (helper.make_node("Clip", ["a", "", "b"], ["c"]), [X, np.float32(3.5)], {}, [[3, 3.5]]),
        (helper.make_node("TopK", ["a", "k"], ["v", "i"]), [X, np.array([1])], {}, [[4], [1]]),
        (helper.make_node("TopK", ["a", "k"], ["", "i"]), [X, np.array([1])], {}, [[1]]),
        (helper.make_node("SequenceLength", ["s"], ["n"]), [[X, X]], {}, [2]),
        (helper.make_node("Identity", ["s"], ["t"]), np.array(["a", "b"]), {}, [["a", "b"]]),
        (helper.make_node("Binarizer", ["a"], ["b"], domain="ai.onnx.ml", threshold=3.0), [X], {}, [[0, 1]]),
    ],
)
def test_run_node(node, inputs, arguments, expected):
    outputs = tinyonnx.backend.run_node(node, inputs, "CPU", **arguments)
    assert len(outputs) == len(expected)
    for output, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, wanted)


def test_devices():
    found = {d: tinyonnx.backend.supports_device(d) for d in ("CPU", "CPU:0", "CUDA", "CUDA:1", "TPU", "", "CPU:x")}
    assert {device for device, supported in found.items() if supported} == {"CPU", "CPU:0"}
    with pytest.raises(tinyonnx.InputError, match="'CUDA'"):
        tinyonnx.backend.prepare(MODEL, "CUDA")


def test_compatible():
    lacking = onnx.ModelProto()
    lacking.CopyFrom(MODEL)
    lacking.graph.node[0].op_type = "Vanished"
    assert tinyonnx.backend.is_compatible(MODEL)
    assert not tinyonnx.backend.is_compatible(lacking)
    assert not tinyonnx.backend.is_compatible(MODEL, "CUDA")


def test_mistakes():
    with pytest.raises(tinyonnx.InputError, match="takes 1 inputs, got 3"):
        tinyonnx.backend.prepare(MODEL).run([X, X, X])
    with pytest.raises(tinyonnx.InputError, match="Add: takes 2 inputs, got 1"):
        tinyonnx.backend.run_node(helper.make_node("Add", ["a", "b"], ["c"]), [X])


def test_the_tests_of_onnx():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test import BackendTest

        tests = BackendTest(tinyonnx.backend, __name__).include(
            r"^test_(relu|softmax_axis_1|sequence_insert_at_back|Conv2d)_cpu$"
        )
    result = unittest.TestResult()
    tests.test_suite.run(result)
    assert result.testsRun - len(result.skipped) == 4
    assert (result.failures, result.errors) == ([], [])
