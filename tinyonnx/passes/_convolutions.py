"""Properties of convolutions, fused or not, that several passes check."""

from __future__ import annotations

from typing import Any

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import constant
from tinyonnx.registry import FUSED


def is_convolution(node: Node | None) -> bool:
    """Return whether a node is a Conv or FusedConv."""
    return node is not None and node.op_type in ("Conv", "FusedConv") and node.domain in ("", FUSED)


def weights_of(node: Node) -> list[Value | None]:
    """Return weights and bias; None for an absent bias."""
    return [*node.inputs, None][1:3]


def residual_of(node: Node) -> Value | None:
    """Return the value that a FusedConv adds before its activation, or None."""
    return node.inputs[3] if len(node.inputs) > 3 else None


def activation_of(node: Node) -> dict[str, Any]:
    """Return the attributes of the activation that a fused node applies to its result."""
    return {name: value for name, value in node.attributes.items() if name.startswith("activation")}


def geometry_of(node: Node) -> dict[str, Any]:
    """Return the geometry attributes: all but those of the activation."""
    return {name: value for name, value in node.attributes.items() if not name.startswith("activation")}


def is_depthwise(node: Node | None) -> bool:
    """Return whether a node is a convolution with one constant filter per channel; no residual, no negative pads."""
    if node is None or not is_convolution(node) or residual_of(node) is not None:
        return False
    w, group = constant(node.inputs[1]), node.attributes.get("group", 1)
    has_negative_pads = any(pad < 0 for pad in node.attributes.get("pads") or ())
    return w is not None and w.ndim > 2 and w.shape[1] == 1 and group == w.shape[0] and not has_negative_pads


def is_pointwise(node: Node | None) -> bool:
    """Return whether a node is a 1×1 convolution with constant weights that maps each pixel to the one in its place.

    False as well if the shape of its input or output is unknown.
    """
    if node is None or not is_convolution(node):
        return False
    x = node.inputs[0]
    if x is None or x.static_shape is None or node.output.static_shape is None:
        return False
    w, attributes = constant(node.inputs[1]), node.attributes
    if w is None or any(n != 1 for n in w.shape[2:]) or attributes.get("group", 1) != 1:
        return False
    return not any(attributes.get("pads") or ()) and all(n == 1 for n in attributes.get("strides") or ())
