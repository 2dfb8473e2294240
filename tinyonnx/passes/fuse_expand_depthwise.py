"""A 1×1 convolution read by a depthwise one alone: both in one step, and the wide image never exists."""

from __future__ import annotations

from typing import Any

from tinyonnx.ir import Node
from tinyonnx.passes._rewrite import Rewrite, constant, reader, why_not_private
from tinyonnx.registry import FUSED

_ACTIVATION = ("activation", "activation_alpha", "activation_beta")


def fuse_expand_depthwise(rewrite: Rewrite) -> None:
    """Apply the rewrite to every depthwise convolution that widens nothing and is fed by a 1×1 one."""
    for second in [n for n in rewrite.graph.nodes if _is_conv(n)]:
        first = second.inputs[0].producer if second.inputs[0] is not None else None
        if first is None or not _is_depthwise(second) or not _is_pointwise(first):
            continue
        if reader(first.output) is not second:
            rewrite.refused(second, f"not fused with {first.label}: {why_not_private(first.output)}")
            continue
        attributes = {k: v for k, v in second.attributes.items() if k != "group"}
        attributes |= {f"expand_{k}": v for k, v in first.attributes.items() if k in _ACTIVATION}
        inputs = [*_three(first), *_three(second)[1:]]
        fused = rewrite.fuse(second, [first], "ExpandDepthwise", inputs, attributes)
        rewrite.applied(fused, f"takes in the 1×1 convolution {first.label}")


def _three(node: Node) -> list[Any]:
    return [*node.inputs, None][:3]


def _is_conv(node: Node | None) -> bool:
    return node is not None and node.op_type in ("Conv", "FusedConv") and node.domain in ("", FUSED)


def _has_residual(node: Node) -> bool:
    return len(node.inputs) > 3 and node.inputs[3] is not None


def _is_depthwise(node: Node) -> bool:
    w, group = constant(node.inputs[1]), node.attributes.get("group", 1)
    if w is None or w.shape[1] != 1 or group != w.shape[0] or _has_residual(node):
        return False
    return all(pad >= 0 for pad in node.attributes.get("pads") or ())


def _is_pointwise(node: Node) -> bool:
    if not _is_conv(node) or _has_residual(node):
        return False
    w, a = constant(node.inputs[1]), node.attributes
    if w is None or a.get("group", 1) != 1 or any(n != 1 for n in (*w.shape[2:], *(a.get("strides") or ()))):
        return False
    x, y = node.inputs[0], node.output
    return (
        x is not None
        and x.static_shape is not None
        and y.static_shape is not None
        and (x.static_shape[2:] == y.static_shape[2:] and not any(a.get("pads") or ()))
    )
