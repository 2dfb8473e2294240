"""Fuse attention: softmax(scale · q · kᵀ + bias) · v, with the Transpose of each operand and of the result.

The scale may be a factor or divisor of the scores, or a factor of queries and of keys. A mask, Where(m, s, -∞) or with
a very low number, is a bias: Where(m, 0, -∞).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import (
    Rewrite,
    aligns_by_axis,
    producer,
    scalar,
    sole_reader,
    why_no_sole_reader,
)
from tinyonnx.sizes.integers import broadcast_shapes

Order = list[int]

_HIDDEN = -1e30
"""Numbers below this one mask a score that they are added to: the sum is the number itself, rounded."""

_FLOAT32 = np.dtype(np.float32)


@dataclass
class _Operand:
    """A tensor, the order in which its axes are read, the factor of its elements, and the nodes that are fused."""

    value: Value
    perm: Order
    scale: float = 1.0
    nodes: list[Node] = field(default_factory=list)


class _Mask(NamedTuple):
    """A Where: its condition, the scores, the number in their place, and whether that is where the condition holds."""

    node: Node
    condition: Value
    scores: Value
    hidden: float
    where_true: bool


class _Scores(NamedTuple):
    """The product whose result is scaled, biased and masked before the Softmax, and the nodes that do so."""

    matmul: Node
    scale: float
    bias: Value | None
    add: Node | None
    mask: _Mask | None
    nodes: list[Node]


def fuse_attention(rewrite: Rewrite) -> None:
    """Fuse every MatMul, Softmax, MatMul."""
    for product in [n for n in rewrite.graph.nodes if n.op_type == "MatMul" and not n.domain]:
        softmax = _before(product.inputs[0], "Softmax")
        if softmax is None:
            continue
        reason = _fuse(rewrite, product, softmax)
        if reason:
            rewrite.refused(product, f"no attention: {reason}")


def _before(value: Value | None, *op_types: str) -> Node | None:
    node = producer(value)
    return node if node is not None and not node.domain and node.op_type in op_types else None


def _fuse(rewrite: Rewrite, product: Node, softmax: Node) -> str | None:
    """Fuse the nodes around a product of weights and values, or return the reason why not."""
    weights = softmax.output
    reason = _why_no_weights(softmax, product)
    if reason:
        return reason
    scores = _scores(softmax)
    if scores is None:
        return "the scores are not a product"
    operands = [
        _operand(scores.matmul.inputs[0], scores.matmul),
        _operand(scores.matmul.inputs[1], scores.matmul),
        _operand(product.inputs[1], product),
    ]
    reason = (
        _why_no_scores(scores, weights)
        or _why_not(operands, scores.bias, weights, product)
        or _why_no_mask(scores.mask, weights)
    )
    if reason:
        return reason
    bias = scores.bias if scores.mask is None else _biased(rewrite, scores.mask, scores.bias)
    q, k, v = (x for x in operands if x is not None)
    k.perm[-2:] = k.perm[:-3:-1]
    last, out_perm = _result(product)
    attributes = {"scale": scores.scale * q.scale * k.scale, "q_perm": q.perm, "k_perm": k.perm}
    attributes |= {"v_perm": v.perm} | ({} if out_perm is None else {"out_perm": out_perm})
    places = {id(node): i for i, node in enumerate(rewrite.graph.nodes)}
    nodes = (softmax, product, *scores.nodes, *q.nodes, *k.nodes, *v.nodes)
    inner = {id(n): n for n in nodes if n is not last}
    others = sorted(inner.values(), key=lambda n: places[id(n)])
    fused = rewrite.fuse(last, others, "FusedAttention", [q.value, k.value, v.value, bias], attributes)
    rewrite.applied(fused, f"attention of {len(others) + 1} operators around {softmax.label}")
    return None


def _scores(softmax: Node) -> _Scores | None:
    """Match a product, perhaps multiplied by a number, then the Add of a bias, then the Where of a mask."""
    value, reader = softmax.inputs[0], softmax
    nodes, bias, add = [], None, None
    mask = _mask(value)
    if mask is not None and sole_reader(mask.node.output) is softmax:
        value, reader = mask.scores, mask.node
        nodes.append(mask.node)
    else:
        mask = None
    total = _before(value, "Add")
    if total is not None and sole_reader(total.output) is reader:
        found = next(((s, b) for s, b in (total.inputs[:2], total.inputs[1::-1]) if _scaled(s) is not None), None)
        if found is not None:
            value, bias = found
            reader = add = total
            nodes.append(total)
    scaled = _scaled(value)
    if scaled is None or value is None or sole_reader(value) is not reader:
        return None
    matmul, scale, between = scaled
    return _Scores(matmul, scale, bias, add, mask, [*nodes, *between, matmul])


def _result(product: Node) -> tuple[Node, Order | None]:
    """Return the node that gives the result, the product or a Transpose after it, and the order of the latter."""
    turn = sole_reader(product.output)
    if turn is not None and turn.op_type == "Transpose" and not turn.domain:
        order = [int(axis) for axis in turn.attributes.get("perm") or []]
        if order[-1:] == [len(product.output.static_shape or ()) - 1]:
            return turn, order
    return product, None


def _mask(value: Value | None) -> _Mask | None:
    """Return the Where that computes a value and masks scores with numbers so low that adding them masks as well."""
    node = _before(value, "Where")
    if node is None or len(node.inputs) != 3:
        return None
    condition, *both = node.inputs
    for i, (number, scores) in enumerate((both, both[::-1])):
        hidden = scalar(number)
        if condition is not None and scores is not None and hidden is not None and hidden <= _HIDDEN:
            return _Mask(node, condition, scores, hidden, i == 0)
    return None


def _why_no_mask(mask: _Mask | None, weights: Value) -> str | None:
    if mask is None:
        return None
    condition, scores = mask.condition, weights.static_shape or ()
    shape = condition.static_shape
    if condition.dtype != np.bool_ or shape is None or not 0 < len(shape) <= len(scores) or shape[-1] != scores[-1]:
        return "the shape of the mask is not known, or the same for all keys"
    return None


def _biased(rewrite: Rewrite, mask: _Mask, bias: Value | None) -> Value:
    """Add a node that computes the bias for a mask and for another bias before the mask; return its result.

    Masked scores get the mask's number alone, so that a row whose scores are all masked has equal weights.
    """
    at, label = rewrite.graph.position(mask.node), mask.node.label
    hidden = Value(f"{label}:hidden", _FLOAT32, (), np.array(mask.hidden, np.float32))
    shown = Value(f"{label}:shown", _FLOAT32, (), np.array(0, np.float32)) if bias is None else bias
    result = Value(
        f"{label}:bias", _FLOAT32, broadcast_shapes(mask.condition.static_shape or (), shown.static_shape or ())
    )
    choices = [hidden, shown] if mask.where_true else [shown, hidden]
    choose = Node(
        "Where", [mask.condition, *choices], [result], opset=16, name=result.name, index=mask.node.index,
        origin=mask.node.origin,
    )  # fmt: skip
    rewrite.graph.add_node(choose, at)
    return result


def _scaled(value: Value | None) -> tuple[Node, float, list[Node]] | None:
    """Return the MatMul that computes a value, the constant factor after it, and the node that applies that."""
    matmul = _before(value, "MatMul")
    if matmul is not None:
        return matmul, 1.0, []
    node = _before(value, "Mul", "Div")
    if node is None:
        return None
    for x, number in (node.inputs[:2], node.inputs[1::-1])[: 2 if node.op_type == "Mul" else 1]:
        matmul, factor = _before(x, "MatMul"), scalar(number)
        if matmul is not None and factor and sole_reader(matmul.output) is node and _keeps_shape(node, x):
            return matmul, factor if node.op_type == "Mul" else 1 / factor, [node]
    return None


def _keeps_shape(node: Node, x: Value | None) -> bool:
    return x is not None and x.static_shape is not None and x.static_shape == node.output.static_shape


def _operand(value: Value | None, reader: Node) -> _Operand | None:
    """Return an operand with the nodes to fuse before `reader`: a Transpose and a constant factor, in any order."""
    if value is None or value.static_shape is None:
        return None
    found = _Operand(value, list(range(len(value.static_shape))))
    while sole_reader(found.value) is reader and (node := found.value.producer) is not None and not node.domain:
        if node.op_type == "Transpose" and node.inputs[0] is not None:
            perm = [int(axis) for axis in node.attributes.get("perm") or range(len(found.perm))[::-1]]
            found.perm = [perm[axis] for axis in found.perm]
            found.value = node.inputs[0]
        elif node.op_type in ("Mul", "Div"):
            x, factor = _factor(node)
            if x is None:
                break
            found.scale *= factor
            found.value = x
        else:
            break
        found.nodes.append(node)
        reader = node
    return found


def _factor(node: Node) -> tuple[Value | None, float]:
    """Return the variable operand and the constant number that it is multiplied by."""
    for x, number in (node.inputs[:2], node.inputs[1::-1])[: 2 if node.op_type == "Mul" else 1]:
        factor = scalar(number)
        if factor and _keeps_shape(node, x):
            return x, factor if node.op_type == "Mul" else 1 / factor
    return None, 1.0


def _why_no_weights(softmax: Node, product: Node) -> str | None:
    weights = softmax.output
    rank = len(weights.static_shape or ())
    if not 2 <= rank <= 4 or weights.dtype != np.float32:
        return "not a product of float32 of two to four known axes"
    if softmax.attributes.get("axis", -1 if softmax.opset >= 13 else 1) not in (-1, rank - 1):
        return "not over the last axis"
    return None if sole_reader(weights) is product else why_no_sole_reader(weights)


def _why_no_scores(scores: _Scores, weights: Value) -> str | None:
    if scores.matmul.output.static_shape != weights.static_shape:
        return "the bias broadcasts the scores"
    if scores.add is not None and aligns_by_axis(scores.add):
        return f"opset {scores.add.opset} has other broadcasting rules"
    return None


def _why_not(operands: list[_Operand | None], bias: Value | None, weights: Value, product: Node) -> str | None:
    if any(x is None or x.value.is_constant for x in operands):
        return "an operand is constant, or its shape is not known"
    shape, rank = weights.static_shape, len(weights.static_shape or ())
    if any(x is not None and len(x.perm) != rank for x in operands) or len(product.output.static_shape or ()) != rank:
        return "operands differ in rank"
    if any(x is not None and x.value.dtype != np.float32 for x in operands):
        return "operands are not float32"
    if operands[0] is not None and operands[0].perm[-1] != rank - 1:
        return "the elements of a query are not contiguous"
    scales = [x.scale for x in operands if x is not None]
    if scales[2] != 1:
        return "the values have a factor"
    if bias is not None and (bias.static_shape is None or len(bias.static_shape) > rank or bias.dtype != np.float32):
        return "the shape of the bias is not known, or raises the rank"
    if bias is not None and (bias.static_shape or (1,))[-1] != (shape or (1,))[-1]:
        return "the bias is the same for all keys"
    return None
