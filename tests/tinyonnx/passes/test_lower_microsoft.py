"""ONNX Runtime's own operators as ONNX's: each one compared with onnxruntime, and cases that are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyonnx
from tests.tinyonnx.ops.microsoft.running import check_contrib
from tests.tinyonnx.passes.conftest import data
from tinyonnx.ir import Graph

TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}


def lowered(name: str, feeds: dict[str, np.ndarray], constants: dict[str, np.ndarray], **attributes: Any) -> Graph:
    """Return the optimised graph of one operator; its inputs are the feeds and then the constants."""
    weights = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    inputs = [helper.make_tensor_value_info(key, TYPES[x.dtype], x.shape) for key, x in feeds.items()]
    node = helper.make_node(name, [*feeds, *constants], ["y"], domain="com.microsoft", **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], name, inputs, [output], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return tinyonnx.InferenceSession(content).plan_for(None, feeds).graph


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


X, W, IMAGE = data(2, 5, 8), data(8, 6, seed=1), data(1, 3, 6, 6)
FILTERS, VECTOR = data(4, 3, 3, 3, seed=2), data(8, seed=3)


@pytest.mark.parametrize(
    ("name", "feeds", "constants", "attributes", "expected"),
    [
        ("BiasGelu", {"x": X}, {"b": VECTOR}, {}, ["Add", "Gelu"]),
        ("FastGelu", {"x": X}, {"b": VECTOR}, {}, ["Add", "Gelu"]),
        ("QuickGelu", {"x": X}, {}, {"alpha": 1.5}, ["Swish"]),
        ("FusedMatMul", {"x": X}, {"w": W.T.copy()}, {"transB": 1}, ["MatMul"]),
        ("FusedMatMul", {"x": X}, {"w": W}, {"alpha": 0.5}, ["MatMul", "Mul"]),
        ("FusedConv", {"x": IMAGE}, {"w": FILTERS}, {"activation": "Relu"}, ["FusedConv"]),
        (
            "FusedConv",
            {"x": IMAGE},
            {"w": FILTERS},
            {"activation": "LeakyRelu", "activation_params": [0.2], "pads": [1, 1, 1, 1]},
            ["FusedConv"],
        ),
        ("FusedGemm", {"x": X[0]}, {"w": W}, {"activation": "Tanh"}, ["FusedGemm"]),
        ("SkipLayerNormalization", {"x": X, "z": X + 1}, {"g": VECTOR, "b": VECTOR}, {}, ["Add", "LayerNormalization"]),
        ("SkipSimplifiedLayerNormalization", {"x": X, "z": X + 1}, {"g": VECTOR}, {}, ["Add", "RMSNormalization"]),
        (
            "DynamicQuantizeMatMul",
            {"x": X},
            {"w": (W * 50).astype(np.int8), "s": np.float32([0.02])},
            {},
            ["DynamicQuantizeLinear", "MatMulIntegerToFloat"],
        ),
    ],
)
def test_lowered(name, feeds, constants, attributes, expected):
    assert operators(lowered(name, feeds, constants, **attributes)) == expected
    check_contrib(name, *feeds.values(), *constants.values(), **attributes)


def test_outputs_of_a_normalisation_with_a_residual():
    """The sum is an output of its own; statistics keep the operator."""
    check_contrib("SkipLayerNormalization", X, X + 1, VECTOR, None, VECTOR, n_outputs=4, epsilon=1e-5)


@pytest.mark.parametrize(
    ("name", "feeds", "constants", "attributes"),
    [
        ("FusedMatMul", {"x": data(2, 3, 4, 8)}, {"w": data(8, 3, 6)}, {"transBatchB": 1}),
        ("FusedConv", {"x": IMAGE}, {"w": FILTERS}, {"activation": "ThresholdedRelu"}),
    ],
)
def test_left_alone(name, feeds, constants, attributes):
    assert operators(lowered(name, feeds, constants, **attributes)) == [name]


def test_rows_that_are_not_there():
    """Numbers of rows are not counted from the end, as Gather would."""
    words, gamma = data(7, 8), np.ones(8, np.float32)
    ids = np.array([[1, -1]], np.int32)
    constants = {"w": words, "p": words, "s": words, "g": gamma, "b": gamma}
    graph = lowered("EmbedLayerNormalization", {"i": abs(ids), "t": abs(ids)}, constants)
    assert operators(graph).count("TableRows") == 2
    nodes = [
        helper.make_node(
            "EmbedLayerNormalization", ["i", "", "w", "p", "", "g", "b"], ["y", ""], domain="com.microsoft"
        )
    ]
    inputs = [helper.make_tensor_value_info("i", TensorProto.INT32, [1, 2])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(constants[key], key) for key in "wpgb"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [output], weights), opset_imports=opsets, ir_version=8
    )
    session = tinyonnx.InferenceSession(model.SerializeToString())
    with pytest.raises(tinyonnx.NodeError, match="the numbers of rows are -1 to 1, the table has 7"):
        session.run(None, {"i": ids})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_joined_bytes(dtype):
    """Parts with other scales are converted to the scale of the result, bit for bit; a part with that scale is not."""
    rng = np.random.default_rng(0)
    parts = {f"x{i}": rng.integers(0, 256, (2, 3 + i, 4)).astype(np.uint8).view(dtype) for i in range(3)}
    scales, zeros = np.float32([0.02, 0.031, 0.011]), np.array([3, 100, 7], dtype)
    constants = (
        {"s": scales[0], "z": zeros[0]} | {f"s{i}": scales[i] for i in range(3)} | {f"z{i}": zeros[i] for i in range(3)}
    )
    names = ["s", "z", *(f"{kind}{i}" for i in range(3) for kind in ("x", "s", "z"))]
    node = helper.make_node("QLinearConcat", names, ["y"], domain="com.microsoft", axis=1)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [node], "bytes", [helper.make_tensor_value_info(name, number, x.shape) for name, x in parts.items()],
        [helper.make_tensor_value_info("y", number, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = tinyonnx.InferenceSession(content)
    (y,) = session.run(None, parts)
    (expected,) = onnxruntime.InferenceSession(content).run(None, parts)
    np.testing.assert_array_equal(y, expected)
    assert sorted(operators(session.plan_for(None, parts).graph)) == ["ByteTable", "ByteTable", "Concat"]
