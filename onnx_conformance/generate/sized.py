"""Random networks that take inputs of any size: images with convolutions, and sequences with attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from onnx_conformance.generate.draws import one


class Graphs:
    """Adds random layers to `value`; axes whose size varies are never given as numbers."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.count = 0
        self.weights: list[Any] = []
        self.value = "x"

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"v{self.count}_{i}" for i in range(outputs)]
        self.count += 1
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0]

    def constant(self, array: object) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), f"w{len(self.weights)}"))
        return f"w{len(self.weights) - 1}"

    def normal(self, *shape: int) -> str:
        scale = np.sqrt(np.prod(shape[1:], dtype=int))
        return self.constant((self.random.standard_normal(shape) / scale).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def quantised(self, x: str, dtype: Any) -> str:
        """Add a QuantizeLinear with constant scale and zero point, and the DequantizeLinear after it."""
        scale = self.constant(np.float32(one(self.random, 0.05, 0.03, 0.015625)))
        info = np.iinfo(dtype)
        zero = self.constant(np.array(one(self.random, 0, info.min, info.min + info.max // 2), dtype))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, scale, zero), scale, zero)

    def byte_weights(self, *shape: int, axis: int) -> str:
        """Add int8 weights and the DequantizeLinear of them, with one scale or one for each index of an axis."""
        count = () if self.flip() else (shape[axis],)
        scale = self.constant(self.random.uniform(0.005, 0.05, count).astype(np.float32))
        weights = self.constant(self.random.integers(-127, 128, shape).astype(np.int8))
        zero = self.constant(np.zeros(count, np.int8))
        return self.add("DequantizeLinear", weights, scale, zero, **({"axis": axis} if count else {}))

    def dim(self, value: str, axis: int) -> str:
        """Return the size of an axis, as a vector of one number."""
        return self.add("Gather", self.add("Shape", value), self.ints(axis), axis=0)

    def body(
        self, make: Callable[[], list[str]], inputs: Sequence[tuple[str, int]] = (), rank: int | None = None
    ) -> GraphProto:
        """Return a subgraph of the nodes that `make` adds and whose outputs it returns.

        Only inputs of type FLOAT have axes.
        """
        outer, self.nodes = self.nodes, []
        outputs = make()
        infos = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
        if rank is not None:
            infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in outputs]
        shapes: dict[int, list[int] | None] = {TensorProto.FLOAT: None}
        taken = [helper.make_tensor_value_info(name, kind, shapes.get(kind, [])) for name, kind in inputs]
        graph = helper.make_graph(self.nodes, f"body{self.count}", taken, infos)
        self.nodes = outer
        return graph

    def branch(self) -> None:
        """Add an If that only its data decide; one branch uses a size of a captured tensor."""
        x = self.value
        chosen = self.add("Greater", self.add("ReduceMax", x, keepdims=0), self.constant(np.float32(2)))
        size, eps = self.dim(x, -1 if self.flip() else 1), self.constant(np.float32(0.5))
        branches = {
            "then_branch": self.body(lambda: [self.add("Div", x, self.add("Cast", size, to=TensorProto.FLOAT))]),
            "else_branch": self.body(lambda: [self.add("Mul", x, eps)]),
        }
        self.value = self.add("If", chosen, **branches)

    def loop(self) -> None:
        """Add a Loop whose count depends on a size, and whose body captures a tensor and its sizes."""
        x, i, go, state = self.value, f"i{self.count}", f"go{self.count}", f"state{self.count}"
        count = self.add("Add", self.add("Mod", self.dim(x, 1), self.ints(3)), self.ints(1))
        eps, yes = self.constant(np.float32(0.25)), self.constant(np.array(True))

        def make() -> list[str]:
            again = self.add("Reshape", state, self.add("Shape", x)) if self.flip() else state
            mixed = self.add("Add", again, self.add("Mul", x, eps))
            return [self.add("Identity", go), mixed, self.add("ReduceMean", mixed, keepdims=0)]

        body = self.body(make, [(i, TensorProto.INT64), (go, TensorProto.BOOL), (state, TensorProto.FLOAT)])
        count = self.add("Squeeze", count, self.ints(0))
        final = self.add("Loop", count, yes, x, outputs=2, body=body)
        means = self.add("ReduceMax", final.replace("_0", "_1"), keepdims=0)
        self.value = self.add("Sub", final, means)

    def rows(self) -> None:
        """Add a Loop whose body takes elements along axis 1 of a captured tensor, at computed indices."""
        x, i, go, state = self.value, f"i{self.count}", f"go{self.count}", f"state{self.count}"
        start = self.add("ReduceMin", x, axes=[1], keepdims=0)
        yes, back = self.constant(np.array(True)), self.constant(np.int64(-1))

        def make() -> list[str]:
            element = self.add("Gather", x, self.add("Mul", i, back), axis=1)
            total = self.add("Add", state, element)
            return [self.add("Identity", go), total, self.add("Tanh", element)]

        body = self.body(make, [(i, TensorProto.INT64), (go, TensorProto.BOOL), (state, TensorProto.FLOAT)])
        count = self.add("Squeeze", self.dim(x, 1), self.ints(0))
        total = self.add("Loop", count, yes, start, outputs=2, body=body)
        highest = self.add("ReduceMax", total.replace("_0", "_1"), axes=[0], keepdims=0)
        mixed = self.add("Unsqueeze", self.add("Tanh", total if self.flip() else highest), self.ints(1))
        self.value = self.add("Add", x, mixed)

    def nested(self) -> None:
        """Add a Loop with an If, of which one branch has a Loop; all of them capture one tensor."""
        x, i, go, state = self.value, f"i{self.count}", f"go{self.count}", f"state{self.count}"
        yes, limit, two = self.constant(np.array(True)), self.constant(np.float32(1.5)), self.constant(np.int64(2))

        def average() -> list[str]:
            size = self.add("Cast", self.dim(x, 1), to=TensorProto.FLOAT)
            return [self.add("Div", state, self.add("Add", size, limit))]

        def accumulate() -> list[str]:
            names = f"i{self.count}", f"go{self.count}", f"state{self.count}"
            kinds = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
            body = self.body(
                lambda: [self.add("Identity", names[1]), self.add("Sub", x, names[2])], list(zip(names, kinds))
            )
            return [self.add("Loop", two, yes, state, body=body)]

        def make() -> list[str]:
            high = self.add("Greater", self.add("ReduceMax", state, keepdims=0), limit)
            branches = {"then_branch": self.body(average), "else_branch": self.body(accumulate)}
            return [self.add("Identity", go), self.add("If", high, **branches)]

        body = self.body(make, [(i, TensorProto.INT64), (go, TensorProto.BOOL), (state, TensorProto.FLOAT)])
        count = self.add("Add", self.add("Mod", self.dim(x, 1), self.ints(3)), self.ints(1))
        self.value = self.add("Loop", self.add("Squeeze", count, self.ints(0)), yes, x, body=body)

    def flip(self) -> bool:
        return bool(self.random.integers(2))

    def choose(self, *layers: Callable[[], None]) -> None:
        layers[self.random.integers(len(layers))]()

    def model(self, inputs: dict[str, list[Any]], outputs: list[str]) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(outputs)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class ImageGraphs(Graphs):
    """Networks over [batch, channels, height, width]."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.channels = 4
        self.earlier: list[tuple[str, int]] = []
        self.scale = 0

    def conv(self) -> None:
        size = int(self.random.choice([1, 3, 5]))
        group = int(self.random.choice([1, 1, self.channels]))
        out = self.channels if group > 1 else int(self.random.choice([4, 8, 24]))
        stride = int(self.random.choice([1, 1, 2]))
        pad: dict[str, Any] = {"pads": [size // 2] * 4}
        if self.flip():
            pad = {"auto_pad": str(self.random.choice(["SAME_UPPER", "SAME_LOWER"]))}
        inputs = [self.value, self.normal(out, self.channels // group, size, size)]
        if self.flip():
            inputs.append(self.normal(out))
        self.value = self.add("Conv", *inputs, group=group, strides=[stride, stride], **pad)
        self.channels = out
        self.scale += stride == 2
        if self.flip():
            self.activation()

    def bottleneck(self) -> None:
        """Add the block of mobile networks: expansion, depthwise, squeeze and excitation, projection."""
        x, wide, size = self.value, 3 * self.channels, int(self.random.choice([3, 5]))
        y = self.add("HardSwish", self.add("Conv", x, self.normal(wide, self.channels, 1, 1), self.normal(wide)))
        stride = int(self.random.choice([1, 2]))
        y = self.add(
            "Conv", y, self.normal(wide, 1, size, size), self.normal(wide), group=wide, strides=[stride] * 2,
            pads=[size // 2] * 4,
        )  # fmt: skip
        y = self.add("Relu", y)
        if self.flip():
            mean = self.add("GlobalAveragePool", y)
            gate = self.add("Relu", self.add("Conv", mean, self.normal(6, wide, 1, 1), self.normal(6)))
            gate = self.add("HardSigmoid", self.add("Conv", gate, self.normal(wide, 6, 1, 1), self.normal(wide)))
            y = self.add("Mul", y, gate)
        self.value = self.add("Conv", y, self.normal(self.channels, wide, 1, 1), self.normal(self.channels))
        if stride == 1:
            self.value = self.add("Add", self.value, x)
        self.scale += stride == 2

    def activation(self) -> None:
        self.value = self.add(str(self.random.choice(["Relu", "Sigmoid", "HardSwish", "Tanh", "Exp"])), self.value)

    def pool(self) -> None:
        op = str(self.random.choice(["MaxPool", "AveragePool"]))
        stride = int(self.random.choice([1, 2]))
        ceil = int(self.flip())
        self.value = self.add(
            op, self.value, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4, ceil_mode=ceil
        )  # fmt: skip
        self.scale += stride == 2

    def arithmetic(self) -> None:
        shape = [(), (1,), (self.channels, 1, 1), (1, self.channels, 1, 1)][self.random.integers(4)]
        other = self.normal(*shape) if shape else self.constant(np.float32(0.5))
        self.value = self.add(str(self.random.choice(["Add", "Mul", "Sub"])), self.value, other)

    def join(self) -> None:
        if self.channels <= 24:
            self.value = self.add("Concat", self.value, self.add("Neg", self.value), axis=1)
            self.channels *= 2

    def pad(self) -> None:
        self.value = self.add("Pad", self.value, self.ints(0, 0, 1, 0, 0, 0, 0, 2))

    def there_and_back(self) -> None:
        """Reshape to rows of pixels and back, with the sizes that Shape returns."""
        shape = self.add("Shape", self.value)
        flat = self.add("Reshape", self.value, self.ints(0, self.channels, -1))
        self.value = self.add("Reshape", self.add("Relu", flat) if self.flip() else flat, shape)

    def transpose(self) -> None:
        self.value = self.add("Transpose", self.value, perm=[0, 1, 3, 2])

    def cut(self) -> None:
        """Remove the first row and the last column."""
        self.value = self.add("Slice", self.value, self.ints(1, 0), self.ints(1 << 62, -1), self.ints(2, 3))

    def spread(self) -> None:
        """Expand the means of rows to the original size."""
        mean = self.add("ReduceMean", self.value, axes=[3], keepdims=1)
        wide = self.add("Expand", mean, self.add("Shape", self.value))
        self.value = self.add("Sub", self.value, wide if self.flip() else mean)

    def resize(self) -> None:
        """Add a Resize by scales, or to the sizes of the input or one more."""
        mode = str(self.random.choice(["nearest", "linear", "cubic"]))
        transformations = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
        attributes: dict[str, Any] = {
            "mode": mode,
            "coordinate_transformation_mode": str(self.random.choice(transformations)),
        }
        if mode == "nearest":
            rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
            attributes["nearest_mode"] = str(self.random.choice(rounding))
        # fractions of elements count differently with align_corners, see docs/architecture.md
        if self.flip() and attributes["coordinate_transformation_mode"] != "align_corners":
            scales = [1, 1, *self.random.choice([0.5, 0.7, 1, 1.3, 2], 2)]
            self.value = self.add("Resize", self.value, "", self.constant(np.array(scales, np.float32)), **attributes)
        else:
            sizes = [self.dim(self.value, 0), self.dim(self.value, 1)]
            for axis in (2, 3):
                size = self.dim("x", axis)
                sizes.append(self.add("Add", size, self.ints(1)) if self.flip() else size)
            self.value = self.add("Resize", self.value, "", "", self.add("Concat", *sizes, axis=0), **attributes)

    def build(self) -> ModelProto:
        layers = [
            self.conv, self.conv, self.bottleneck, self.bottleneck, self.pool, self.pool,
            self.activation, self.arithmetic, self.join, self.pad,
            self.there_and_back, self.transpose, self.cut, self.spread, self.branch, self.loop,
            self.rows, self.nested, self.resize, self.resize,
        ]  # fmt: skip
        self.conv()
        for _ in range(int(self.random.integers(3, 9))):
            self.choose(*(layers if self.scale < 3 else layers[6:]))
        pooled = self.add("Flatten", self.add("GlobalAveragePool", self.value))
        head = self.add("Gemm", pooled, self.normal(5, self.channels), transB=1)
        return self.model({"x": ["batch", 4, "height", "width"]}, [head, self.value] if self.flip() else [head])


class SequenceGraphs(Graphs):
    """Networks over [batch, length, 24]."""

    width, heads = 24, 3

    def linear(self, x: str) -> str:
        return self.add("Add", self.add("MatMul", x, self.normal(self.width, self.width)), self.normal(self.width))

    def split(self, x: str) -> str:
        """Return [batch, heads, length, 8], in one of the forms that exporters use."""
        if self.flip():
            shape = self.ints(0, 0, self.heads, -1)
        else:
            sizes = [self.dim(x, 0), self.dim(x, 1), self.ints(self.heads), self.ints(self.width // self.heads)]
            shape = self.add("Concat", *sizes, axis=0)
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 1, 3])

    def attention(self) -> None:
        q, k, v = (self.split(self.linear(self.value)) for _ in range(3))
        scores = self.add("MatMul", q, self.add("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.add("Div", scores, self.constant(np.float32(3)))
        if self.flip():
            scores = self.add("Add", scores, self.causal())
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), v)
        joined = self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), self.ints(0, 0, self.width))
        self.value = self.add("Add", self.value, self.linear(joined))

    def causal(self) -> str:
        """Return a mask that depends only on the length."""
        length = self.dim(self.value, 1)
        ones = self.add("ConstantOfShape", self.add("Concat", length, length, axis=0),
                        value=numpy_helper.from_array(np.array([-9], np.float32)))  # fmt: skip
        return self.add("Trilu", ones, self.constant(np.int64(1)), upper=1)

    def normalise(self) -> None:
        self.value = self.add(
            "LayerNormalization", self.value, self.normal(self.width), self.normal(self.width), axis=-1
        )

    def feed_forward(self) -> None:
        inner = self.add("MatMul", self.value, self.normal(self.width, 50))
        inner = self.add(str(self.random.choice(["Relu", "Erf", "Tanh"])), inner)
        self.value = self.add("Add", self.value, self.add("MatMul", inner, self.normal(50, self.width)))

    def positions(self) -> None:
        """Add rows of a table, one per element of the sequence."""
        table = self.constant(self.random.standard_normal((1, 200, self.width)).astype(np.float32))
        cut = self.add("Slice", table, self.ints(0), self.dim(self.value, 1), self.ints(1))
        self.value = self.add("Add", self.value, cut)

    def halves(self) -> None:
        """Split the width and swap the halves."""
        first = self.add("Split", self.value, outputs=2, axis=2)
        self.value = self.add("Concat", first.replace("_0", "_1"), first, axis=2)

    def ends(self) -> None:
        """Append the first and the last element to all others."""
        first = self.add("Slice", self.value, self.ints(0), self.ints(1), self.ints(1))
        last = self.add("Slice", self.value, self.ints(-1), self.ints(1 << 62), self.ints(1))
        self.value = self.add("Concat", first, self.value, last, axis=1)

    def means(self) -> None:
        mean = self.add("ReduceMean", self.value, axes=[1], keepdims=1)
        count = self.add("Cast", self.dim(self.value, 1), to=TensorProto.FLOAT)
        self.value = self.add("Sub", self.value, self.add("Div", mean, count))

    def accumulate(self) -> None:
        """Add a Scan along the sequence that sums all elements so far."""
        state, item = f"state{self.count}", f"item{self.count}"
        start = self.add("ReduceMin", self.value, axes=[1], keepdims=0)

        def make() -> list[str]:
            total = self.add("Add", state, item)
            return [total, self.add("Tanh", total)]

        body = self.body(make, [(state, TensorProto.FLOAT), (item, TensorProto.FLOAT)], rank=2)
        last = self.add(
            "Scan", start, self.value, outputs=2, body=body, num_scan_inputs=1, scan_input_axes=[1],
            scan_output_axes=[1],
        )  # fmt: skip
        self.value = last.replace("_0", "_1")

    def rotate(self) -> None:
        """Split the sequence at a computed size and swap the halves."""
        half = self.add("Div", self.dim(self.value, 1), self.ints(2))
        front = self.add("Slice", self.value, self.ints(0), half, self.ints(1))
        back = self.add("Slice", self.value, half, self.dim(self.value, 1), self.ints(1))
        self.value = self.add("Concat", back, front, axis=1)

    def build(self) -> ModelProto:
        layers = [
            self.attention, self.attention, self.normalise, self.feed_forward, self.positions, self.halves, self.ends,
            self.means, self.rotate, self.branch, self.loop, self.rows, self.nested, self.accumulate,
        ]  # fmt: skip
        for _ in range(int(self.random.integers(2, 8))):
            self.choose(*layers)
        pooled = self.add("ReduceMean", self.value, axes=[1], keepdims=0)
        return self.model({"x": ["batch", "length", self.width]}, [self.value, pooled])
