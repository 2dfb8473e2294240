"""Patterns as exporters write them, by the pass of tinyonnx that looks for them.

Constants, attributes and orders of operands are drawn at and beside those that a pass accepts: it has to recognise the
first and to leave the others alone. One idiom is a few nodes, so that what it shows is easily reduced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onnx_conformance.generate.draws import Random, broadcastable, one, whole
from onnx_conformance.generate.inference import inferred
from onnx_conformance.generate.pieces import CHANNELS, Pieces
from onnx_conformance.generate.sample import Sample


class Idiom(Pieces):
    """Adds the nodes of one pattern."""

    # -- convolutions and nodes that are folded into their weights --------------------------

    def channelwise(self) -> str:
        """Add a convolution and arithmetic with one constant for each channel, or one number."""
        x, channels = self.image()
        group = int(one(self.random, 1, 1, channels))
        out = group * int(whole(self.random, 1, 3))
        y = self.convolved(x, channels, out, group)
        for _ in range(int(whole(self.random, 1, 2))):
            shape = one(self.random, (), (1,), (out, 1, 1), (1, out, 1, 1), (1, out, 1, 1))
            values = self.random.uniform(0.5, 2, shape) * self.random.choice([-1, 1], shape)
            pair = (y, self.constant(values.astype(np.float32)))
            op = one(self.random, "Add", "Sub", "Mul", "Div")
            y = self.add(op, *(pair if self.random.random() < 0.75 else pair[::-1]))
        return y

    def convolved(self, x: str, channels: int, out: int, group: int) -> str:
        """Add a Conv or a ConvTranspose."""
        size = int(one(self.random, 1, 3))
        if self.flip():
            return self.conv(x, channels, out, size, group)
        weights = [self.normal(channels, out // group, size, size)]
        if self.flip():
            weights.append(self.normal(out))
        return self.add("ConvTranspose", x, *weights, group=group, strides=[int(one(self.random, 1, 2))] * 2)

    def normalised(self, x: str, channels: int) -> str:
        """Add a BatchNormalization."""
        scale, shift, mean = (self.normal(channels) for _ in range(3))
        variance = self.constant(self.random.uniform(0.01, 2, channels).astype(np.float32))
        epsilon = {} if self.flip() else {"epsilon": one(self.random, 1e-3, 0.1, 0.0)}
        return self.add("BatchNormalization", x, scale, shift, mean, variance, **epsilon)

    def convolution_and_norm(self) -> str:
        x, channels = self.image()
        group = int(one(self.random, 1, 1, channels))
        out = group * int(whole(self.random, 1, 3))
        y = self.normalised(self.convolved(x, channels, out, group), out)
        return self.activation(y) if self.flip() else y

    def norm_alone(self) -> str:
        channels, space = int(one(self.random, *CHANNELS)), one(self.random, (), (3,), (3, 4))
        x = self.given(2, channels, *space)
        return self.normalised(self.add("Relu", x) if self.flip() else x, channels)

    def residual(self) -> str:
        """Add a convolution and a tensor of the same shape, and an activation of the sum."""
        x, channels = self.image()
        other = x if self.flip() else self.add("Neg", x)
        size, group = int(one(self.random, 1, 3)), int(one(self.random, 1, channels))
        y = self.either("Add", self.conv(x, channels, channels, size, group), other)
        return self.activation(y) if self.flip() else y

    def epilogue(self) -> str:
        """Add a product and the activation after it."""
        n, k, m = (int(one(self.random, *CHANNELS)) for _ in range(3))
        match self.random.integers(3):
            case 0:
                x, channels = self.image()
                return self.activation(self.conv(x, channels, n, int(one(self.random, 1, 3))))
            case 1:
                x, turned = self.given(m, k), int(self.flip())
                weights = [self.normal(*((n, k) if turned else (k, n))), self.bias(m, n)]
                factors: dict[str, Any] = {} if self.flip() else {"alpha": 0.5, "beta": -1.5}
                return self.activation(self.add("Gemm", x, *weights, transB=turned, **factors))
            case _:
                return self.activation(self.linear())

    def linear(self) -> str:
        """Add a product with a constant matrix, a bias and a further tensor."""
        n, k = (int(one(self.random, *CHANNELS)) for _ in range(2))
        x = self.given(*[2] * int(whole(self.random, 0, 1)), 3, k)
        y = self.add("MatMul", x, self.normal(k, n))
        y = self.either("Add", y, self.bias(*self.inputs[x].shape[:-1], n))
        return self.either("Add", y, self.add("MatMul", x, self.normal(k, n))) if self.flip() else y

    # -- mobile networks -----------------------------------------------------------------

    def gate(self, x: str, channels: int) -> str:
        """Add squeeze and excitation: one number for each channel of an image."""
        inner = int(one(self.random, 1, 2, 5, 8))
        mean = self.add("GlobalAveragePool", x) if self.flip() else self.mean(x, 2, 3)
        last = one(self.random, "Sigmoid", "HardSigmoid", "Tanh")
        if self.flip():
            hidden = self.add("Relu", self.conv(mean, channels, inner))
            return self.add(last, self.conv(hidden, inner, channels))
        hidden = self.add("Gemm", self.add("Flatten", mean), self.normal(channels, inner), self.normal(inner))
        gate = self.add("Gemm", self.activation(hidden), self.normal(channels, inner), self.normal(channels), transB=1)
        return self.add(last, self.add("Reshape", gate, self.ints(0, 0, 1, 1)))

    def squeezed(self) -> str:
        """Add squeeze and excitation, and often the 1×1 convolution after it."""
        x, channels = self.image()
        y = self.either("Mul", x, self.gate(x, channels))
        return self.conv(y, channels, int(one(self.random, *CHANNELS))) if self.random.random() < 0.7 else y

    def depthwise(self, x: str, channels: int) -> str:
        size, stride = int(one(self.random, 3, 5)), int(one(self.random, 1, 2))
        return self.conv(x, channels, channels, size, channels, strides=[stride] * 2)

    def expanded(self) -> str:
        """Add a 1×1 convolution, a depthwise one, and often the gate of its result."""
        x, channels = self.image()
        wide = max(2, 2 * channels)
        y = self.activation(self.depthwise(self.activation(self.conv(x, channels, wide)), wide))
        if self.random.random() < 0.6:
            y = self.either("Mul", y, self.gate(y, wide))
        return self.conv(y, wide, channels) if self.flip() else y

    def projected(self) -> str:
        """Add a depthwise and a 1×1 convolution, often after a stem of few taps."""
        taps = self.flip()
        channels = int(one(self.random, 8, 16, 17)) if taps else int(one(self.random, 2, 3, 4, 8, 16, 17))
        x = self.given(1, one(self.random, 1, 3) if taps else channels, *(int(n) for n in whole(self.random, 3, 11, 2)))
        y = x
        if taps:
            stride = int(one(self.random, 1, 2))
            y = self.conv(x, self.inputs[x].shape[1], channels, 3, strides=[stride] * 2)
            y = self.activation(y) if self.flip() else y
        first = y
        y = self.conv(y, channels, channels, 3, channels)
        y = self.conv(self.activation(y) if self.flip() else y, channels, channels)
        return self.either("Add", y, first) if self.flip() else y

    # -- functions that are spelled out ----------------------------------------------------

    def source(self) -> str:
        """Return an input, or the result of a convolution."""
        if self.flip():
            return self.given(2, int(one(self.random, *CHANNELS)), 3)
        x, channels = self.image()
        return self.conv(x, channels, int(one(self.random, *CHANNELS)))

    def hardswish(self) -> str:
        x, six = self.source(), self.number(6.0, 0.1)
        if self.opset >= 14 and self.flip():
            alpha = one(self.random, 1 / 6, 1 / 6, 0.2)
            return self.either("Mul", x, self.add("HardSigmoid", x, alpha=float(alpha), beta=0.5))
        shifted = self.either("Add", x, self.number(3.0, 0.1))
        gate = self.add("Clip", shifted, self.constant(np.float32(0)), self.constant(np.float32(6)))
        match self.random.integers(3):
            case 0:
                return self.either("Mul", x, self.add("Div", gate, six))
            case 1:
                return self.add("Div", self.either("Mul", x, gate), six)
            case _:
                return self.either("Mul", self.either("Mul", x, gate), self.constant(np.float32(1 / 6)))

    def swish(self) -> str:
        """Add x · Sigmoid(α x)."""
        x = self.source()
        inner = self.times(x, one(self.random, 1.702, 0.5, 3.0, -1.0)) if self.flip() else x
        return self.either("Mul", x, self.add("Sigmoid", inner))

    def gelu(self) -> str:
        x = self.source()
        if self.flip():
            inner = self.add("Erf", self.times(x, float(np.sqrt(0.5)), 0.1))
        else:
            cube = self.add("Mul", self.add("Mul", x, x), x)
            cube = self.add("Pow", x, self.constant(np.float32(3))) if self.flip() else cube
            inner = self.either("Add", x, self.times(cube, 0.044715, 0.1))
            inner = self.add("Tanh", self.times(inner, float(np.sqrt(2 / np.pi)), 0.1))
        gate = self.either("Add", inner, self.number(1.0, 0.1))
        if self.flip():
            return self.either("Mul", self.times(x, 0.5, 0.1), gate)
        return self.times(self.either("Mul", x, gate), 0.5, 0.1)

    def layer_norm(self) -> str:
        width = int(one(self.random, 1, 3, 8, 17))
        x, axes = self.given(2, 3, width), one(self.random, (-1,), (2,), (-2, -1), (1, 2))
        wide = (3, width) if len(axes) == 2 else (width,)
        mean = self.mean(x, *axes)
        centred = self.add("Sub", x, mean)
        square = self.add("Mul", centred, centred)
        if self.flip():
            square = self.add("Pow", centred, self.constant(np.float32(2)))
        epsilon = self.constant(np.float32(one(self.random, 1e-5, 1e-3, 0.5)))
        deviation = self.add("Sqrt", self.either("Add", self.mean(square, *axes), epsilon))
        scale, shift = (self.constant(self.random.standard_normal(wide).astype(np.float32)) for _ in range(2))
        if self.random.random() < 0.3:
            factor = self.add("Div", scale, deviation)
            rest = self.add("Sub", shift, self.either("Mul", mean, factor))
            return self.either("Add", self.either("Mul", x, factor), rest)
        inverse = self.add("Reciprocal", deviation) if self.flip() else ""
        y = self.either("Mul", centred, inverse) if inverse else self.add("Div", centred, deviation)
        return self.either("Add", self.either("Mul", y, scale), shift)

    def attention(self) -> str:
        batch, heads, size = (int(n) for n in whole(self.random, 1, 3, 3))
        queries, keys = (int(one(self.random, 1, 3, 8, 17)) for _ in range(2))
        q, k, v = (self.given(batch, length, heads, size) for length in (queries, keys, keys))
        turned = [self.add("Transpose", q, perm=[0, 2, 1, 3]), self.add("Transpose", k, perm=[0, 2, 3, 1]),
                  self.add("Transpose", v, perm=[0, 2, 1, 3])]  # fmt: skip
        factor = float(one(self.random, 0.5, 0.7, 2.0))
        where = int(self.random.integers(4))
        if where == 0:
            turned = [*(self.add("Mul", t, self.constant(np.float32(factor))) for t in turned[:2]), turned[2]]
        scores = self.add("MatMul", turned[0], turned[1])
        if where == 1:
            scores = self.either("Mul", scores, self.number(factor))
        elif where == 2:
            scores = self.add("Div", scores, self.number(factor))
        if self.flip():
            shape = one(self.random, (queries, keys), (1, 1, queries, keys), (batch, heads, queries, keys), (1, keys))
            scores = self.either("Add", scores, self.given(*shape))
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), turned[2])
        return self.add("Transpose", mixed, perm=[0, 2, 1, 3]) if self.flip() else mixed

    def attention_operator(self) -> str:
        """Add the operator Attention, with heads on an axis of their own."""
        self.opset = 23
        batch, heads, size = (int(n) for n in whole(self.random, 1, 3, 3))
        queries, keys = (int(one(self.random, 1, 3, 8, 17)) for _ in range(2))
        operands = [self.given(batch, heads, length, size) for length in (queries, keys, keys)]
        if self.flip():
            operands.append(self.given(*one(self.random, (queries, keys), (1, 1, queries, keys))))
        attributes = one(self.random, {}, {"scale": 0.3}, {"is_causal": 1}, {"softcap": 2.0})
        return self.add("Attention", *operands, **attributes)

    def halves(self) -> str:
        """Add a product and a few functions in float16, between Casts from and to float32."""
        n, k = (int(one(self.random, *CHANNELS)) for _ in range(2))
        y = self.add("Cast", self.given(2, k), to=TensorProto.FLOAT16)
        weights = (self.random.standard_normal((k, n)) / np.sqrt(k)).astype(np.float16)
        y = self.add("MatMul", y, self.constant(weights))
        for _ in range(int(whole(self.random, 1, 3))):
            match self.random.integers(3):
                case 0:
                    y = self.add(one(self.random, "Relu", "Sigmoid", "Neg", "Identity"), y)
                case 1:
                    y = self.either(one(self.random, "Add", "Mul"), y, self.constant(np.float16(1.5)))
                case _:
                    y = self.add("Transpose", self.add("Concat", y, y, axis=1), perm=[0, 1])
        return self.add("Cast", y, to=TensorProto.FLOAT)

    # -- bytes ---------------------------------------------------------------------------

    def byte_function(self) -> str:
        """Add functions of one number between DequantizeLinear and QuantizeLinear."""
        dtype = one(self.random, np.uint8, np.int8)
        y = x = self.quantised(self.given(3, 5), dtype)
        for _ in range(int(whole(self.random, 1, 3))):
            match self.random.integers(3):
                case 0:
                    y = self.activation(y)
                case 1:
                    y = self.either(one(self.random, "Add", "Sub", "Mul"), y, self.number(1.5))
                case _:
                    y = self.either("Mul", x, self.add("Sigmoid", y))
        return self.quantised(y, dtype)

    def byte_operator(self) -> str:
        """Add an operator between DequantizeLinear and QuantizeLinear."""
        dtype = one(self.random, np.uint8, np.int8)
        n, k = (int(one(self.random, *CHANNELS)) for _ in range(2))
        match self.random.integers(6):
            case 0:
                x, channels = self.image()
                group = int(one(self.random, 1, channels))
                weights = self.byte_weights(group * n, channels // group, 3, 3, axis=0)
                bias = [self.normal(group * n)] if self.flip() else []
                y = self.add("Conv", self.quantised(x, dtype), weights, *bias, group=group, pads=[1] * 4)
            case 1:
                y = self.add("MatMul", self.quantised(self.given(3, k), dtype), self.byte_weights(k, n, axis=1))
            case 2:
                turned = int(self.flip())
                weights = self.byte_weights(*((n, k) if turned else (k, n)), axis=1 - turned)
                y = self.add("Gemm", self.quantised(self.given(3, k), dtype), weights, self.normal(n), transB=turned)
            case 3:
                x, other = (self.quantised(self.given(2, n), dtype) for _ in range(2))
                y = self.add(one(self.random, "Add", "Mul"), x, other)
            case 4:
                y = self.add("GlobalAveragePool", self.quantised(self.image()[0], dtype))
            case _:
                x = self.quantised(self.image()[0], dtype)
                y = self.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4) if self.flip() else self.add("Flatten", x)
        y = self.activation(y) if self.random.random() < 0.3 else self.add("Relu", y) if self.flip() else y
        return self.quantised(y, dtype)

    def integer_product(self) -> str:
        """Add a product of bytes, converted and scaled as exporters of dynamically quantised models do."""
        n, k = (int(one(self.random, *CHANNELS)) for _ in range(2))
        convolution = self.flip()
        x = self.image()[0] if convolution else self.given(3, k)
        weights = self.random.integers(-127, 128, (n, self.inputs[x].shape[1], 1, 1) if convolution else (k, n))
        zero = self.constant(np.int8(0))
        data = self.add("DynamicQuantizeLinear", x, outputs=3)
        scale, point = data.replace("_0", "_1"), data.replace("_0", "_2")
        product = "ConvInteger" if convolution else "MatMulInteger"
        sums = self.add(product, data, self.constant(weights.astype(np.int8)), point, zero)
        real = self.add("Cast", sums, to=TensorProto.FLOAT)
        y = self.either("Mul", real, self.either("Mul", scale, self.constant(np.float32(0.02))))
        bias = self.normal(1, n, 1, 1) if convolution else self.bias(3, n)
        return self.either("Add", y, bias) if self.flip() else y

    # -- shapes and orders -----------------------------------------------------------------

    def parts(self) -> str:
        """Add the parts of a Split, put together in another order or added."""
        axis, count = int(one(self.random, 0, 1, -1)), int(whole(self.random, 2, 3))
        sizes = [int(n) for n in whole(self.random, 1, 3, count)] if self.flip() else [2] * count
        shape = [2, 3, 4]
        shape[axis] = sum(sizes)
        first = self.add("Split", self.given(*shape), self.ints(*sizes), outputs=count, axis=axis)
        found = [first.replace("_0", f"_{i}") for i in range(count)]
        if len(set(sizes)) == 1 and self.flip():
            return self.add("Sub", found[0], found[1])
        return self.add("Concat", *found[::-1], axis=axis)

    def empty_options(self) -> str:
        """Add a Resize with an empty roi, and empty scales beside sizes."""
        x, _ = self.image()
        empty = self.constant(np.zeros(0, np.float32))
        mode = one(self.random, "nearest", "linear")
        attributes = {"mode": mode, "coordinate_transformation_mode": one(self.random, "asymmetric", "half_pixel")}
        if self.flip():
            scales = np.array([1, 1, *one(self.random, (2, 2), (2, 0.5), (1.5, 3), (0.5, 0.5))], np.float32)
            return self.add("Resize", x, empty, self.constant(scales), **attributes)
        shape = self.inputs[x].shape
        return self.add("Resize", x, empty, empty, self.ints(*shape[:2], 2 * shape[2], 5), **attributes)

    def gathers(self) -> str:
        """Add several functions of one tensor along a last axis, and gather each of them."""
        count = int(whole(self.random, 1, 3))
        x, op = self.given(2, 3, one(self.random, 1, count)), one(self.random, "Add", "Mul", "Sub", "Div")
        other = self.constant(self.random.uniform(0.5, 2, (count,)).astype(np.float32))
        both = self.add(op, *((x, other) if self.flip() else (other, self.add("Exp", x))))
        y = ""
        for i in range(count):
            index = int(one(self.random, i, i - count))
            part = self.add("Gather", both, self.constant(np.array(index)), axis=int(one(self.random, -1, 2)))
            y = self.add("Sub", y, part) if y else part
        return y

    def equation(self) -> str:
        """Add an Einsum: a sum of products of one to three tensors with up to three of four indices."""
        size = {letter: int(whole(self.random, 1, 4)) for letter in "abcd"}
        count = int(whole(self.random, 1, 3))
        terms = ["".join(self.random.permutation([*size])[: whole(self.random, 0, 3)]) for _ in range(count)]
        letters = sorted(set("".join(terms)))
        result = "".join(self.random.permutation(letters)[: whole(self.random, 0, len(letters))]) if letters else ""
        inputs = [self.given(*(size[letter] for letter in term)) for term in terms]
        return self.add("Einsum", *inputs, equation=f"{','.join(terms)}->{result}")

    def channels_last(self) -> str:
        """Add convolutions between Transposes, and arithmetic on channels that come last."""
        channels = int(one(self.random, 1, 3, 4, 8))
        space = [int(n) for n in whole(self.random, 1, 6, 2)]
        y = self.given(1, *space, channels)
        for _ in range(2):
            out = int(one(self.random, 1, 3, 4, 8))
            image = self.conv(self.add("Transpose", y, perm=[0, 3, 1, 2]), channels, out, int(one(self.random, 1, 3)))
            y, channels = self.add("Transpose", image, perm=[0, 2, 3, 1]), out
            match self.random.integers(5):
                case 0:
                    shape = broadcastable(self.random, [1, *space, channels])
                    y = self.either(one(self.random, "Add", "Sub", "Mul"), y, self.normal(*shape))
                case 1:
                    y = self.activation(y)
                case 2:
                    y, channels = self.add("Concat", y, self.add("Neg", y), axis=int(one(self.random, 3, -1))), 2 * out
                case 3:
                    y, space = self.add("Pad", y, self.ints(0, 1, 0, 0, 0, 0, 2, 0)), [space[0] + 1, space[1] + 2]
                case _:
                    y = self.either("Sub", y, self.mean(y, *one(self.random, (3,), (1, 2), (-1,))))
        return y

    def changes_nothing(self) -> str:
        """Add nodes that change nothing, between some that do."""
        y = self.given(2, 1, 3)
        for _ in range(int(whole(self.random, 2, 5))):
            match self.random.integers(8):
                case 0:
                    y = self.add("Identity", y)
                case 1:
                    y = self.add("Dropout", y)
                case 2:
                    y = self.add("Cast", y, to=TensorProto.FLOAT)
                case 3:
                    y = self.add("Squeeze", self.add("Unsqueeze", y, self.ints(0)), self.ints(0))
                case 4:
                    stack = self.add("Concat", self.add("Unsqueeze", y, self.ints(3)), axis=3)
                    y = self.add("Squeeze", self.mean(stack, 3), self.ints(3))
                case 5 | 6:
                    turned = self.add("Transpose", y, perm=[1, 0, 2]) if self.flip() else self.add("Flatten", y)
                    y = self.add("Reshape", turned, self.ints(2, 1, 3))
                case _:
                    y = self.activation(y)
        return y

    def sample(self, make: Callable[[Idiom], str], origin: str) -> Sample:
        """Return the model of a pattern. Raises ValueError if it is not valid."""
        result = make(self)
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name, x in self.inputs.items()]
        outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "idiom", inputs, outputs, self.weights)
        opset = [helper.make_opsetid("", self.opset)]
        return Sample(inferred(helper.make_model(graph, opset_imports=opset, ir_version=8)), self.inputs, origin)


IDIOMS: dict[str, Callable[[Idiom], str]] = {
    "drop_empty_options": Idiom.empty_options,
    "fold_batchnorm": Idiom.convolution_and_norm,
    "fold_channelwise": Idiom.channelwise,
    "fuse_activation": Idiom.epilogue,
    "fuse_attention": Idiom.attention,
    "fuse_depthwise_pointwise": Idiom.projected,
    "fuse_expand_depthwise": Idiom.expanded,
    "fuse_gated_conv": Idiom.squeezed,
    "fuse_integer_products": Idiom.integer_product,
    "fuse_linear": Idiom.linear,
    "fuse_quantised": Idiom.byte_operator,
    "fuse_residual": Idiom.residual,
    "fuse_row_means": Idiom.expanded,
    "fuse_squeeze_excite": Idiom.squeezed,
    "fuse_stem": Idiom.projected,
    "hoist_gathers": Idiom.gathers,
    "lower_attention": Idiom.attention_operator,
    "lower_batchnorm": Idiom.norm_alone,
    "lower_einsum": Idiom.equation,
    "recognise_gelu": Idiom.gelu,
    "recognise_hardswish": Idiom.hardswish,
    "recognise_layer_norm": Idiom.layer_norm,
    "recognise_swish": Idiom.swish,
    "remove_noops": Idiom.changes_nothing,
    "sink_transposes": Idiom.channels_last,
    "split_into_slices": Idiom.parts,
    "tabulate_bytes": Idiom.byte_function,
    "widen_float16": Idiom.halves,
}
"""The pattern for each pass that looks for one of ONNX's own operators in float32."""


def idiom(r: Random, name: str = "") -> Sample:
    """Return a pattern for a pass, or for one drawn. Raises ValueError if what was drawn is not valid."""
    name = name or str(one(r, *IDIOMS))
    return Idiom(r).sample(IDIOMS[name], f"idiom for {name}")
