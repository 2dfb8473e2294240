"""Fold arithmetic with one constant per channel into the convolution before it.

Some exporters write a bias as Add and a scale as Mul. With a constant c per output channel, or one for all channels:
(W ∗ x + b) + c has the bias b + c; (W ∗ x + b)·c has the weights W·c and the bias b·c; Sub and Div likewise. The new
weights are computed in float64 and rounded once.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite, constant, producer, sole_reader, why_no_sole_reader
from tinyonnx.passes.fold_batchnorm import scale_outputs, why_not_scaled

_OPS = ("Add", "Sub", "Mul", "Div")


def fold_channelwise(rewrite: Rewrite) -> None:
    """Fold every Add, Sub, Mul and Div by a constant that reads a Conv or ConvTranspose."""
    for node in [n for n in rewrite.graph.nodes if n.op_type in _OPS and not n.domain]:
        found = _match(node)
        if found is None:
            continue
        conv, factor = found
        reason = _why_not(rewrite, conv, node, factor)
        if reason:
            rewrite.refused(conv, f"{node.label} not folded: {reason}")
            continue
        _fold(rewrite, conv, node, factor)


def _match(node: Node) -> tuple[Node, Array] | None:
    """Return the convolution and the constant with one number per output channel, [C]; None if either is missing."""
    left, right = node.inputs
    orders = [(left, right), (right, left)] if node.op_type in ("Add", "Mul") else [(left, right)]
    for value, other in orders:
        conv = producer(value)
        array = constant(other)
        if conv is None or array is None or conv.op_type not in ("Conv", "ConvTranspose") or conv.domain:
            continue
        shape = conv.output.static_shape
        if shape is None or array.dtype != conv.output.dtype or array.ndim > len(shape):
            continue
        padded = (1,) * (len(shape) - array.ndim) + array.shape
        if padded[1] in (1, shape[1]) and all(d == 1 for i, d in enumerate(padded) if i != 1):
            return conv, np.broadcast_to(array.reshape(-1), (shape[1],))
    return None


def _why_not(rewrite: Rewrite, conv: Node, node: Node, numbers: Array) -> str | None:
    """Return the reason against folding `node`, or None."""
    if not np.isfinite(numbers).all() or (node.op_type == "Div" and not numbers.all()):
        return "products of infinities and zero weights would be NaN"
    if sole_reader(conv.output) is not node:
        return why_no_sole_reader(conv.output)
    if node.opset < 7:
        return f"opset {node.opset} has other broadcasting rules"
    operands = [v for v in conv.inputs[1:3] if v is not None]
    if any(v.const is None or v.const.dtype.kind != "f" for v in operands):
        return "the weights are not constant floats"
    weight = constant(conv.inputs[1])
    if weight is not None and node.op_type in ("Mul", "Div"):
        return why_not_scaled(rewrite, weight, _factor(node, numbers))
    return None


def _factor(node: Node, numbers: Array) -> Array:
    """Return the factors, [C] of float64, by which Mul or Div multiplies."""
    wide = numbers.astype(np.float64)
    return wide if node.op_type == "Mul" else np.asarray(1 / wide)


def _fold(rewrite: Rewrite, conv: Node, node: Node, numbers: Array) -> None:
    weight, bias = constant(conv.inputs[1]), constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
    assert weight is not None
    group = int(conv.attributes.get("group", 1)) if conv.op_type == "ConvTranspose" else 0
    scales = node.op_type in ("Mul", "Div")
    op = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[node.op_type]
    source = next(v.const for v in node.inputs if v is not None and v.const is not None)
    tag = ("fold_channelwise", node.op_type, group, conv.label)

    def new_bias(_: Array, w: Array, *old: Array) -> Array:
        start = old[0].astype(np.float64) if old else np.zeros(len(numbers))
        return np.asarray(op(start, numbers.astype(np.float64)).astype(w.dtype))

    def new_weight(_: Array, w: Array) -> Array:
        return scale_outputs(w, _factor(node, numbers), group)

    inputs: list[Value | None] = [conv.inputs[0], conv.inputs[1]]
    if scales:
        inputs[1] = rewrite.constant(f"{conv.label}:weight", (*tag, "weight"), new_weight, source, weight)
    if bias is not None or not scales:
        biases = [] if bias is None else [bias]
        inputs.append(rewrite.constant(f"{conv.label}:bias", (*tag, "bias"), new_bias, source, weight, *biases))
    fused = rewrite.fuse(node, [conv], conv.op_type, inputs, conv.attributes, domain="", opset=conv.opset)
    rewrite.applied(fused, f"{node.op_type} is folded into the weights of {conv.label}")
