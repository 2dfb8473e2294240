"""Conv or Gemm followed by an activation: act(x ∗ W + b) in one step."""

from __future__ import annotations

from typing import Any

from tinyonnx.ir import Node
from tinyonnx.passes._rewrite import Rewrite, reader, why_not_private
from tinyonnx.passes.recognise_hardswish import clip_range
from tinyonnx.registry import FUSED

_FUSED_NAME = {"Conv": "FusedConv", "Gemm": "FusedGemm", "FusedConv": "FusedConv", "FusedGemm": "FusedGemm"}


def fuse_activation(rewrite: Rewrite) -> None:
    """Apply the rewrite to every activation that reads a convolution or Gemm."""
    for node in list(rewrite.graph.nodes):
        source = node.inputs[0].producer if node.inputs and node.inputs[0] is not None else None
        if node.domain or source is None or source.op_type not in _FUSED_NAME or source.domain not in ("", FUSED):
            continue
        attributes = _activation(node)
        if attributes is None:
            continue
        if source.output.dtype is not None and source.output.dtype.kind in "iu":
            rewrite.refused(source, f"not fused with {node.label}: it is of integers")
            continue
        if reader(source.output) is not node:
            rewrite.refused(source, f"not fused with {node.label}: {why_not_private(source.output)}")
            continue
        if source.attributes.get("activation"):
            rewrite.refused(source, f"not fused with {node.label}: has {source.attributes['activation']} already")
            continue
        if source.op_type == "Gemm" and source.opset < 7:
            rewrite.refused(source, f"not fused with {node.label}: opset {source.opset} broadcasts otherwise")
            continue
        fused = rewrite.fuse(
            node, [source], _FUSED_NAME[source.op_type], source.inputs, {**source.attributes, **attributes}
        )
        rewrite.applied(fused, f"{node.op_type} in the epilogue of {source.label}")


def _activation(node: Node) -> dict[str, Any] | None:
    """The attributes that express the activation in a fused op; None if it is none that they know."""
    if node.op_type in ("Relu", "HardSwish", "Sigmoid", "Tanh"):
        return {"activation": node.op_type}
    if node.op_type == "LeakyRelu":
        return {"activation": "LeakyRelu", "activation_alpha": node.attributes.get("alpha", 0.01)}
    if node.op_type == "Swish":
        return {"activation": "Swish", "activation_alpha": node.attributes.get("alpha", 1.0)}
    if node.op_type == "HardSigmoid":
        alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        return {"activation": "HardSigmoid", "activation_alpha": alpha, "activation_beta": beta}
    if node.op_type == "Clip" and (bounds := clip_range(node)) is not None:
        return {"activation": "Clip", "activation_alpha": bounds[0], "activation_beta": bounds[1]}
    return None
