"""PANNs' convolutional networks as ONNX graphs, from a checkpoint: Cnn6, Cnn10, Cnn14, MobileNetV1 and MobileNetV2.

Input `logmel` (batch, 1, time, mels) in decibels; outputs `clipwise_output` (batch, classes), probabilities, and
`embedding` (batch, channels); all float32. `Cnn14_DecisionLevelMax` also has `segmentwise_output` (batch, time / 32,
classes), whose greatest values are those of the clip.

Source: Kong et al., PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from audiotag.errors import ModelError
from audiotag.features.settings import mel_filterbank
from audiotag.models.description import Description, Frames, OutputNames
from audiotag.models.families.panns import description
from audiotag.models.mobilenet import OPSET, GraphBuilder, StateTensors
from tinyonnx import Graph, Value
from tinyonnx.ir import Array

_EPSILON = 1e-5
_FRONT_END = ("spectrogram_extractor.", "logmel_extractor.")
_MEL = "logmel_extractor.melW"

_CNN14 = (64, 128, 256, 512, 1024, 2048)
"""Channels of Cnn14's blocks; Cnn6 and Cnn10 have the first four."""

_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Channels and stride of MobileNetV1's blocks."""

_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 2), (6, 160, 3, 1), (6, 320, 1, 1))
"""Expansion, channels, number of blocks and stride of the first block of MobileNetV2's stages."""

_SEGMENT = 32
"""Frames of a segment of Cnn14_DecisionLevelMax."""


def is_panns(state: Mapping[str, Array]) -> bool:
    """Return whether a checkpoint is one of these networks."""
    return "fc_audioset.weight" in state


def graph_from_panns_state(state: Mapping[str, Array], name: str) -> tuple[Graph, Description]:
    """Build the network of a checkpoint, and its description with AudioSet's classes.

    The architecture follows from the tensors, except for Cnn14_DecisionLevelMax, which has the tensors of Cnn14 and is
    recognised by the name of its file. Raises ModelError, which names the tensor that is missing, unexpected, or has
    another shape.
    """
    described = _front_end(state)
    network = {key: array for key, array in state.items() if not key.startswith(_FRONT_END)}
    tensors = StateTensors(network, "PANNs' Cnn6, Cnn10, Cnn14 or MobileNet")
    segments = "decisionlevelmax" in name.lower()
    assert described.features is not None
    graph = _PannsBuilder(tensors, network, described.features.n_mels, segments).graph
    tensors.check_all_used()
    graph.metadata["custom:trained"] = "yes"
    if segments:
        outputs = OutputNames("clipwise_output", "segmentwise_output", "embedding")
        described = replace(described, frames=Frames(100 / _SEGMENT), outputs=outputs)
    return graph, described


def _front_end(state: Mapping[str, Array]) -> Description:
    """Return the description of the front end whose constants a checkpoint has. Raises ModelError for any other."""
    bank = state.get(_MEL)
    if bank is None or bank.ndim != 2:
        raise ModelError(f"{_MEL} is missing: the sample rate of the model is not known")
    bins, bands = bank.shape
    rate = {513: 32000, 257: 16000}.get(bins)
    if rate is None or not 1 <= bands <= 512:
        raise ModelError(f"{_MEL} has shape {list(bank.shape)}; it must have 513 rows (32 kHz) or 257 rows (16 kHz)")
    described = description(rate, bands)
    assert described.features is not None
    if not np.allclose(bank.T, mel_filterbank(described.features), rtol=0, atol=3e-5):
        raise ModelError(f"{_MEL} is not the filter bank of 50 Hz to {described.features.mel.fmax:g} Hz of the release")
    return described


class _PannsBuilder(GraphBuilder):
    """Builds the graph layer by layer."""

    def __init__(self, tensors: StateTensors, state: Mapping[str, Array], bands: int, segments: bool) -> None:
        architecture, channels = _architecture(state)
        if segments and architecture != "Cnn14":
            raise ModelError(f"its name says DecisionLevelMax, but its tensors are those of {architecture}")
        name = "Cnn14_DecisionLevelMax" if segments else architecture
        super().__init__(tensors, Graph(name, {"": OPSET}))
        self.graph.metadata = {"producer_name": "audiotag", "custom:architecture": name}
        float32 = np.dtype(np.float32)
        logmel = self.graph.add_input(Value("logmel", float32, ("batch", 1, "time", bands)))
        x = self._scaled("bn0", logmel, (bands,), _EPSILON)
        if architecture == "MobileNetV1":
            x = self._mobilenet_v1(x)
        elif architecture == "MobileNetV2":
            x = self._mobilenet_v2(x)
        else:
            x = self._blocks(x, architecture)
        classes, self.embedding = state["fc_audioset.weight"].shape
        for value, shape in self._heads(x, channels, classes, segments):
            value.dtype, value.shape = float32, shape
            self.graph.add_output(value)

    # -- bodies -------------------------------------------------------------------------

    def _blocks(self, x: Value, architecture: str) -> Value:
        """Return the blocks of Cnn6 (one 5 x 5 convolution each) and of Cnn10 and Cnn14 (two of 3 x 3)."""
        sizes = _CNN14 if architecture == "Cnn14" else _CNN14[:4]
        kernel, layers = (5, ("1",)) if architecture == "Cnn6" else (3, ("1", "2"))
        for index, (before, out) in enumerate(pairwise((1, *sizes)), 1):
            name = f"conv_block{index}"
            for layer in layers:
                x = self._conv(f"{name}.conv{layer}", x, before if layer == "1" else out, out, kernel)
                x = self._norm(f"{name}.bn{layer}", x, out, epsilon=_EPSILON)
                x = self._node("Relu", f"{name}.relu{layer}", [x])
            x = x if index == 6 else self._pool(f"{name}.pool", x, 2)
        return x

    def _mobilenet_v1(self, x: Value) -> Value:
        x = self._pooled_conv("features.0", 0, x, (1, 32), 2, "Relu")
        before = 32
        for index, (out, stride) in enumerate(_V1, 1):
            name = f"features.{index}"
            x = self._pooled_conv(name, 0, x, (before, before), stride, "Relu", group=before)
            x = self._pointwise(name, 4, x, before, out, "Relu")
            before = out
        return x

    def _mobilenet_v2(self, x: Value) -> Value:
        x = self._pooled_conv("features.0", 0, x, (1, 32), 2, "Clip")
        before, index = 32, 1
        for expansion, out, count, first_stride in _V2:
            for stride in (first_stride, *(1,) * (count - 1)):
                name, wide, start = f"features.{index}.conv", before * expansion, 0
                y = x
                if expansion > 1:
                    y = self._pointwise(name, 0, y, before, wide, "Clip")
                    start = 3
                y = self._pooled_conv(name, start, y, (wide, wide), stride, "Clip", group=wide)
                y = self._pointwise(name, start + 4, y, wide, out, "")
                residual = stride == 1 and before == out
                x = self._node("Add", f"{name}.add", [y, x]) if residual else y
                before, index = out, index + 1
        return self._pointwise(f"features.{index}", 0, x, before, 1280, "Clip")

    # -- layers -------------------------------------------------------------------------

    def _pooled_conv(
        self, name: str, start: int, x: Value, channels: tuple[int, int], stride: int, activation: str, group: int = 1
    ) -> Value:
        """Add a 3 x 3 convolution, mean pooling, normalisation and activation, numbered from `start`.

        Normalisation comes before pooling, which gives the same and makes it part of the convolution.
        """
        x = self._conv(f"{name}.{start}", x, channels[0], channels[1], 3, group)
        x = self._norm(f"{name}.{start + 2}", x, channels[1], epsilon=_EPSILON)
        x = self._pool(f"{name}.{start + 1}", x, stride) if stride > 1 else x
        return self._activated(f"{name}.{start + 2}", x, activation)

    def _pointwise(self, name: str, start: int, x: Value, channels: int, out: int, activation: str) -> Value:
        """Add a 1 x 1 convolution, normalisation and activation ("" for none)."""
        x = self._norm(f"{name}.{start + 1}", self._conv(f"{name}.{start}", x, channels, out, 1), out, epsilon=_EPSILON)
        return self._activated(f"{name}.{start + 1}", x, activation)

    def _activated(self, name: str, x: Value, activation: str) -> Value:
        if activation == "Clip":
            return self._node("Clip", f"{name}.clip", [x, self._number("zero", 0), self._number("six", 6)])
        return self._node(activation, f"{name}.activation", [x]) if activation else x

    def _conv(self, name: str, x: Value, channels: int, out: int, kernel: int, group: int = 1) -> Value:
        weight = self._tensor(f"{name}.weight", (out, channels // group, kernel, kernel), 1.0)
        attributes = {"group": group, "kernel_shape": [kernel] * 2, "pads": [(kernel - 1) // 2] * 4}
        return self._node("Conv", name, [x, weight], attributes)

    def _pool(self, name: str, x: Value, size: int) -> Value:
        return self._node("AveragePool", name, [x], {"kernel_shape": [size] * 2, "strides": [size] * 2})

    # -- heads --------------------------------------------------------------------------

    def _heads(
        self, x: Value, channels: int, classes: int, segments: bool
    ) -> list[tuple[Value, tuple[str | int, ...]]]:
        x = self._node("ReduceMean", "mean_mel", [x], {"axes": [3], "keepdims": 0})
        if segments:
            return self._segment_heads(x, channels, classes)
        peak = self._node("ReduceMax", "max_time", [x], {"axes": [2], "keepdims": 0})
        mean = self._node("ReduceMean", "mean_time", [x], {"axes": [2], "keepdims": 0})
        x = self._node("Add", "pooled", [peak, mean])
        x = self._linear("fc1", x, channels, self.embedding, 1.0)
        embedding = self._node("Relu", "fc1.relu", [x], output="embedding")
        x = self._linear("fc_audioset", embedding, self.embedding, classes, 1.0)
        scores = self._node("Sigmoid", "sigmoid", [x], output="clipwise_output")
        return [(scores, ("batch", classes)), (embedding, ("batch", self.embedding))]

    def _segment_heads(self, x: Value, channels: int, classes: int) -> list[tuple[Value, tuple[str | int, ...]]]:
        """Classify each segment, after the sum of maximum and mean over it and its neighbours."""
        around = {"kernel_shape": [3], "pads": [1, 1], "strides": [1]}
        peak = self._node("MaxPool", "max_segments", [x], around)
        mean = self._node("AveragePool", "mean_segments", [x], around | {"count_include_pad": 1})
        x = self._node("Transpose", "segments", [self._node("Add", "pooled", [peak, mean])], {"perm": [0, 2, 1]})
        x = self._node("Relu", "fc1.relu", [self._each("fc1", x, channels, self.embedding)])
        embedding = self._node("ReduceMean", "mean_embedding", [x], {"axes": [1], "keepdims": 0}, output="embedding")
        x = self._each("fc_audioset", x, self.embedding, classes)
        segments = self._node("Sigmoid", "sigmoid", [x], output="segmentwise_output")
        scores = self._node("ReduceMax", "max", [segments], {"axes": [1], "keepdims": 0}, output="clipwise_output")
        return [
            (scores, ("batch", classes)),
            (segments, ("batch", "segments", classes)),
            (embedding, ("batch", self.embedding)),
        ]


def _architecture(state: Mapping[str, Array]) -> tuple[str, int]:
    """Return the network that has these tensors, and its number of channels before the head. Raises ModelError."""

    def has(name: str) -> bool:
        return f"{name}.weight" in state

    if has("features.0.0"):
        return ("MobileNetV2", 1280) if has("features.1.conv.0") else ("MobileNetV1", 1024)
    if has("conv_block6.conv2"):
        return "Cnn14", _CNN14[-1]
    if has("conv_block4.conv1"):
        return ("Cnn10" if has("conv_block4.conv2") else "Cnn6"), _CNN14[3]
    raise ModelError("not a network of PANNs that is known: Cnn6, Cnn10, Cnn14, MobileNetV1 and MobileNetV2 are")
