"""Random small networks of images, in any float type, with patterns for passes to fuse and patterns to leave alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper


class ImageNetwork:
    """A chain of random layers over `self.value`; layers may also read earlier values."""

    def __init__(self, seed: int, dtype: type, opset: int) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.opset = opset
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.shape = (
            int(self.random.integers(1, 4)),
            4,
            int(self.random.integers(6, 12)),
            int(self.random.integers(6, 12)),
        )
        self.value = "x"
        self.earlier: dict[str, tuple[int, ...]] = {}

    # -- pieces -------------------------------------------------------------------------

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, array: object) -> str:
        values = np.asarray(array)
        if values.dtype.kind == "f":  # the same numbers in every type
            values = values.astype(np.float16).astype(self.dtype)
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return f"w{len(self.weights) - 1}"

    def normal(self, *shape: int, fan: int = 1) -> str:
        return self.constant(self.random.standard_normal(shape) / np.sqrt(fan))

    def flip(self) -> bool:
        return bool(self.random.integers(2))

    def pair(self, a: str, b: str) -> tuple[str, str]:
        return (a, b) if self.flip() else (b, a)

    def broadcastable(self) -> str:
        """Return a constant of a random shape that broadcasts to the value."""
        channels, height, width = self.shape[1:]
        shapes = [
            (),
            (1,),
            (1, 1, 1, 1),
            (channels, 1, 1),
            (1, channels, 1, 1),
            (width,),
            (height, 1),
            (1, 1, height, width),
        ]
        return self.normal(*shapes[self.random.integers(len(shapes))])

    # -- layers -------------------------------------------------------------------------

    def conv(self) -> None:
        batch, channels, height, width = self.shape
        size = int(self.random.choice([1, 1, 3]))
        out = int(self.random.choice([channels, 4, 8]))
        group = int(self.random.choice([1, 1, 2, channels]))
        out = channels if group == channels else out
        stride = 2 if self.flip() and min(height, width) > 4 else 1
        inputs = [self.value, self.normal(out, channels // group, size, size, fan=channels // group * size**2)]
        if self.flip():
            inputs.append(self.normal(out))
        pad = size // 2
        self.value = self.add("Conv", *inputs, group=group, strides=[stride] * 2, pads=[pad] * 4)
        self.shape = (batch, out, (height - 1) // stride + 1, (width - 1) // stride + 1)

    def batchnorm(self) -> None:
        n = self.shape[1]
        variance = self.constant(np.abs(self.random.standard_normal(n)) + 0.5)
        self.value = self.add(
            "BatchNormalization", self.value, self.normal(n), self.normal(n), self.normal(n), variance
        )

    def activation(self) -> None:
        simple: dict[str, dict[str, float]] = {
            "Relu": {}, "Sigmoid": {}, "Tanh": {}, "LeakyRelu": {"alpha": 0.25}, "HardSigmoid": {"alpha": 0.25},
        }  # fmt: skip
        op = str(self.random.choice([*simple, "Clip"]))
        if op == "Clip":
            low, high = sorted(self.random.standard_normal(2))
            bounds = [self.constant(low), self.constant(high)] if self.flip() else ["", self.constant(high)]
            self.value = self.add("Clip", self.value, *bounds)
        else:
            self.value = self.add(op, self.value, **simple[op])

    def hardswish(self) -> None:
        x, three, six = self.value, float(self.random.choice([3.0, 3.0, 3.0, 2.0])), self.constant(np.array(6.0))
        gate = self.add("Add", *self.pair(x, self.constant(np.full([1] * self.random.integers(5), three))))
        gate = self.add("Clip", gate, self.constant(np.array(0.0)), six)
        match self.random.integers(3):
            case 0:
                self.value = self.add("Mul", *self.pair(x, self.add("Div", gate, six)))
            case 1:
                self.value = self.add("Div", self.add("Mul", *self.pair(x, gate)), six)
            case _:
                self.value = self.add("Mul", *self.pair(gate, self.add("Div", x, six)))

    def arithmetic(self) -> None:
        op = str(self.random.choice(["Add", "Sub", "Mul"]))
        self.value = self.add(op, *self.pair(self.value, self.broadcastable()))

    def residual(self) -> None:
        same = [name for name, shape in self.earlier.items() if shape == self.shape]
        if same:
            op = str(self.random.choice(["Add", "Add", "Mul"]))
            self.value = self.add(op, *self.pair(self.value, str(self.random.choice(same))))

    def squeeze_excite(self) -> None:
        batch, channels = self.shape[:2]
        x, inner = self.value, 3
        mean = self.add("GlobalAveragePool", x)
        if self.flip():
            bias = self.normal(*[(inner,), (1, inner), (batch, 1), (1,)][self.random.integers(4)])
            hidden = self.add("Gemm", self.add("Flatten", mean), self.normal(channels, inner, fan=channels), bias)
            gate = self.add("Gemm", self.add("Relu", hidden), self.normal(channels, inner, fan=inner), transB=1)
            gate = self.add("Reshape", self.add("Sigmoid", gate), self.constant(np.array([0, 0, 1, 1])))
        else:
            hidden = self.add("Conv", mean, self.normal(inner, channels, 1, 1, fan=channels), self.normal(inner))
            gate = self.add("Conv", self.add("Relu", hidden), self.normal(channels, inner, 1, 1, fan=inner))
            gate = self.add("HardSigmoid", gate)
        self.value = self.add("Mul", *self.pair(x if self.flip() else self.add("Tanh", x), gate))

    def pool(self) -> None:
        batch, channels, height, width = self.shape
        op = str(self.random.choice(["MaxPool", "AveragePool"]))
        self.value = self.add(op, self.value, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        self.shape = (batch, channels, height, width)

    def concat(self) -> None:
        batch, channels, height, width = self.shape
        if channels <= 8:
            other = self.add("Relu", self.value) if self.flip() else self.value
            self.value = self.add("Concat", self.value, other, axis=int(self.random.choice([1, -3])))
            self.shape = (batch, 2 * channels, height, width)

    def rename(self) -> None:
        """Reshape or transpose to another form and back."""
        batch, channels, height, width = self.shape
        if self.flip():
            flat = self.add("Reshape", self.value, self.constant(np.array([batch, channels, -1])))
            if self.flip():
                flat = self.add("Relu", flat)
            self.value = self.add("Reshape", flat, self.constant(np.array(self.shape)))
        else:
            self.value = self.add("Transpose", self.value, perm=[0, 1, 3, 2])
            self.shape = (batch, channels, width, height)

    def build(self) -> ModelProto:
        """Return up to ten layers, a classifier, and a few intermediate values as further outputs."""
        layers: list[Callable[[], None]] = [
            self.conv, self.conv, self.conv, self.batchnorm, self.batchnorm, self.activation, self.activation,
            self.hardswish, self.arithmetic, self.residual, self.residual, self.squeeze_excite, self.pool,
            self.concat, self.rename,
        ]  # fmt: skip
        start = self.shape
        self.conv()
        for _ in range(int(self.random.integers(3, 11))):
            self.earlier[self.value] = self.shape
            layers[self.random.integers(len(layers))]()
        outputs = [name for name in self.earlier if self.random.random() < 0.15]
        flat = self.add("Flatten", self.add("GlobalAveragePool", self.value))
        outputs.append(self.add("Gemm", flat, self.normal(5, self.shape[1], fan=self.shape[1]), transB=1))
        element = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", element, start)],
            [helper.make_tensor_value_info(name, element, None) for name in dict.fromkeys(outputs)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
