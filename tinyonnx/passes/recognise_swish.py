"""Replace spelled-out Swish (SiLU) by the operator: x · Sigmoid(x) = Swish(x), x · Sigmoid(α·x) = Swish(x; α)."""

from __future__ import annotations

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, producer, scalar, sole_reader, why_no_sole_reader


def recognise_swish(rewrite: Rewrite) -> None:
    """Replace every pattern that ends in a Mul."""
    for node in [n for n in rewrite.graph.nodes if n.op_type == "Mul" and not n.domain]:
        a, b = node.inputs
        for x, gate in ((a, b), (b, a)):
            found = _match(x, gate)
            if x is None or found is None:
                continue
            alpha, inner = found
            if x.dtype is None or x.dtype.kind != "f":
                rewrite.refused(node, "its input has no floats")
                break
            shared = next((n for n in inner if sole_reader(n.output) is None), None)
            if shared is not None:
                rewrite.refused(node, f"{shared.label}: {why_no_sole_reader(shared.output)}")
                break
            fused = rewrite.fuse(node, inner, "Swish", [x], {"alpha": alpha}, domain="", opset=24)
            rewrite.applied(fused, f"{' · '.join(n.op_type for n in (*inner, node))} is Swish")
            break


def _match(x: Value | None, gate: Value | None) -> tuple[float, list[Node]] | None:
    """Return α and the nodes that compute `gate`, in execution order, if that is Sigmoid(α·x)."""
    sigmoid = producer(gate)
    if x is None or sigmoid is None or sigmoid.domain or sigmoid.op_type != "Sigmoid":
        return None
    inside = sigmoid.inputs[0]
    if inside is x:
        return 1.0, [sigmoid]
    scaled = producer(inside)
    if scaled is None or scaled.domain or scaled.op_type != "Mul" or scaled.output.static_shape != x.static_shape:
        return None
    for value, factor in (scaled.inputs[:2], scaled.inputs[1::-1]):
        alpha = scalar(factor)
        if value is x and alpha is not None and x.static_shape is not None:
            return alpha, [scaled, sigmoid]
    return None
