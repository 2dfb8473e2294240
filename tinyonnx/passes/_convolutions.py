"""What the passes ask of convolutions, fused or not."""

from __future__ import annotations

from typing import Any

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import constant
from tinyonnx.registry import FUSED


def is_convolution(node: Node | None) -> bool:
    """Conv or FusedConv."""
    return node is not None and node.op_type in ("Conv", "FusedConv") and node.domain in ("", FUSED)


def weights_of(node: Node) -> list[Value | None]:
    """Weights and bias."""
    return [*node.inputs, None][1:3]


def has_residual(node: Node) -> bool:
    """Whether something is added before the activation."""
    return len(node.inputs) > 3 and node.inputs[3] is not None


def activation_of(node: Node) -> dict[str, Any]:
    """The attributes that say what is applied to the result."""
    return {k: v for k, v in node.attributes.items() if k.startswith("activation")}


def is_depthwise(node: Node) -> bool:
    """A convolution with one constant filter for each channel, no residual and no negative pads."""
    if not is_convolution(node) or has_residual(node):
        return False
    w, group = constant(node.inputs[1]), node.attributes.get("group", 1)
    return w is not None and w.ndim > 2 and w.shape[1] == 1 and group == w.shape[0] and not _has_negative_pads(node)


def is_pointwise(node: Node | None) -> bool:
    """A 1×1 convolution with constant filters that maps every pixel to one of the same place."""
    if node is None or not is_convolution(node):
        return False
    w, a = constant(node.inputs[1]), node.attributes
    if (
        w is None
        or w.ndim < 3
        or a.get("group", 1) != 1
        or any(n != 1 for n in (*w.shape[2:], *(a.get("strides") or ())))
    ):
        return False
    x, y = node.inputs[0], node.output
    if x is None or x.static_shape is None or y.static_shape is None:
        return False
    return x.static_shape[2:] == y.static_shape[2:] and not any(a.get("pads") or ())


def _has_negative_pads(node: Node) -> bool:
    return any(pad < 0 for pad in node.attributes.get("pads") or ())
