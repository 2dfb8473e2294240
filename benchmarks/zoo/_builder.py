"""A builder of graphs with seeded random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


Inputs = Mapping[str, tuple[Any, Sequence[int | str | None]]]
"""Inputs by name, with their dtype and shape."""


class Result(NamedTuple):
    """An output: its name, rank and dtype."""

    name: str
    rank: int
    dtype: Any = np.float32


class Builder:
    """Collects nodes and weights."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.count = 0

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; return the name of its first output."""
        self.count += 1
        names = [f"{op}_{self.count}", *(f"{op}_{self.count}_{i}" for i in range(1, outputs))]
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
        """Add a recurrent layer over [time, batch, features], its directions side by side."""
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

    def linear(self, x: str, features: int, outputs: int) -> str:
        """Add a product with weights over the last axis, and a bias."""
        weights = self.random.standard_normal((features, outputs)) / np.sqrt(features)
        product = self.add("MatMul", x, self.constant(weights.astype(np.float32)))
        return self.add("Add", product, self.normal(outputs))

    def conv(self, x: str, channels: int, filters: int, size: int = 1, **attributes: Any) -> str:
        """Add a square convolution with a bias; `stride`, `group` and other attributes may be given."""
        stride, group = attributes.pop("stride", 1), attributes.get("group", 1)
        weights = self.random.standard_normal((filters, channels // group, size, size))
        weights *= np.sqrt(2 / (channels // group * size * size))
        bias = self.normal(filters)
        pads = [size // 2] * 4
        return self.add(
            "Conv", x, self.constant(weights.astype(np.float32)), bias, pads=pads, strides=[stride] * 2, **attributes
        )

    def layer_norm(self, x: str, features: int) -> str:
        """Add layer normalisation over the last axis."""
        scale = self.constant(np.ones(features, np.float32))
        return self.add("LayerNormalization", x, scale, self.normal(features), axis=-1)

    def gelu(self, x: str) -> str:
        """Add the exact GELU as exporters write it."""
        half, one, root = (self.constant(np.float32(value)) for value in (0.5, 1, np.sqrt(2)))
        wide = self.add("Add", self.add("Erf", self.add("Div", x, root)), one)
        return self.add("Mul", self.add("Mul", x, wide), half)

    def heads(self, x: str, features: int, heads: int, *, keys: bool = False) -> str:
        """Split [batch, time, features] into [batch, head, time, size]; with `keys` the last two are swapped."""
        shape = self.constant(np.array([0, 0, heads, features // heads], np.int64))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 3, 1] if keys else [0, 2, 1, 3])

    def attend(self, q: str, k: str, v: str, features: int, heads: int) -> str:
        """Add attention of queries and values by head and transposed keys; the result is [batch, time, features]."""
        scores = self.add("Mul", self.add("MatMul", q, k), self.constant(np.float32((features // heads) ** -0.5)))
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), v)
        shape = self.constant(np.array([0, 0, features], np.int64))
        return self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), shape)

    def encoder(self, x: str, features: int, heads: int, inner: int) -> str:
        """Add a layer of a transformer's encoder, normalised first, over [batch, time, features]."""
        normed = self.layer_norm(x, features)
        q, v = (self.heads(self.linear(normed, features, features), features, heads) for _ in range(2))
        k = self.heads(self.linear(normed, features, features), features, heads, keys=True)
        x = self.add("Add", x, self.linear(self.attend(q, k, v, features, heads), features, features))
        wide = self.gelu(self.linear(self.layer_norm(x, features), features, inner))
        return self.add("Add", x, self.linear(wide, inner, features))

    def body(self, name: str, inputs: Inputs, *outputs: Result) -> GraphProto:
        """Return the nodes added so far as a subgraph and remove them."""
        nodes, self.nodes = self.nodes, []
        return helper.make_graph(nodes, name, _inputs(inputs), _results(outputs))

    def content(self, inputs: Inputs, *outputs: Result, domains: Sequence[str] = ()) -> bytes:
        """Return the ONNX file; `domains` are those of operators that aren't ONNX's own."""
        graph = helper.make_graph(self.nodes, "zoo", _inputs(inputs), _results(outputs), self.weights)
        opsets = [helper.make_opsetid(domain, 1) for domain in domains]
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *opsets], ir_version=8)
        content: bytes = model.SerializeToString()
        return content


def _inputs(inputs: Inputs) -> list[ValueInfoProto]:
    return [helper.make_tensor_value_info(name, _kind(dtype), shape) for name, (dtype, shape) in inputs.items()]


def _results(outputs: Sequence[Result]) -> list[ValueInfoProto]:
    return [helper.make_tensor_value_info(name, _kind(dtype), [None] * rank) for name, rank, dtype in outputs]


def _kind(dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
