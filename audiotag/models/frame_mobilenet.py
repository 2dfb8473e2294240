"""EfficientSED's frame-wise MobileNets (fmn) as ONNX graphs, from a checkpoint.

Input `melspec` (batch, 1, 128, time); outputs `strong_logits` (batch, classes, time / 4), `weak_logits`
(batch, classes) and `frame_embedding` (batch, time / 4, channels); all float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from audiotag.errors import ModelError
from audiotag.models.mobilenet import BLOCKS, Config, InvertedResidual, MobileNetBuilder, StateTensors
from tinyonnx import Graph, Value
from tinyonnx.ir import Array

_WIDTHS = (0.4, 0.6, 1.0, 2.0, 3.0)
_HALVE_FREQUENCY = (2, 5, 7, 10, 14)
"""Blocks with stride 2 along frequency only; the second block and the first convolution also halve the time."""

_PREFIXES = ("net.model.", "net.", "model.model.", "model.fmn.", "model.")


def graph_from_frame_state(state: Mapping[str, Array]) -> Graph:
    """Build the network of a frame-wise checkpoint.

    Raises ModelError, which names the tensor that is missing, unexpected, or has another shape.
    """
    named = {_plain(name): array for name, array in state.items()}
    head = named.get("strong_head.weight")
    if head is None or head.ndim != 2:
        raise ModelError("not a checkpoint of EfficientSED's frame-wise MobileNet: strong_head.weight is missing")
    classes, embedding = head.shape
    for width in _WIDTHS:
        config = FrameConfig(width, classes)
        if config.embedding == embedding:
            tensors = StateTensors(named, "EfficientSED's frame-wise MobileNet")
            graph = _FrameBuilder(config, tensors).graph
            tensors.check_all_used()
            graph.metadata["custom:trained"] = "yes"
            return graph
    raise ModelError(f"strong_head.weight has {embedding} channels, which no published width has")


def is_frame_wise(state: Mapping[str, Array]) -> bool:
    """Return whether a checkpoint is one of these networks."""
    return any(_plain(name) == "strong_head.weight" for name in state)


def _plain(name: str) -> str:
    """Return the name of a tensor without the prefix of its module."""
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)


@dataclass(frozen=True)
class FrameConfig(Config):
    """A network that keeps the time resolution after the second block."""

    @property
    def blocks(self) -> tuple[InvertedResidual, ...]:
        """The blocks with their strides."""
        plain = (replace(block, stride=2 if index == 1 else 1) for index, block in enumerate(BLOCKS))
        strided = (
            replace(block, stride=2, time_stride=1) if index in _HALVE_FREQUENCY else block
            for index, block in enumerate(plain)
        )
        return tuple(block.scaled(self.width) for block in strided)

    @property
    def name(self) -> str:
        """`fmn10` for width 1."""
        return f"fmn{round(self.width * 10):02d}"


class _FrameBuilder(MobileNetBuilder):
    """Builds the graph layer by layer."""

    def _outputs(self, config: Config, x: Value) -> list[tuple[Value, tuple[str | int, ...]]]:
        """Add both heads; frequency has been reduced to one band."""
        channels, classes = config.embedding, config.classes
        x = self._node("Squeeze", "frequency", [x, self._numbers("frequency_axis", [2])])
        frames = self._node("Transpose", "frames", [x], {"perm": [0, 2, 1]}, output="frame_embedding")
        weight = self._tensor("strong_head.weight", (classes, channels), 1.0)
        bias = self._tensor("strong_head.bias", (classes,), 0.0)
        turned = self._node("Transpose", "strong_head.transposed", [weight], {"perm": [1, 0]})
        scores = self._node("MatMul", "strong_head.product", [frames, turned])
        scores = self._node("Add", "strong_head.sum", [scores, bias])
        strong = self._node("Transpose", "strong_head", [scores], {"perm": [0, 2, 1]}, output="strong_logits")
        mean = self._node("ReduceMean", "mean", [frames], {"axes": [1], "keepdims": 0})
        weak = self._linear("weak_head", mean, channels, classes, 1.0, output="weak_logits")
        return [
            (strong, ("batch", classes, "frames")),
            (weak, ("batch", classes)),
            (frames, ("batch", "frames", channels)),
        ]
