"""Swish, or SiLU, spelled out: x · Sigmoid(x) becomes Swish(x), x · Sigmoid(α·x) becomes Swish(x; α)."""

from __future__ import annotations

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, reader, scalar, why_not_private


def recognise_swish(rewrite: Rewrite) -> None:
    """Apply the rewrite to every Mul that ends such a pattern."""
    for node in [n for n in rewrite.graph.nodes if n.op_type == "Mul" and not n.domain and len(n.inputs) == 2]:
        a, b = node.inputs
        for x, gate in ((a, b), (b, a)):
            found = _match(x, gate)
            if x is None or found is None:
                continue
            alpha, inner = found
            if x.dtype is None or x.dtype.kind != "f":
                rewrite.refused(node, "its input is not of floats")
                break
            shared = next((n for n in inner if reader(n.output) is None), None)
            if shared is not None:
                rewrite.refused(node, f"{shared.label}: {why_not_private(shared.output)}")
                break
            fused = rewrite.fuse(node, inner, "Swish", [x], {"alpha": alpha}, domain="", opset=24)
            rewrite.applied(fused, f"{' · '.join(n.op_type for n in (*inner, node))} is Swish")
            break


def _match(x: Value | None, gate: Value | None) -> tuple[float, list[Node]] | None:
    """α and the inner nodes, in order, if `gate` is Sigmoid(α·x)."""
    sigmoid = None if gate is None else gate.producer
    if x is None or sigmoid is None or sigmoid.domain or sigmoid.op_type != "Sigmoid":
        return None
    inside = sigmoid.inputs[0]
    if inside is x:
        return 1.0, [sigmoid]
    scaled = None if inside is None else inside.producer
    if scaled is None or scaled.domain or scaled.op_type != "Mul" or scaled.output.static_shape != x.static_shape:
        return None
    for value, factor in (scaled.inputs[:2], scaled.inputs[1::-1]):
        alpha = scalar(factor)
        if value is x and alpha is not None and x.static_shape is not None:
            return alpha, [scaled, sigmoid]
    return None
