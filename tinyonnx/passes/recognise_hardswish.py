"""Replace spelled-out HardSwish by the operator.

HardSwish(x) = x · HardSigmoid(x; α=1/6, β=1/2) = x · Clip(x + 3, 0, 6) / 6. The division may come before or after the
product and may be a multiplication by 1/6.
"""

from __future__ import annotations

import math

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, producer, scalar, sole_reader, why_no_sole_reader


def recognise_hardswish(rewrite: Rewrite) -> None:
    """Replace every pattern that ends in a Mul or Div."""
    for node in list(rewrite.graph.nodes):
        if node.domain or node.op_type not in ("Mul", "Div"):
            continue
        found = _match(node)
        if found is None:
            continue
        x, inner = found
        reason = _why_not(x, node)
        if reason:
            rewrite.refused(node, reason)
            continue
        shared = next((n for n in inner if sole_reader(n.output) is None), None)
        if shared is not None:
            rewrite.refused(node, f"{shared.label}: {why_no_sole_reader(shared.output)}")
            continue
        spelling = " · ".join(n.op_type for n in (*inner, node))
        fused = rewrite.fuse(node, inner, "HardSwish", [x], {}, domain="", opset=14)
        rewrite.applied(fused, f"{spelling} is HardSwish")


def _why_not(x: Value, node: Node) -> str | None:
    if x.dtype is None or x.dtype.kind in "iu":
        return "its input has integers"
    if x.static_shape is None or x.static_shape != node.output.static_shape:
        return "its input's shape is not known, or a constant broadcasts it"
    return None


def _match(node: Node) -> tuple[Value, list[Node]] | None:
    """Return x and the nodes before `node`, in execution order, if `node` computes HardSwish(x)."""
    whole = _over_six(node)
    if whole is not None:  # (x · relu6(x + 3)) / 6
        product = producer(whole)
        if product is not None and product.op_type == "Mul" and not product.domain:
            for x, gate in _orders(product):
                inner = _relu6(gate, x)
                if inner is not None:
                    return x, [*inner, product]
    if node.op_type == "Mul":  # x · gate
        for x, gate in _orders(node):
            inner = _hard_sigmoid(gate, x)
            if inner is not None:
                return x, inner
    if node.op_type == "Mul":  # (x / 6) · relu6(x + 3)
        for part, gate in _orders(node):
            x_over_six = part.producer
            if x_over_six is None or (scaled := _over_six(x_over_six)) is None:
                continue
            inner = _relu6(gate, scaled)
            if inner is not None:
                return scaled, [*inner, x_over_six]
    return None


def _orders(node: Node) -> list[tuple[Value, Value]]:
    """Return the two operands of a commutative node in both orders."""
    a, b = node.inputs
    return [(a, b), (b, a)] if a is not None and b is not None else []


def _over_six(node: Node) -> Value | None:
    """Return the dividend if the node divides by six, else None."""
    if node.domain or node.op_type not in ("Mul", "Div"):
        return None
    a, b = node.inputs
    if node.op_type == "Div" and scalar(b) == 6:
        return a
    if node.op_type == "Mul":
        for value, factor in ((a, b), (b, a)):
            number = scalar(factor)
            if number is not None and math.isclose(number, 1 / 6, rel_tol=1e-6):
                return value
    return None


def _hard_sigmoid(gate: Value, x: Value) -> list[Node] | None:
    """Return the nodes that compute gate = HardSigmoid(x), spelled so or as Clip(x + 3, 0, 6) / 6, else None."""
    node = gate.producer
    if node is None or node.domain:
        return None
    if node.op_type == "HardSigmoid":
        alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        is_gate = math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5
        return [node] if is_gate and node.inputs[0] is x else None
    dividend = _over_six(node)
    inner = _relu6(dividend, x) if dividend is not None else None
    return [*inner, node] if inner is not None else None


def _relu6(gate: Value, x: Value) -> list[Node] | None:
    """Return the nodes that compute gate = Clip(x + 3, 0, 6), else None."""
    clip = gate.producer
    if clip is None or clip.domain or clip.op_type != "Clip" or clip.inputs[0] is None or clip_range(clip) != (0, 6):
        return None
    add = clip.inputs[0].producer
    if add is None or add.domain or add.op_type != "Add":
        return None
    a, b = add.inputs
    plus_three = (a is x and scalar(b) == 3) or (b is x and scalar(a) == 3)
    return [add, clip] if plus_three else None


def clip_range(node: Node) -> tuple[float, float] | None:
    """Return the bounds of a Clip node, attributes or inputs; None if one is variable, NaN or of another dtype.

    A missing bound is infinite.
    """
    low, high = -math.inf, math.inf
    if node.opset < 11:
        return float(node.attributes.get("min", low)), float(node.attributes.get("max", high))
    bounds = [*node.inputs[1:3], None, None][:2]
    x = node.inputs[0]
    if x is None or any(v is not None and v.dtype != x.dtype for v in bounds):
        return None
    numbers = [scalar(v) for v in bounds]
    if any(v is not None and n is None for v, n in zip(bounds, numbers, strict=True)):
        return None
    low, high = (limit if number is None else number for limit, number in zip((low, high), numbers, strict=True))
    return None if math.isnan(low) or math.isnan(high) else (low, high)
