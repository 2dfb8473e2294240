"""EfficientAT's dynamic MobileNets (DyMN) as ONNX graphs, from a checkpoint.

Input `melspec` (1, 1, mels, time), outputs `logits` (1, classes) and `embedding` (1, channels), all float32. A batch is
one clip, because each clip has convolution weights of its own.

Source: Schmid et al., Dynamic Convolutional Neural Networks as Efficient Pre-trained Audio Models, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from audiotag.errors import ModelError
from audiotag.models.mobilenet import BLOCKS, OPSET, GraphBuilder, InvertedResidual, StateTensors, make_divisible
from tinyonnx import Graph, Value
from tinyonnx.ir import Array

_KERNELS = 4
"""Number of kernels that a dynamic convolution mixes."""

_MIN_CONTEXT, _MAX_CONTEXT = 32, 128


def graph_from_dynamic_state(state: Mapping[str, Array], bins: int = 128) -> Graph:
    """Build the network of a DyMN checkpoint, with the temperature 1 of dynamic convolutions.

    Raises ModelError, which names the tensor that is missing, unexpected, or has another shape.
    """
    try:
        hidden, classes = (state[f"classifier.{i}.weight"].shape[0] for i in (2, 5))
    except KeyError as error:
        raise ModelError(f"not a checkpoint of EfficientAT's DyMN: {error.args[0]} is missing") from None
    tensors = StateTensors(state, "EfficientAT's DyMN")
    graph = _DynamicBuilder(tensors, hidden / 1280, classes, bins).graph
    tensors.check_all_used()
    graph.metadata["custom:trained"] = "yes"
    return graph


class _DynamicBuilder(GraphBuilder):
    """Builds the graph layer by layer."""

    def __init__(self, tensors: StateTensors, width: float, classes: int, bins: int) -> None:
        super().__init__(tensors, Graph(f"dymn{round(width * 10):02d}", {"": OPSET}))
        self.graph.metadata = {"producer_name": "audiotag", "custom:architecture": self.graph.name}
        float32 = np.dtype(np.float32)
        x = self.graph.add_input(Value("melspec", float32, (1, 1, bins, "time")))
        blocks = [block.scaled(width) for block in BLOCKS]
        x = self._fixed("in_c", x, 1, blocks[0].channels, 3, 2)
        for index, block in enumerate(blocks):
            x = self._block(f"layers.{index}", x, block, width, index)
        embedding_size = 6 * blocks[-1].out
        x = self._fixed("out_c", x, blocks[-1].out, embedding_size, 1, 1)
        x = self._node("GlobalAveragePool", "classifier.0", [x])
        embedding = self._node("Flatten", "classifier.1", [x], {"axis": 1}, output="embedding")
        hidden = make_divisible(1280 * width)
        x = self._linear("classifier.2", embedding, embedding_size, hidden, 1.0)
        x = self._node("HardSwish", "classifier.3", [x])
        logits = self._linear("classifier.5", x, hidden, classes, 1.0, output="logits")
        for value, size in ((logits, classes), (embedding, embedding_size)):
            value.dtype, value.shape = float32, (1, size)
            self.graph.add_output(value)

    def _fixed(self, name: str, x: Value, channels: int, out: int, kernel: int, stride: int) -> Value:
        """Add a convolution with batch normalisation and HardSwish."""
        pad = (kernel - 1) // 2
        weight = self._tensor(f"{name}.0.weight", (out, channels, kernel, kernel), 1.0)
        attributes = {"kernel_shape": [kernel] * 2, "pads": [pad] * 4, "strides": [stride] * 2}
        x = self._node("Conv", f"{name}.conv", [x, weight], attributes)
        return self._node("HardSwish", f"{name}.activation", [self._norm(f"{name}.1", x, out)])

    def _block(self, name: str, x: Value, block: InvertedResidual, width: float, index: int) -> Value:
        least, most = (make_divisible(size * width) for size in (_MIN_CONTEXT, _MAX_CONTEXT))
        size = min(max(make_divisible(block.expanded // 4), least), most)
        context, frequency, time = self._context(f"{name}.context_gen", x, block, size)
        y, wide = x, block.expanded
        if block.expands:
            y = self._dynamic(f"{name}.exp_conv", y, context, size, (wide, block.channels, 1, 1), 1)
            y = self._norm(f"{name}.exp_norm", y, wide)
            y = self._node(block.activation, f"{name}.exp_act", [y])
        y = self._dynamic(
            f"{name}.depth_conv", y, context, size, (wide, 1, block.kernel, block.kernel), block.stride, wide
        )
        y = self._norm(f"{name}.depth_norm", y, wide)
        y = self._rectify(f"{name}.depth_act", y, context, size, wide)
        for part, gate in (("frequency", frequency), ("time", time)):
            y = self._node("Mul", f"{name}.{part}.scale", [y, self._node("Sigmoid", f"{name}.{part}.gate", [gate])])
        y = self._dynamic(f"{name}.proj_conv", y, context, size, (block.out, wide, 1, 1), 1)
        y = self._norm(f"{name}.proj_norm", y, block.out)
        return self._node("Add", f"{name}.add", [y, x]) if block.residual else y

    def _context(self, name: str, x: Value, block: InvertedResidual, size: int) -> tuple[Value, Value, Value]:
        """Return the context (1, size) and gates over frequency (1, c, f, 1) and time (1, c, 1, t), before sigmoids."""
        along_f = self._node("ReduceMean", f"{name}.mean_f", [x], {"axes": [3], "keepdims": 1})
        along_t = self._node("ReduceMean", f"{name}.mean_t", [x], {"axes": [2], "keepdims": 1})
        weight = self._tensor(f"{name}.joint_conv.weight", (size, block.channels, 1, 1), 1.0)

        def joint(part: str, y: Value) -> Value:
            y = self._node("Conv", f"{name}.joint_{part}", [y, weight], {"kernel_shape": [1, 1]})
            y = self._norm(f"{name}.joint_norm", y, size, f"{name}.norm_{part}")
            return self._node("HardSwish", f"{name}.act_{part}", [y])

        # the joint transformation is 1 x 1, so that both sequences can pass it one after the other
        h_f, h_t = joint("f", along_f), joint("t", along_t)
        flat_f = self._node("Squeeze", f"{name}.flat_f", [h_f, self._numbers("axis_3", [3])])
        flat_t = self._node("Squeeze", f"{name}.flat_t", [h_t, self._numbers("axis_2", [2])])
        both = self._node("Concat", f"{name}.both", [flat_f, flat_t], {"axis": 2})
        context = self._node("ReduceMean", f"{name}.context", [both], {"axes": [2], "keepdims": 0})
        gates = []
        for part, h, kernel, axis in (("f", h_f, [3, 1], 0), ("t", h_t, [1, 3], 1)):
            if block.stride > 1:
                pads = [1 if i % 2 == axis else 0 for i in range(4)]
                strides = [block.stride if i == axis else 1 for i in range(2)]
                attributes = {"kernel_shape": kernel, "pads": pads, "strides": strides, "count_include_pad": 1}
                h = self._node("AveragePool", f"{name}.pool_{part}", [h], attributes)
            convolution = self._tensor(f"{name}.conv_{part}.weight", (block.expanded, size, 1, 1), 1.0)
            bias = self._tensor(f"{name}.conv_{part}.bias", (block.expanded,), 0.0)
            gates.append(self._node("Conv", f"{name}.conv_{part}", [h, convolution, bias], {"kernel_shape": [1, 1]}))
        return context, gates[0], gates[1]

    def _dynamic(
        self, name: str, x: Value, context: Value, size: int, shape: tuple[int, ...], stride: int, group: int = 1
    ) -> Value:
        """Add a convolution whose weights are mixed from kernels by attention to the context."""
        attention = self._linear(f"{name}.residuals.0", context, size, _KERNELS, 1.0)
        attention = self._node("Softmax", f"{name}.attention", [attention], {"axis": 1})
        kernels = self._tensor(f"{name}.weight", (1, 1, _KERNELS, int(np.prod(shape))), 1.0, (_KERNELS, -1))
        mixed = self._node("MatMul", f"{name}.mixed", [attention, kernels])
        weight = self._node("Reshape", f"{name}.kernel", [mixed, self._numbers(f"{name}.shape", shape)])
        pad = (shape[2] - 1) // 2
        attributes = {"group": group, "kernel_shape": [*shape[2:]], "pads": [pad] * 4, "strides": [stride] * 2}
        return self._node("Conv", f"{name}.conv", [x, weight], attributes)

    def _rectify(self, name: str, x: Value, context: Value, size: int, channels: int) -> Value:
        """Add Dy-ReLU: the larger of two linear maps a·x + b of each channel, with a and b from the context."""
        theta = self._linear(f"{name}.coef_net.0", context, size, 4 * channels, 1.0)
        theta = self._node("Sigmoid", f"{name}.sigmoid", [theta])
        theta = self._node("Reshape", f"{name}.theta", [theta, self._numbers(f"{name}.shape", (1, channels, 1, 1, 4))])
        # coefficient · lambda + v with coefficient 2 · sigmoid - 1
        lambdas, start = self.tensors(f"{name}.lambdas", (4,), 1.0), self.tensors(f"{name}.init_v", (4,), 1.0)
        scale = self.graph.add_initializer(f"{name}.scale", 2 * lambdas)
        offset = self.graph.add_initializer(f"{name}.offset", start - lambdas)
        theta = self._node("Add", f"{name}.coefs", [self._node("Mul", f"{name}.scaled", [theta, scale]), offset])
        maps = []
        for i in range(2):
            a, b = (
                self._node("Gather", f"{name}.coef_{k}", [theta, self._numbers(f"index_{k}", k)], {"axis": 4})
                for k in (i, i + 2)
            )
            scaled = self._node("Mul", f"{name}.slope_{i}", [x, a])
            maps.append(self._node("Add", f"{name}.map_{i}", [scaled, b]))
        return self._node("Max", f"{name}.max", maps)
