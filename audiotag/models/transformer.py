"""CED's audio transformers as ONNX graphs, from a checkpoint.

Input `feats` (batch, 64, time) in decibels, 16 to 1012 frames; outputs `prob` (batch, classes), probabilities, and
`embedding` (batch, channels), the mean over all patches; all float32.

Source: Dinkel et al., CED: Consistent Ensemble Distillation for Audio Tagging, 2023; Dosovitskiy et al., An Image is
Worth 16x16 Words, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from audiotag.errors import ModelError
from audiotag.models.mobilenet import OPSET, GraphBuilder, StateTensors
from tinyonnx import Graph, Value
from tinyonnx.ir import Array

_SIZES = {192: "tiny", 256: "mini", 384: "small", 768: "base"}
_HEAD = 64
"""Channels of an attention head."""

_BLOCKS = 12
_BANDS = 64
_PATCH = 16
_PATCHES = 63
"""Maximum number of patches along time."""

_EPSILON, _OUTER_EPSILON = 1e-6, 1e-5
_FRONT_END = "front_end."


def is_transformer(state: Mapping[str, Array]) -> bool:
    """Return whether a checkpoint is one of these networks."""
    return "time_pos_embed" in state and "patch_embed.proj.weight" in state


def graph_from_transformer_state(state: Mapping[str, Array]) -> Graph:
    """Build the network of a checkpoint; its size and number of classes follow from the tensor shapes.

    Raises ModelError, which names the tensor that is missing, unexpected, or has another shape.
    """
    head = state.get("outputlayer.1.weight")
    if head is None or head.ndim != 2 or head.shape[1] not in _SIZES:
        raise ModelError("not a checkpoint of CED: outputlayer.1.weight is missing or of none of its four sizes")
    classes, width = head.shape
    tensors = StateTensors({k: array for k, array in state.items() if not k.startswith(_FRONT_END)}, "CED")
    graph = _TransformerBuilder(tensors, width, classes).graph
    tensors.check_all_used()
    graph.metadata["custom:trained"] = "yes"
    return graph


class _TransformerBuilder(GraphBuilder):
    """Builds the graph layer by layer."""

    def __init__(self, tensors: StateTensors, width: int, classes: int) -> None:
        name = f"ced_{_SIZES[width]}"
        super().__init__(tensors, Graph(name, {"": OPSET}))
        self.graph.metadata = {"producer_name": "audiotag", "custom:architecture": name}
        self.width = width
        float32 = np.dtype(np.float32)
        feats = self.graph.add_input(Value("feats", float32, ("batch", _BANDS, "time")))
        x = self._patches(feats)
        for index in range(_BLOCKS):
            x = self._block(f"blocks.{index}", x)
        x = self._layer_norm("norm", x, _EPSILON)
        embedding = self._node("ReduceMean", "mean", [x], {"axes": [1], "keepdims": 0}, output="embedding")
        x = self._layer_norm("outputlayer.0", embedding, _OUTER_EPSILON)
        scores = self._node(
            "Sigmoid", "sigmoid", [self._linear("outputlayer.1", x, width, classes, 1.0)], output="prob"
        )
        for value, size in ((scores, classes), (embedding, width)):
            value.dtype, value.shape = float32, ("batch", size)
            self.graph.add_output(value)

    def _patches(self, x: Value) -> Value:
        """Embed patches of 16 x 16 with their positions: (batch, patches, channels)."""
        x = self._scaled("init_bn.1", x, (_BANDS, 1), _OUTER_EPSILON)
        x = self._node("Unsqueeze", "image", [x, self._numbers("axis_1", [1])])
        weight = self._tensor("patch_embed.proj.weight", (self.width, 1, _PATCH, _PATCH), 1.0)
        bias = self._tensor("patch_embed.proj.bias", (self.width,), 0.0)
        attributes = {"kernel_shape": [_PATCH] * 2, "strides": [_PATCH] * 2}
        x = self._node("Conv", "patch_embed.proj", [x, weight, bias], attributes)
        size = self._node("Shape", "patch_embed.size", [x], {"start": 3, "end": 4})
        times = self._tensor("time_pos_embed", (1, self.width, 1, _PATCHES), 1.0)
        bounds = [self._numbers("axis_0", [0]), size, self._numbers("axis_3", [3])]
        x = self._node("Add", "time_pos_embed.sum", [x, self._node("Slice", "time_pos_embed.part", [times, *bounds])])
        bands = self._tensor("freq_pos_embed", (1, self.width, _BANDS // _PATCH, 1), 1.0)
        x = self._node("Add", "freq_pos_embed.sum", [x, bands])
        x = self._node("Reshape", "patches.flat", [x, self._numbers("patches.shape", [0, self.width, -1])])
        return self._node("Transpose", "patches", [x], {"perm": [0, 2, 1]})

    def _block(self, name: str, x: Value) -> Value:
        width = self.width
        y = self._attention(f"{name}.attn", self._layer_norm(f"{name}.norm1", x, _EPSILON))
        x = self._node("Add", f"{name}.sum1", [x, y])
        y = self._each(f"{name}.mlp.fc1", self._layer_norm(f"{name}.norm2", x, _EPSILON), width, 4 * width)
        y = self._each(f"{name}.mlp.fc2", self._gelu(f"{name}.mlp.act", y), 4 * width, width)
        return self._node("Add", f"{name}.sum2", [x, y])

    def _attention(self, name: str, x: Value) -> Value:
        heads = self.width // _HEAD
        x = self._each(f"{name}.qkv", x, self.width, 3 * self.width)
        x = self._node("Reshape", f"{name}.split", [x, self._numbers("qkv.shape", [0, 0, 3, heads, _HEAD])])
        x = self._node("Transpose", f"{name}.heads", [x], {"perm": [2, 0, 3, 1, 4]})
        query, key, value = (
            self._node("Gather", f"{name}.{part}", [x, self._numbers(f"index_{i}", i)], {"axis": 0})
            for i, part in enumerate(("query", "key", "value"))
        )
        key = self._node("Transpose", f"{name}.key.transposed", [key], {"perm": [0, 1, 3, 2]})
        scores = self._node("MatMul", f"{name}.scores", [query, key])
        scores = self._node("Mul", f"{name}.scaled", [scores, self._number("attention_scale", _HEAD**-0.5)])
        weights = self._node("Softmax", f"{name}.weights", [scores], {"axis": -1})
        x = self._node("MatMul", f"{name}.mixed", [weights, value])
        x = self._node("Transpose", f"{name}.joined", [x], {"perm": [0, 2, 1, 3]})
        x = self._node("Reshape", f"{name}.flat", [x, self._numbers("joined.shape", [0, 0, self.width])])
        return self._each(f"{name}.proj", x, self.width, self.width)

    def _gelu(self, name: str, x: Value) -> Value:
        """Add x / 2 · (1 + erf(x / √2))."""
        y = self._node("Div", f"{name}.scaled", [x, self._number("root_2", 2**0.5)])
        y = self._node("Add", f"{name}.raised", [self._node("Erf", f"{name}.erf", [y]), self._number("one", 1)])
        y = self._node("Mul", f"{name}.gated", [x, y])
        return self._node("Mul", f"{name}.halved", [y, self._number("half", 0.5)])

    def _layer_norm(self, name: str, x: Value, epsilon: float) -> Value:
        scale, bias = (self._tensor(f"{name}.{kind}", (self.width,), 1.0) for kind in ("weight", "bias"))
        return self._node("LayerNormalization", name, [x, scale, bias], {"axis": -1, "epsilon": epsilon})
