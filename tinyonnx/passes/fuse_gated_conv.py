"""A product with a gate per channel, read by a 1×1 convolution alone: y = (x · g) ∗ W + b in one step."""

from __future__ import annotations

from tinyonnx.ir import Node, Value
from tinyonnx.passes._convolutions import activation_of, has_residual, is_convolution, is_pointwise, weights_of
from tinyonnx.passes._rewrite import Rewrite, reader, why_not_private


def fuse_gated_conv(rewrite: Rewrite) -> None:
    """Apply the rewrite to every 1×1 convolution that is fed by a Mul with one number per item and channel."""
    for conv in [n for n in rewrite.graph.nodes if is_convolution(n) and is_pointwise(n)]:
        mul = conv.inputs[0].producer if conv.inputs[0] is not None else None
        operands = None if mul is None else _operands(mul)
        if mul is None or operands is None:
            continue
        if reader(mul.output) is not conv:
            rewrite.refused(conv, f"not fused with {mul.label}: {why_not_private(mul.output)}")
            continue
        residual = conv.inputs[3] if has_residual(conv) else None
        inputs = [*operands, *weights_of(conv), residual]
        fused = rewrite.fuse(conv, [mul], "GatedConv", inputs, activation_of(conv))
        rewrite.applied(fused, f"takes in the gate of {mul.label}")


def _operands(mul: Node) -> list[Value | None] | None:
    """The image and the gate of a Mul, or None if it is not such a product."""
    if mul.op_type != "Mul" or mul.domain or mul.opset < 7:
        return None
    for x, gate in (mul.inputs, mul.inputs[::-1]):
        if x is None or gate is None or x.const is not None or gate.const is not None:
            continue
        shape = x.static_shape
        if shape is not None and len(shape) > 2 and gate.static_shape == (*shape[:2], *[1] * (len(shape) - 2)):
            return [x, gate]
    return None
