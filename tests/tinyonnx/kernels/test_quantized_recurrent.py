"""DynamicQuantizeLSTM's kernel against the numpy operator.

Where the two round a state to different bytes, for which a difference in the last bit is enough, later steps differ by
more. Sequences are short, and weights small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tinyonnx
from tinyonnx.codegen.kernel import DISABLED

F32 = np.float32


class Layer(NamedTuple):
    time: int
    batch: int
    features: int
    hidden: int
    direction: str = "forward"
    weights: Any = np.int8
    by_column: bool = False
    zero_points: bool = False
    extras: str = ""

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    def build(self, **attributes: Any) -> tuple[bytes, dict[str, Any]]:
        rng = np.random.default_rng(self.hidden)
        d, columns = self.directions, 4 * self.hidden
        low, high = np.iinfo(self.weights).min, np.iinfo(self.weights).max
        sizes = (d, columns) if self.by_column else (d,)
        constants: dict[int, Any] = {}
        for at, rows, scale in ((1, self.features, 8), (2, self.hidden, 10)):
            constants[at] = rng.integers(low, high, (d, rows, columns), endpoint=True).astype(self.weights)
            constants[scale] = (rng.uniform(0.5, 1.5, sizes) / 100 / np.sqrt(rows)).astype(F32)
            if self.zero_points:
                middle = (low + high) // 2
                constants[scale + 1] = rng.integers(middle - 4, middle + 4, sizes).astype(self.weights)
        fed = {0: (self.time, self.batch)}
        fed[0] += (self.features,)
        state = (d, self.batch, self.hidden)
        if "b" in self.extras:
            constants[3] = rng.uniform(-0.5, 0.5, (d, 2 * columns)).astype(F32)
        if "h" in self.extras:
            fed |= {5: state, 6: state}
        if "p" in self.extras:
            constants[7] = rng.uniform(-0.5, 0.5, (d, 3 * self.hidden)).astype(F32)
        names = [f"i{i}" if i in constants or i in fed else "" for i in range(12)]
        attributes = {"hidden_size": self.hidden, "direction": self.direction} | attributes
        node = helper.make_node(
            "DynamicQuantizeLSTM", names, ["y", "h", "c"], domain="com.microsoft", **attributes
        )  # fmt: skip
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info(names[i], 1, shape) for i, shape in fed.items()],
            [helper.make_tensor_value_info(name, 1, None) for name in "yhc"],
            [numpy_helper.from_array(array, names[i]) for i, array in constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return model.SerializeToString(), {names[i]: rng.uniform(-1, 1, shape).astype(F32) for i, shape in fed.items()}


def check(content: bytes, feeds: dict[str, Any], threads: int = 1) -> None:
    plain, options = tinyonnx.SessionOptions(), tinyonnx.SessionOptions()
    plain.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    expected = tinyonnx.InferenceSession(content, plain).run(None, feeds)
    session = tinyonnx.InferenceSession(content, options)
    assert not session.plan_for(None, feeds).numpy_steps
    for result, wanted in zip(session.run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=0, atol=2e-6, strict=True)


@pytest.mark.parametrize(
    "layer",
    [
        Layer(1, 1, 5, 3),
        Layer(6, 1, 16, 32, "reverse", extras="bh"),
        Layer(5, 3, 7, 20, "bidirectional", by_column=True, zero_points=True, extras="bhp"),
        Layer(4, 11, 33, 65, "bidirectional", np.uint8, zero_points=True, extras="bh"),
        Layer(3, 2, 8, 16, weights=np.uint8, by_column=True, zero_points=True, extras="p"),
    ],
    ids=str,
)
def test_layers(layer: Layer) -> None:
    check(*layer.build())


def test_options_and_threads() -> None:
    content, feeds = Layer(4, 2, 8, 16, "bidirectional", extras="bhp").build(clip=0.5, input_forget=1)
    check(content, feeds, threads=2)


def test_numbers_that_are_not_finite() -> None:
    content, feeds = Layer(3, 2, 8, 16, extras="b").build()
    feeds["i0"][1, 0, 3] = np.nan
    check(content, feeds)


def test_lengths_that_vary() -> None:
    """One session of many lengths gives what sessions of their own give."""
    content, feeds = Layer(9, 2, 8, 16, "bidirectional", extras="b").build()
    model = onnx.load_from_string(content)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "time"
    content = model.SerializeToString()
    session = tinyonnx.InferenceSession(content)
    for time in (9, 4, 1, 7, 8):
        part = {"i0": feeds["i0"][:time]}
        expected = tinyonnx.InferenceSession(content).run(None, part)
        for result, wanted in zip(session.run(None, part), expected, strict=True):
            np.testing.assert_array_equal(result, wanted, strict=True)
    if not DISABLED:
        (plans,) = session._sized.values()
        assert plans._plans, plans.refused


def test_refusals() -> None:
    content, feeds = Layer(3, 2, 8, 16).build(activations=["Sigmoid", "Softsign", "Tanh"])
    session = tinyonnx.InferenceSession(content)
    assert [step.why for step in session.plan_for(None, feeds).numpy_steps] == [
        "activations or clipping that the kernel doesn't support"
    ]
