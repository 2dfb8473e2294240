"""The MobileNetV3 family of EfficientAT as ONNX graphs, with seeded random weights or those of a checkpoint.

::

    graph = random_graph("mn10", seed=0)                       # the size of mn10_as, for benchmarks
    graph = graph_from_state(read_checkpoint("mn04_as_mAP_432.pt"))
    tinyonnx.save_model(graph, "mn10.onnx")

Input `melspec` (batch, 1, 128, time), outputs `logits` (batch, classes) and `embedding`
(batch, channels), all float32. The output of every block is a value named like the block
(`features.4`), every initializer is named like the tensor in the checkpoint, and batch
normalisation remains a separate node.

Source: Howard et al., Searching for MobileNetV3, 2019; Schmid et al., Efficient
Large-scale Audio Tagging via Transformer-to-CNN Knowledge Distillation, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import numpy as np

from audiotag.errors import ModelError
from audiotag.labels import N_CLASSES
from tinyonnx import Graph, Node, Value
from tinyonnx.ir import Array
from tinyonnx.tools.costs import count_parameters

Shape = tuple[int, ...]

OPSET = 17
N_MELS = 128
BATCHNORM_EPSILON = 1e-3

WIDTHS = {"mn01": 0.1, "mn02": 0.2, "mn04": 0.4, "mn05": 0.5, "mn10": 1.0, "mn20": 2.0, "mn30": 3.0, "mn40": 4.0}
"""Width multipliers of the published networks by name."""

_LAST_CHANNELS = 1280
_HEAD_EXPANSION = 6


# -- architecture -----------------------------------------------------------------------


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round `channels` to a multiple of `divisor`, at least `divisor` and at least 90 % of `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclass(frozen=True)
class InvertedResidual:
    """An inverted residual block: expand 1×1, depthwise, squeeze-and-excitation, project 1×1.

    Channel counts in `BLOCKS` are those of width 1; `scaled` converts them. `stride` is that of frequency and, unless
    `time_stride` differs, of time.
    """

    channels: int
    kernel: int
    expanded: int
    out: int
    squeeze: bool
    activation: str
    stride: int
    time_stride: int | None = None

    def scaled(self, width: float) -> InvertedResidual:
        """Return the block in a network of the given width."""
        channels, expanded, out = (make_divisible(c * width) for c in (self.channels, self.expanded, self.out))
        return replace(self, channels=channels, expanded=expanded, out=out)

    @property
    def squeezed(self) -> int:
        """Number of channels between the two linear maps of squeeze-and-excitation."""
        return make_divisible(self.expanded // 4)

    @property
    def expands(self) -> bool:
        return self.expanded != self.channels

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.channels == self.out


@dataclass(frozen=True)
class Conv:
    """A convolution without bias, with batch normalisation and an activation ("" for none)."""

    channels: int
    out: int
    kernel: int = 1
    stride: int = 1
    group: int = 1
    activation: str = ""
    time_stride: int | None = None


BLOCKS = (
    InvertedResidual(16, 3, 16, 16, False, "Relu", 1),
    InvertedResidual(16, 3, 64, 24, False, "Relu", 2),
    InvertedResidual(24, 3, 72, 24, False, "Relu", 1),
    InvertedResidual(24, 5, 72, 40, True, "Relu", 2),
    InvertedResidual(40, 5, 120, 40, True, "Relu", 1),
    InvertedResidual(40, 5, 120, 40, True, "Relu", 1),
    InvertedResidual(40, 3, 240, 80, False, "HardSwish", 2),
    InvertedResidual(80, 3, 200, 80, False, "HardSwish", 1),
    InvertedResidual(80, 3, 184, 80, False, "HardSwish", 1),
    InvertedResidual(80, 3, 184, 80, False, "HardSwish", 1),
    InvertedResidual(80, 3, 480, 112, True, "HardSwish", 1),
    InvertedResidual(112, 3, 672, 112, True, "HardSwish", 1),
    InvertedResidual(112, 5, 672, 160, True, "HardSwish", 2),
    InvertedResidual(160, 5, 960, 160, True, "HardSwish", 1),
    InvertedResidual(160, 5, 960, 160, True, "HardSwish", 1),
)


@dataclass(frozen=True)
class Config:
    """A network of the family.

    Args:
        width: width multiplier.
        classes: number of classes.
        bins: number of mel bands.
        strides: strides of the four blocks that have stride 2 in the original.
        head: "mlp", two linear maps of the mean, or "fc", the mean of a convolution.
    """

    width: float
    classes: int = N_CLASSES
    bins: int = N_MELS
    strides: tuple[int, ...] = (2, 2, 2, 2)
    head: Literal["mlp", "fc"] = "mlp"

    @property
    def blocks(self) -> tuple[InvertedResidual, ...]:
        strides = iter(self.strides)
        blocks = (replace(block, stride=next(strides)) if block.stride == 2 else block for block in BLOCKS)
        return tuple(block.scaled(self.width) for block in blocks)

    @property
    def embedding(self) -> int:
        """Number of channels of the embedding."""
        return _HEAD_EXPANSION * self.blocks[-1].out

    @property
    def hidden(self) -> int:
        """Number of channels between the two linear maps of the classifier."""
        return make_divisible(_LAST_CHANNELS * self.width)

    @property
    def name(self) -> str:
        """`mn10` for width 1."""
        return f"mn{round(self.width * 10):02d}"


def named_config(name: str) -> Config:
    """Return the config of `mn01`, ..., `mn40`. Raises ModelError for another name."""
    if name not in WIDTHS:
        raise ModelError(f"{name} is not a network of the MobileNetV3 family: {', '.join(WIDTHS)}")
    return Config(WIDTHS[name])


# -- tensors ----------------------------------------------------------------------------

Tensors = Callable[[str, Shape, float], Array]
"""Function that returns the tensor of a name, as in EfficientAT's checkpoints, and shape.

The third argument is for random tensors: for weights the factor on the variance 1 / fan-in that
compensates the loss by the preceding activation, for scales the mean.
"""

_INPUT_GAIN = {"": 1.0, "Relu": 2.0, "HardSwish": 2.5}
"""Reciprocal second moment of a normal variable after each activation (HardSwish: 2 to 4, depending on scale)."""

_GATE_GAIN = 3.0
"""Compensates a gate with values around one half, which leaves about a third of the second moment."""

_EMBEDDING_GAIN = 4.0
_RESIDUAL_SCALE = 0.5


def random_tensors(seed: int) -> Tensors:
    """Make seeded random tensors for which activations neither explode nor vanish.

    Normal weights as in He et al. (2015), and batch normalisation close to the identity.
    """
    rng = np.random.default_rng(seed)

    def tensor(name: str, shape: Shape, gain: float) -> Array:
        noise = rng.standard_normal(shape)
        if len(shape) > 1:
            noise *= math.sqrt(gain / math.prod(shape[1:]))
        elif name.endswith((".weight", ".running_var")):
            noise = gain * np.exp(0.1 * noise)
        else:
            noise *= 0.05
        return noise.astype(np.float32)

    return tensor


class StateTensors:
    """Provides the tensors of a state dict and records which were used."""

    def __init__(self, state: Mapping[str, Array], family: str = "EfficientAT's MobileNetV3") -> None:
        self.state = state
        self.family = family
        self.used: set[str] = set()

    def check_all_used(self) -> None:
        """Raise ModelError if the checkpoint has other tensors than the network."""
        rest = [name for name in self.state if name not in self.used and not name.endswith(".num_batches_tracked")]
        if rest:
            raise ModelError(f"not a checkpoint of {self.family}: unexpected tensor {rest[0]}")

    def __call__(self, name: str, shape: Shape, gain: float) -> Array:
        array = self.state.get(name)
        if array is None:
            raise ModelError(f"not a checkpoint of {self.family}: {name} is missing")
        if array.shape != shape:
            raise ModelError(f"{name} has shape {list(array.shape)}, a network of that width has {list(shape)}")
        if array.dtype.kind != "f":
            raise ModelError(f"{name} is of {array.dtype}, not floating-point")
        self.used.add(name)
        return np.ascontiguousarray(array, np.float32)


# -- graphs -----------------------------------------------------------------------------


def random_graph(name: str = "mn10", seed: int = 0) -> Graph:
    """Make an untrained network, identical for equal name (`mn01`, ..., `mn40`) and seed.

    Its shapes and speed are those of the trained network; its scores mean nothing.
    Raises ModelError for another name.
    """
    graph = build(named_config(name), random_tensors(seed))
    graph.metadata |= {"custom:trained": "no", "custom:source": f"random weights, seed {seed}"}
    return graph


def graph_from_state(state: Mapping[str, Array], bins: int = N_MELS, strides: tuple[int, ...] = (2, 2, 2, 2)) -> Graph:
    """Build the network of a checkpoint; width, head and number of classes follow from the tensor shapes.

    Half and double precision become float32. Hop, number of mel bands and strides can't be recognised, because the
    tensors have the same shapes.

    Raises ModelError, which names the tensor that is missing, unexpected, or has another shape.
    """
    tensors = StateTensors(state)
    graph = build(replace(_infer_config(state), bins=bins, strides=strides), tensors)
    tensors.check_all_used()
    graph.metadata["custom:trained"] = "yes"
    return graph


def _infer_config(state: Mapping[str, Array]) -> Config:
    convolution = state.get("classifier.0.weight")
    if convolution is not None and convolution.ndim == 4:
        classes, embedding = convolution.shape[:2]
        for width in WIDTHS.values():
            if Config(width).embedding == embedding:
                return Config(width, classes, head="fc")
        raise ModelError(f"classifier.0.weight has {embedding} channels, which no published width has")
    sizes = []
    for name in ("classifier.2.weight", "classifier.5.weight"):
        array = state.get(name)
        if array is None or array.ndim != 2:
            raise ModelError(f"not a checkpoint of EfficientAT's MobileNetV3: {name} is missing or not a matrix")
        sizes.append(array.shape[0])
    return Config(sizes[0] / _LAST_CHANNELS, sizes[1])


def parameter_count(config: Config) -> int:
    """Count the trainable parameters of a network."""
    return count_parameters(build(config, lambda name, shape, gain: np.broadcast_to(np.float32(0), shape)))


def build(config: Config, tensors: Tensors) -> Graph:
    """Build the graph of a config with weights from `tensors`."""
    return MobileNetBuilder(config, tensors).graph


class GraphBuilder:
    """Adds nodes and tensors to a graph."""

    def __init__(self, tensors: Tensors, graph: Graph) -> None:
        self.tensors = tensors
        self.graph = graph
        self._constants: dict[str, Value] = {}

    def _linear(self, name: str, x: Value, n: int, out: int, gain: float, output: str | None = None) -> Value:
        weight, bias = self._tensor(f"{name}.weight", (out, n), gain), self._tensor(f"{name}.bias", (out,), 0.0)
        return self._node("Gemm", name, [x, weight, bias], {"transB": 1}, output=output)

    def _norm(
        self, name: str, x: Value, channels: int, node: str | None = None, epsilon: float = BATCHNORM_EPSILON
    ) -> Value:
        """Add batch normalisation; nodes with the same tensors need names of their own."""
        kinds = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        statistics = [self._tensor(f"{name}.{kind}", (channels,), centre) for kind, centre in kinds.items()]
        return self._node("BatchNormalization", node or name, [x, *statistics], {"epsilon": epsilon})

    def _scaled(self, name: str, x: Value, shape: Shape, epsilon: float) -> Value:
        """Add batch normalisation along any axis as a product and a sum; `shape` aligns its tensors with `x`."""
        scale, bias, mean, variance = (
            self.tensors(f"{name}.{kind}", (math.prod(shape),), 1.0).astype(np.float64)
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        scale /= np.sqrt(variance + epsilon)
        for kind, numbers in (("scale", scale), ("shift", bias - mean * scale)):
            array = numbers.reshape(shape).astype(np.float32)
            operand = self.graph.add_initializer(f"{name}.{kind}", array)
            x = self._node("Mul" if kind == "scale" else "Add", f"{name}.{kind}ed", [x, operand])
        return x

    def _tensor(self, name: str, shape: Shape, gain: float, reshaped: Shape | None = None) -> Value:
        """Return the initializer of a tensor, added on first use."""
        if name not in self._constants:
            array = self.tensors(name, shape, gain)
            self._constants[name] = self.graph.add_initializer(
                name, array if reshaped is None else array.reshape(reshaped)
            )
        return self._constants[name]

    def _numbers(self, name: str, numbers: int | Sequence[int]) -> Value:
        """Return an initializer of integers, added on first use."""
        if name not in self._constants:
            self._constants[name] = self.graph.add_initializer(name, np.array(numbers, np.int64))
        return self._constants[name]

    def _number(self, name: str, number: float) -> Value:
        """Return an initializer of one float32, added on first use."""
        if name not in self._constants:
            self._constants[name] = self.graph.add_initializer(name, np.array(number, np.float32))
        return self._constants[name]

    def _each(self, name: str, x: Value, n: int, out: int) -> Value:
        """Add a linear map of the last axis of a tensor of any rank."""
        weight, bias = self._tensor(f"{name}.weight", (out, n), 1.0), self._tensor(f"{name}.bias", (out,), 0.0)
        turned = self._node("Transpose", f"{name}.transposed", [weight], {"perm": [1, 0]})
        return self._node("Add", name, [self._node("MatMul", f"{name}.product", [x, turned]), bias])

    def _node(
        self,
        op_type: str,
        name: str,
        inputs: Sequence[Value],
        attributes: Mapping[str, Any] | None = None,
        output: str | None = None,
    ) -> Value:
        result = Value(output or name)
        index = len(self.graph.nodes)
        self.graph.add_node(Node(op_type, inputs, [result], attributes, opset=OPSET, name=name, index=index))
        return result


class MobileNetBuilder(GraphBuilder):
    """Builds the graph layer by layer."""

    def __init__(self, config: Config, tensors: Tensors) -> None:
        super().__init__(tensors, Graph(config.name, {"": OPSET}))
        self.graph.metadata = {
            "producer_name": "audiotag",
            "description": f"EfficientAT's MobileNetV3 {config.name}: log-mel spectrogram to {config.classes} logits",
            "custom:architecture": config.name,
        }
        float32 = np.dtype(np.float32)
        x = self.graph.add_input(Value("melspec", float32, ("batch", 1, config.bins, "time")))
        self.spatial = self.graph.add_initializer("spatial_axes", np.array([2, 3], np.int64))
        for output, shape in self._outputs(config, self._features(config, x)):
            output.dtype, output.shape = float32, shape
            self.graph.add_output(output)

    def _outputs(self, config: Config, x: Value) -> list[tuple[Value, tuple[str | int, ...]]]:
        """Add the head; return the outputs with their shapes."""
        logits, embedding = self._head(config, x)
        return [(logits, ("batch", config.classes)), (embedding, ("batch", config.embedding))]

    def _features(self, config: Config, x: Value) -> Value:
        blocks = config.blocks
        stem = Conv(1, blocks[0].channels, kernel=3, stride=2, activation="HardSwish")
        x = self._conv_norm("features.0", x, stem, 1.0, "features.0")
        gain = _INPUT_GAIN[stem.activation]
        for index, block in enumerate(blocks, 1):
            x = self._block(f"features.{index}", x, block, gain)
            gain = _INPUT_GAIN[""]
        name = f"features.{len(blocks) + 1}"
        return self._conv_norm(name, x, Conv(blocks[-1].out, config.embedding, activation="HardSwish"), gain, name)

    def _block(self, name: str, x: Value, block: InvertedResidual, gain: float) -> Value:
        parts = (f"{name}.block.{i}" for i in count())
        activation, wide = block.activation, block.expanded
        y = x
        if block.expands:
            y = self._conv_norm(next(parts), y, Conv(block.channels, wide, activation=activation), gain)
            gain = _INPUT_GAIN[activation]
        depthwise = Conv(
            wide, wide, block.kernel, block.stride, group=wide, activation=activation, time_stride=block.time_stride
        )
        y = self._conv_norm(next(parts), y, depthwise, gain)
        gain = _INPUT_GAIN[activation]
        if block.squeeze:
            y = self._squeeze_excite(next(parts), y, block)
            gain *= _GATE_GAIN
        project = Conv(wide, block.out)
        if not block.residual:
            return self._conv_norm(next(parts), y, project, gain, name)
        y = self._conv_norm(next(parts), y, project, gain, scale=_RESIDUAL_SCALE)
        return self._node("Add", f"{name}.add", [y, x], output=name)

    def _conv_norm(
        self, name: str, x: Value, conv: Conv, gain: float, output: str | None = None, scale: float = 1.0
    ) -> Value:
        """Add convolution, batch normalisation and activation; `output` is the name of the result."""
        pad = (conv.kernel - 1) // 2
        attributes = {
            "dilations": [1, 1],
            "group": conv.group,
            "kernel_shape": [conv.kernel] * 2,
            "pads": [pad] * 4,
            "strides": [conv.stride, conv.time_stride or conv.stride],
        }
        shape = (conv.out, conv.channels // conv.group, conv.kernel, conv.kernel)
        weight = self._tensor(f"{name}.0.weight", shape, gain)
        x = self._node("Conv", f"{name}.conv", [x, weight], attributes)
        kinds = {"weight": scale, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        statistics = [self._tensor(f"{name}.1.{kind}", (conv.out,), centre) for kind, centre in kinds.items()]
        last = output if not conv.activation else None
        x = self._node(
            "BatchNormalization", f"{name}.norm", [x, *statistics], {"epsilon": BATCHNORM_EPSILON}, output=last
        )
        return self._node(conv.activation, f"{name}.activation", [x], output=output) if conv.activation else x

    def _squeeze_excite(self, name: str, x: Value, block: InvertedResidual) -> Value:
        """Add x · sigmoid(W2·relu(W1·mean(x) + b1) + b2) with the mean over mel bands and time."""
        layer = f"{name}.conc_se_layers.0"
        mean = self._node("ReduceMean", f"{name}.mean", [x], {"axes": [2, 3], "keepdims": 0})
        y = self._linear(f"{layer}.fc1", mean, block.expanded, block.squeezed, 2.0)
        y = self._node("Relu", f"{name}.activation", [y])
        y = self._linear(f"{layer}.fc2", y, block.squeezed, block.expanded, 1.0)
        y = self._node("Sigmoid", f"{name}.gate", [y])
        y = self._node("Unsqueeze", f"{name}.unsqueeze", [y, self.spatial])
        return self._node("Mul", f"{name}.scale", [x, y])

    def _head(self, config: Config, x: Value) -> tuple[Value, Value]:
        if config.head == "fc":
            return self._convolutional_head(config, x)
        x = self._node("GlobalAveragePool", "classifier.0", [x])
        embedding = self._node("Flatten", "classifier.1", [x], {"axis": 1}, output="embedding")
        x = self._linear("classifier.2", embedding, config.embedding, config.hidden, _EMBEDDING_GAIN)
        x = self._node("HardSwish", "classifier.3", [x])
        logits = self._linear("classifier.5", x, config.hidden, config.classes, 2.0, output="logits")
        return logits, embedding

    def _convolutional_head(self, config: Config, x: Value) -> tuple[Value, Value]:
        """Add the mean of a convolution with batch normalisation; it gives the logits."""
        pooled = self._node("GlobalAveragePool", "embedding.pool", [x])
        embedding = self._node("Flatten", "embedding.flatten", [pooled], {"axis": 1}, output="embedding")
        weight = self._tensor("classifier.0.weight", (config.classes, config.embedding, 1, 1), _EMBEDDING_GAIN)
        x = self._node("Conv", "classifier.0", [x, weight], {"kernel_shape": [1, 1]})
        x = self._norm("classifier.1", x, config.classes, epsilon=1e-5)
        x = self._node("GlobalAveragePool", "classifier.2", [x])
        return self._node("Flatten", "classifier.3", [x], {"axis": 1}, output="logits"), embedding
