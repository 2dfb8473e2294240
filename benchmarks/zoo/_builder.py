"""A builder of graphs with seeded random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class Builder:
    """Collects nodes and weights."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; return the name of its first output."""
        names = [f"{op}_{len(self.nodes)}", *(f"{op}_{len(self.nodes)}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0]

    def constant(self, array: Any) -> str:
        """Add a weight; return its name."""
        self.weights.append(numpy_helper.from_array(np.asarray(array), f"weight_{len(self.weights)}"))
        return self.weights[-1].name

    def normal(self, *shape: int) -> str:
        """Add random float32 weights, scaled by the size of the last axis."""
        scale = 1 / np.sqrt(shape[-1])
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def recurrent(self, op: str, x: str, features: int, hidden: int, *, both: bool = False, **attributes: Any) -> str:
        """A recurrent layer over [time, batch, features], its directions side by side."""
        gates, directions = GATES[op], 2 if both else 1
        weights = [
            self.normal(directions, gates * hidden, features),
            self.normal(directions, gates * hidden, hidden),
            self.normal(directions, 2 * gates * hidden),
        ]
        direction = "bidirectional" if both else "forward"
        y = self.add(op, x, *weights, hidden_size=hidden, direction=direction, **attributes)
        moved = self.add("Transpose", y, perm=[0, 2, 1, 3])
        return self.add("Reshape", moved, self.constant(np.array([0, 0, directions * hidden], np.int64)))

    def content(self, inputs: dict[str, tuple[Any, Sequence[int | str | None]]], output: str, rank: int = 3) -> bytes:
        """The ONNX file: inputs by name with their dtype and shape, and one output of this rank."""
        kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for name, (dtype, _) in inputs.items()}
        graph = helper.make_graph(
            self.nodes,
            "zoo",
            [helper.make_tensor_value_info(name, kinds[name], shape) for name, (_, shape) in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        content: bytes = model.SerializeToString()
        return content
