"""Replace spelled-out LayerNormalization by the operator.

With m = ReduceMean(x), c = x - m, v = ReduceMean(c²), d = √(v + ε): c / d · scale + shift, where c² is a Pow or a
product and 1/d a Reciprocal; or x · f + (shift - m · f) with f = scale / d.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import (
    Rewrite,
    aligns_by_axis,
    axes_of,
    producer,
    scalar,
    sole_reader,
    why_no_sole_reader,
)


class _Deviation(NamedTuple):
    """√(variance of x over the last axes + ε): the nodes that compute it, the mean and the differences from it."""

    x: Value
    mean: Value
    differences: list[Value]
    epsilon: float
    axes: int
    nodes: list[Node]


def recognise_layer_norm(rewrite: Rewrite) -> None:
    """Replace every pattern around a Sqrt."""
    for root in [n for n in rewrite.graph.nodes if n.op_type == "Sqrt" and not n.domain]:
        deviation = _deviation(root)
        if deviation is None:
            continue
        found = _centred(deviation, root) or _expanded(deviation, root)
        if found is None:
            continue
        scale, shift, nodes = found
        last = nodes[-1]
        order = {id(node): i for i, node in enumerate(rewrite.graph.nodes)}
        inner = {id(n): n for n in (*deviation.nodes, *nodes[:-1])}
        reason = _why_not(deviation, scale, shift, inner, last)
        if reason:
            rewrite.refused(last, reason)
            continue
        attributes = {"axis": -deviation.axes, "epsilon": deviation.epsilon}
        others = sorted(inner.values(), key=lambda n: order[id(n)])
        inputs = [deviation.x, scale, shift]
        fused = rewrite.fuse(last, others, "LayerNormalization", inputs, attributes, domain="", opset=17)
        rewrite.applied(fused, f"{len(inner) + 1} operators around {root.label} are LayerNormalization")


def _node(value: Value | None, *op_types: str) -> Node | None:
    node = producer(value)
    return node if node is not None and not node.domain and node.op_type in op_types else None


def _readers(value: Value, op_type: str) -> list[Node]:
    nodes = [user for user, _ in value.uses if isinstance(user, Node)]
    return [node for node in nodes if node.op_type == op_type and not node.domain]


def _pairs(node: Node) -> list[tuple[Value, Value]]:
    """Return the operands of a commutative node in both orders."""
    a, b = node.inputs[:2]
    return [(a, b), (b, a)] if a is not None and b is not None else []


def _last_axes(node: Node) -> int:
    """Return how many last axes a ReduceMean that keeps them reduces; 0 if it reduces others."""
    shape = node.inputs[0].static_shape if node.inputs[0] is not None else None
    axes = axes_of(node)
    if shape is None or not axes or not node.attributes.get("keepdims", 1):
        return 0
    chosen = {a % len(shape) for a in axes}
    return len(chosen) if chosen == set(range(len(shape) - len(chosen), len(shape))) else 0


def _deviation(root: Node) -> _Deviation | None:
    add = _node(root.inputs[0], "Add")
    for variance, small in _pairs(add) if add is not None else []:
        epsilon, average = scalar(small), _node(variance, "ReduceMean")
        square = _node(average.inputs[0], "Pow", "Mul") if average is not None else None
        if epsilon is None or average is None or square is None or add is None:
            continue
        difference, other = square.inputs[:2]
        squares = scalar(other) == 2 if square.op_type == "Pow" else other is difference
        centre = _node(difference, "Sub")
        axes = _last_axes(average)
        if not squares or centre is None or difference is None or not axes:
            continue
        x, mean = centre.inputs[:2]
        reduced = _node(mean, "ReduceMean")
        if x is None or mean is None or reduced is None or reduced.inputs[0] is not x or _last_axes(reduced) != axes:
            continue
        subs = [n for n in _readers(x, "Sub") if n.inputs[0] is x and n.inputs[1] is mean]
        nodes = [reduced, *subs, square, average, add, root]
        return _Deviation(x, mean, [n.output for n in subs], epsilon, axes, nodes)
    return None


def _inverse(root: Node) -> Node | None:
    """Return the node that computes 1/d."""
    node = sole_reader(root.output)
    if node is None or node.domain:
        return None
    if node.op_type == "Reciprocal" or (node.op_type == "Div" and scalar(node.inputs[0]) == 1):
        return node
    return None


def _constant_operand(node: Node | None, op_type: str, value: Value) -> Value | None:
    """Return the constant that a node of this type adds to a value, or multiplies it by."""
    if node is None or node.domain or node.op_type != op_type or aligns_by_axis(node):
        return None
    return next((b for a, b in _pairs(node) if a is value and b.const is not None), None)


def _centred(deviation: _Deviation, root: Node) -> tuple[Value, Value | None, list[Node]] | None:
    """Return scale, shift and the nodes of (c / d) · scale + shift."""
    inverse = _inverse(root)
    node = sole_reader(root.output if inverse is None else inverse.output)
    if node is None or node.domain or node.op_type != ("Div" if inverse is None else "Mul"):
        return None
    if not any(v in deviation.differences for v in node.inputs) or (
        inverse is None and node.inputs[1] is not root.output
    ):
        return None
    nodes = [node] if inverse is None else [inverse, node]
    scaling = sole_reader(node.output)
    scale = _constant_operand(scaling, "Mul", node.output)
    if scaling is None or scale is None:
        return None
    shifting = sole_reader(scaling.output)
    shift = _constant_operand(shifting, "Add", scaling.output)
    return scale, shift, [*nodes, scaling] if shifting is None or shift is None else [*nodes, scaling, shifting]


def _expanded(deviation: _Deviation, root: Node) -> tuple[Value, Value | None, list[Node]] | None:
    """Return scale, shift and the nodes of x · f + (shift - m · f)."""
    inverse = _inverse(root)
    factor = sole_reader(inverse.output) if inverse is not None else None
    if inverse is None or factor is None or factor.op_type != "Mul" or factor.domain or len(factor.output.uses) != 2:
        return None
    scale = _constant_operand(factor, "Mul", inverse.output)
    products = {id(_other(n, factor.output)): n for n in _readers(factor.output, "Mul")}
    large, small = products.get(id(deviation.x)), products.get(id(deviation.mean))
    sub = sole_reader(small.output) if small is not None else None
    add = sole_reader(large.output) if large is not None else None
    if scale is None or large is None or small is None or sub is None or add is None:
        return None
    if sub.op_type != "Sub" or sub.domain or sub.inputs[1] is not small.output or sub.inputs[0] is None:
        return None
    if add.op_type != "Add" or add.domain or _other(add, large.output) is not sub.output:
        return None
    shift = sub.inputs[0]
    return (scale, shift, [inverse, factor, large, small, sub, add]) if shift.const is not None else None


def _other(node: Node, value: Value) -> Value | None:
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _why_not(
    deviation: _Deviation, scale: Value, shift: Value | None, inner: dict[int, Node], last: Node
) -> str | None:
    x = deviation.x
    if x.dtype != np.float32:
        return f"its input is {x.dtype}, whose roundings would differ"
    if x.static_shape != last.output.static_shape:
        return "a constant of higher rank broadcasts its input"
    normal = x.static_shape[-deviation.axes :] if x.static_shape is not None else ()
    for parameter in (scale.const, None if shift is None else shift.const):
        if parameter is not None and not _fits(parameter, normal):
            return f"scale or shift of shape {list(parameter.shape)} don't fit the normalised axes {list(normal)}"
    for node in inner.values():
        if any(
            not isinstance(user, Node) or (id(user) not in inner and user is not last) for user, _ in node.output.uses
        ):
            return f"{node.label}: {why_no_sole_reader(node.output)}"
    return None


def _fits(parameter: Array, normal: tuple[int, ...]) -> bool:
    if parameter.dtype != np.float32 or parameter.ndim > len(normal):
        return False
    return all(size in (1, full) for size, full in zip(parameter.shape[::-1], normal[::-1]))
