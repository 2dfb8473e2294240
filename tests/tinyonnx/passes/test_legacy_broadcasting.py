"""Passes leave operators of opsets 1 to 6 alone whose operands don't meet at the last axes, as in later opsets."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyonnx
from tests.tinyonnx.passes.conftest import data

LINE, SQUARE = data(4, seed=1), data(4, 4, seed=2)
CONSTANTS = {"line": LINE, "square": SQUARE, "eps": np.float32(1e-5)}


def node(op_type, inputs, output, **attributes):
    return helper.make_node(op_type, inputs, [output], **attributes)


LEGACY = {"broadcast": 1, "axis": 1}
MOMENTS = [
    node("ReduceMean", ["x"], "mean", axes=[2]), node("Sub", ["x", "mean"], "c", broadcast=1, axis=0),
    node("Mul", ["c", "c"], "c2"), node("ReduceMean", ["c2"], "variance", axes=[2]),
    node("Add", ["variance", "eps"], "sum", broadcast=1), node("Sqrt", ["sum"], "deviation"),
    node("Div", ["c", "deviation"], "n", broadcast=1, axis=0),
]  # fmt: skip
GRAPHS = {
    "bias of a product": [node("MatMul", ["x", "square"], "p"), node("Add", ["p", "line"], "y", **LEGACY)],
    "bias of attention": [
        node("Transpose", ["x"], "k", perm=[0, 2, 1]), node("MatMul", ["x", "k"], "s"),
        node("Add", ["s", "line"], "b", **LEGACY), node("Softmax", ["b"], "w", axis=2), node("MatMul", ["w", "x"], "y"),
    ],
    "scale of a normalisation": [*MOMENTS, node("Mul", ["n", "line"], "y", **LEGACY)],
    "shift of a normalisation": [
        *MOMENTS, node("Mul", ["n", "line"], "z", broadcast=1), node("Add", ["z", "line"], "y", **LEGACY),
    ],
    "default axis of Concat": [
        node("Transpose", ["x"], "t", perm=[0, 2, 1]), node("Concat", ["t", "t"], "u"),
        node("Transpose", ["u"], "y", perm=[0, 2, 1]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_results_are_those_of_the_operators(name):
    graph = helper.make_graph(
        GRAPHS[name], "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, constant) for constant, array in CONSTANTS.items()],
    )  # fmt: skip
    opset = 3 if "Concat" in name else 6
    model = helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=3)
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    content, x = model.SerializeToString(), data(2, 4, 4)
    (expected,) = tinyonnx.InferenceSession(content, options).run(None, {"x": x})
    (found,) = tinyonnx.InferenceSession(content).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
