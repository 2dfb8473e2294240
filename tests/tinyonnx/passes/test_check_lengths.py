"""Lengths of sequences that are fed: kernels give onnxruntime's results, and wrong lengths are an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyonnx
from tests.tinyonnx.passes.conftest import data
from tinyonnx.runtime.plan import KernelStep

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, FEATURES = 5, 3


def layer(op: str, kind: int = TensorProto.INT32, **attributes: Any) -> bytes:
    """Return a bidirectional layer with weights, whose input and lengths are fed."""
    gates = GATES[op] * HIDDEN
    weights = {
        "w": data(2, gates, FEATURES, seed=1),
        "r": data(2, gates, HIDDEN, seed=2),
        "b": data(2, 2 * gates, seed=3),
    }
    results = ["y", "h", "c"][: 3 if op == "LSTM" else 2]
    node = helper.make_node(
        op, ["x", *weights, "n"], results, hidden_size=HIDDEN, direction="bidirectional", **attributes
    )  # fmt: skip
    graph = helper.make_graph(
        [node], op,
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", FEATURES]),
            helper.make_tensor_value_info("n", kind, ["batch"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("op", GATES)
def test_lengths_that_are_fed(op: str) -> None:
    """For several sizes in one session; steps behind the end are zeros, and states are those of the last step."""
    content = layer(op)
    session, other = tinyonnx.InferenceSession(content), onnxruntime.InferenceSession(content)
    for time, lengths in ((7, [7, 1, 4]), (7, [3, 7, 7]), (9, [2, 9]), (4, [1]), (6, [6, 5, 4, 3, 2])):
        feeds = {"x": data(time, len(lengths), FEATURES, seed=time), "n": np.array(lengths, np.int32)}
        for actual, expected in zip(session.run(None, feeds), other.run(None, feeds), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)
    plan = session.plan_for(None, feeds)
    assert [step.node.op_type for step in plan.steps if isinstance(step, KernelStep)] == [op]


@pytest.mark.parametrize("lengths", [[8, 1], [-1, 1]])
def test_lengths_out_of_range(lengths: list[int]) -> None:
    session = tinyonnx.InferenceSession(layer("GRU"))
    x = data(7, 2, FEATURES)
    session.run(None, {"x": x, "n": np.array([7, 0], np.int32)})
    with pytest.raises(tinyonnx.NodeError, match=r"sequence_lens .* must be between 0 and 7, the steps of X"):
        session.run(None, {"x": x, "n": np.array(lengths, np.int32)})


def test_lengths_of_another_type() -> None:
    """The operator says so itself: nothing is put before it."""
    session = tinyonnx.InferenceSession(layer("RNN", TensorProto.INT64))
    with pytest.raises(tinyonnx.NodeError, match=r'RNN "y" .* sequence_lens can\'t be tensor\(int64\)'):
        session.run(None, {"x": data(7, 2, FEATURES), "n": np.array([7, 2])})
