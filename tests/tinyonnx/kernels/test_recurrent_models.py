"""Models with recurrent layers against ONNX Runtime: sizes that vary, states that are fed, outputs that are absent."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyonnx
from tests.tinyonnx.kernels.test_recurrent import GATES, STATES
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ir import Array
from tinyonnx.runtime.plan import KernelStep

FEATURES, HIDDEN = 5, 17


def model(
    name: str, *, direction: str = "forward", outputs: list[str] | None = None, fed_states: bool = False
) -> bytes:
    """Return a model of one layer with random weights over x [time, batch, 5]; outputs that are "" are absent."""
    random = np.random.default_rng(0)
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[name]
    states = ["h", "c"][: STATES[name]]
    outputs = outputs or ["y", *(f"last_{s}" for s in states)]
    shapes = {
        "w": (directions, gates * HIDDEN, FEATURES),
        "r": (directions, gates * HIDDEN, HIDDEN),
        "b": (directions, 2 * gates * HIDDEN),
    }
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / np.float32(4), key)
        for key, shape in shapes.items()
    ]
    inputs = ["x", "w", "r", "b", "", *states] if fed_states else ["x", "w", "r", "b"]
    node = helper.make_node(name, inputs, outputs, direction=direction, hidden_size=HIDDEN)
    fed: dict[str, list[str | int | None]] = {"x": ["time", "batch", FEATURES]}
    fed |= {s: [directions, "batch", HIDDEN] for s in states if fed_states}
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in fed.items()],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs if key],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = made.SerializeToString()
    return content


def feeds_of(content: bytes, time: int, batch: int) -> dict[str, Array]:
    """Return random feeds of a model."""
    random = np.random.default_rng(time + 100 * batch)
    sizes = {"time": time, "batch": batch}
    return {
        value.name: random.standard_normal(
            [sizes.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in onnx.load_from_string(content).graph.input
    }


def check(content: bytes, sizes: list[tuple[int, int]], threads: int = 1) -> tinyonnx.InferenceSession:
    """Run all sizes in one session, on kernels alone."""
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    session = tinyonnx.InferenceSession(content, options)
    theirs = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for size in sizes:
        feeds = feeds_of(content, *size)
        for result, expected in zip(session.run(None, feeds), theirs.run(None, feeds), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5, err_msg=str(size))
    steps = session.plan_for(None, feeds).steps
    assert all(isinstance(step, KernelStep) for step in steps), steps
    return session


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("fed_states", [False, True])
def test_sizes_that_vary(name: str, direction: str, fed_states: bool) -> None:
    content = model(name, direction=direction, fed_states=fed_states)
    session = check(content, [(5, 2), (9, 3), (3, 30), (1, 1), (7, 1), (1, 4), (50, 2), (4, 49)])
    if not DISABLED:
        (plans,) = session._sized.values()
        assert not plans.refused, plans.refused


@pytest.mark.parametrize(
    "outputs", [["y"], ["", "h"], ["", "", "c"], ["", "h", "c"], ["y", "", "c"]], ids=lambda names: "-".join(names)
)
def test_absent_outputs(outputs: list[str]) -> None:
    for threads in (1, 2):
        check(model("LSTM", outputs=outputs, direction="bidirectional"), [(6, 2), (3, 5)], threads)


def test_an_absent_first_output_of_an_operator_whose_kernel_computes_that_alone() -> None:
    node = helper.make_node("MaxPool", ["x"], ["", "at"], kernel_shape=[2, 2], strides=[2, 2])
    x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 6])
    at_info = helper.make_tensor_value_info("at", TensorProto.INT64, None)
    graph = helper.make_graph([node], "pool", [x_info], [at_info])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)
    session = tinyonnx.InferenceSession(content)
    (at,) = session.run(None, {"x": x})
    blocks = x.reshape(2, 3, 2, 2, 3, 2).swapaxes(3, 4).reshape(2, 3, 2, 3, 4)
    np.testing.assert_array_equal(x.ravel()[at], blocks.max(-1))
    (step,) = session.plan_for(None, {"x": x}).numpy_steps
    assert step.why == "the first output is absent"
