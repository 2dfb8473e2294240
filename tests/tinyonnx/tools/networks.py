"""Models shaped as exports of well-known networks, with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """Collects nodes and weights."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self._random = np.random.default_rng(seed)

    def weight(self, *shape: int, around: float = 0.0) -> str:
        scale = 1 / np.sqrt(max(1, np.prod(shape[1:]))) if len(shape) > 1 else 0.1
        return self.constant((self._random.standard_normal(shape) * scale + around).astype(np.float32))

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return str(self.weights[-1].name)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"/{op}_{len(self.nodes)}", **attributes))
        return name

    def model(self, inputs: dict[str, tuple[int, list[Any]]], output: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, *given) for name, given in inputs.items()]
        graph = helper.make_graph(self.nodes, "g", infos, [onnx.ValueInfoProto(name=output)], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def resnet18(width: int = 64, size: int = 224) -> onnx.ModelProto:
    """Return ResNet18, whose first stage has `width` channels."""
    net = Network()

    def conv(x: str, c_in: int, c_out: int, kernel: int, stride: int) -> str:
        pads = [kernel // 2] * 4
        x = net.add("Conv", x, net.weight(c_out, c_in, kernel, kernel), strides=[stride] * 2, pads=pads)
        factors = (
            net.weight(c_out, around=1),
            net.weight(c_out),
            net.weight(c_out),
            net.constant(np.ones(c_out, np.float32)),
        )
        return net.add("BatchNormalization", x, *factors)

    x = net.add("Relu", conv("x", 3, width, 7, 2))
    x, channels = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), width
    for stage in range(4):
        for block in range(2):
            c_out, stride = width << stage, 2 if stage and not block else 1
            y = net.add("Relu", conv(x, channels, c_out, 3, stride))
            y = conv(y, c_out, c_out, 3, 1)
            short = conv(x, channels, c_out, 1, stride) if (channels, 1) != (c_out, stride) else x
            x, channels = net.add("Relu", net.add("Add", y, short)), c_out
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    y = net.add("Gemm", x, net.weight(1000, channels), net.weight(1000), transB=1)
    return net.model({"x": (TensorProto.FLOAT, ["batch", 3, size, size])}, y)


def minilm(layers: int = 6, width: int = 384, heads: int = 12) -> onnx.ModelProto:
    """Return a text encoder as MiniLM: embedding, attention, feed-forward, mean of the tokens."""
    net = Network()
    shape = net.add("Shape", "ids")
    x = net.add("Gather", net.weight(1000, width), "ids")

    def normalised(x: str) -> str:
        return net.add("LayerNormalization", x, net.weight(width, around=1), net.weight(width), axis=-1)

    def linear(x: str, c_in: int, c_out: int) -> str:
        return net.add("Add", net.add("MatMul", x, net.weight(c_in, c_out)), net.weight(c_out))

    split = net.add("Concat", shape, net.constant(np.int64([heads, width // heads])), axis=0)
    joined = net.add("Concat", shape, net.constant(np.int64([width])), axis=0)
    x = normalised(x)
    for _ in range(layers):
        q, k, v = (net.add("Reshape", linear(x, width, width), split) for _ in range(3))
        q, v = (net.add("Transpose", each, perm=[0, 2, 1, 3]) for each in (q, v))
        scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 3, 1]))
        scores = net.add("Div", scores, net.constant(np.float32(np.sqrt(width // heads))))
        mixed = net.add("Transpose", net.add("MatMul", net.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = normalised(net.add("Add", x, linear(net.add("Reshape", mixed, joined), width, width)))
        y = linear(x, width, 4 * width)
        half = net.add("Mul", y, net.add("Add", net.add("Erf", net.add("Div", y, net.constant(np.float32(2**0.5)))),
                                         net.constant(np.float32(1))))  # fmt: skip
        y = linear(net.add("Mul", half, net.constant(np.float32(0.5))), 4 * width, width)
        x = normalised(net.add("Add", x, y))
    return net.model({"ids": (TensorProto.INT64, ["batch", "tokens"])}, net.add("ReduceMean", x, axes=[1], keepdims=0))
