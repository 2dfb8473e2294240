"""Fuse integer products with the conversion of their sums, as exporters of dynamically quantised models write it.

Cast(MatMulInteger(a, b)) · (s_a · s_b) + bias becomes MatMulIntegerToFloat(a, b, s_a, s_b; bias), operation by
operation. Likewise Cast(ConvInteger(x, w) + offset) · s + bias becomes ConvIntegerToFloat.
"""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite, constant, producer, sole_reader, why_no_sole_reader

_DEPTH = (2**31 - 1) // 255**2
"""Maximum number of products whose sum fits into an int32."""


class _Product(NamedTuple):
    """A scaled product: the nodes in order of execution, scales of the left and the right operand."""

    matmul: Node
    cast: Node
    a_scale: Value
    b_scale: Value
    scales: list[Node]


def fuse_integer_products(rewrite: Rewrite) -> None:
    """Fuse every Mul of such a pattern, then the sums with a bias."""
    for node in [n for n in rewrite.graph.nodes if n.op_type == "Mul" and not n.domain]:
        for sums, scale in (node.inputs, node.inputs[::-1]):
            found = _match(rewrite, sums, scale)
            if found is not None:
                _fuse(rewrite, node, found)
                break
            if _fuse_convolution(rewrite, node, sums, scale):
                break
    for node in [n for n in rewrite.graph.nodes if n.op_type == "Add" and not n.domain]:
        for x, bias in (node.inputs, node.inputs[::-1]):
            if _add_bias(rewrite, node, x, bias) or _add_filter_bias(rewrite, node, x, bias):
                break


def _one(array: Array) -> Array:
    return np.ones(1, np.float32)


def _match(rewrite: Rewrite, sums: Value | None, scale: Value | None) -> _Product | None:
    cast = producer(sums)
    if cast is None or cast.domain or cast.op_type != "Cast" or scale is None or scale.dtype != np.float32:
        return None
    matmul = producer(cast.inputs[0])
    if matmul is None or matmul.domain or matmul.op_type != "MatMulInteger" or sums is None or sums.dtype != np.float32:
        return None
    product = producer(scale)
    if product is not None and not product.domain and product.op_type == "Mul":
        # the scale of the weights is the constant one
        for a, b in sorted((product.inputs, product.inputs[::-1]), key=lambda pair: constant(pair[1]) is None):
            if a is not None and b is not None and _is_one_number(a) and b.dtype == np.float32:
                return _Product(matmul, cast, a, b, [product])
    weights = matmul.inputs[1]
    if weights is None or weights.const is None or not _is_one_number(scale):
        return None
    return _Product(matmul, cast, scale, rewrite.constant("one", "one", _one, weights.const), [])


def _is_one_number(value: Value) -> bool:
    return value.static_shape in ((), (1,))


def _fuse(rewrite: Rewrite, node: Node, found: _Product) -> None:
    matmul, cast = found.matmul, found.cast
    reason = _refused(found)
    if reason is not None:
        rewrite.refused(node, f"not fused with {matmul.label}: {reason}")
        return
    a, b, a_zero, b_zero = (*matmul.inputs, None, None)[:4]
    inputs = [a, b, found.a_scale, found.b_scale, a_zero, b_zero]
    others = [matmul, cast, *found.scales]
    fused = rewrite.fuse(node, others, "MatMulIntegerToFloat", inputs, {}, domain="com.microsoft", opset=1)
    rewrite.applied(fused, f"takes in {matmul.label}")


def _refused(found: _Product) -> str | None:
    a, b = found.matmul.inputs[:2]
    shape = None if b is None else b.static_shape
    if a is None or a.static_shape is None or len(a.static_shape) < 2 or shape is None or len(shape) != 2:
        return "not a product of rows with one matrix"
    if shape[0] > _DEPTH:
        return f"sums of {shape[0]} products may exceed an int32"
    if found.b_scale.static_shape not in ((), (1,), shape[1:]):
        return "the scales are neither one number nor one for each column"
    for inner in (found.matmul, found.cast):
        if sole_reader(inner.output) is None:
            return why_no_sole_reader(inner.output)
    return None


def _add_bias(rewrite: Rewrite, node: Node, x: Value | None, bias: Value | None) -> bool:
    """Fuse a sum of a product and a bias, whichever comes first."""
    product = producer(x)
    if (
        product is None
        or product.op_type != "MatMulIntegerToFloat"
        or x is None
        or bias is None
        or x.static_shape is None
    ):
        return False
    if len(product.inputs) > 6 or bias.const is None or bias.static_shape != (x.static_shape or ())[-1:]:
        return False
    if sole_reader(x) is not node:
        rewrite.refused(node, f"not fused with {product.label}: {why_no_sole_reader(x)}")
        return False
    inputs = [*product.inputs, bias]
    fused = rewrite.fuse(node, [product], product.op_type, inputs, {}, domain=product.domain, opset=product.opset)
    rewrite.applied(fused, f"is the bias of {product.label}")
    return True


def _fuse_convolution(rewrite: Rewrite, node: Node, scaled: Value | None, scale: Value | None) -> bool:
    """Fuse a Mul of the sums of a convolution, converted to float32; return whether it is one."""
    cast = producer(scaled)
    if cast is None or cast.domain or cast.op_type != "Cast" or scaled is None or scaled.dtype != np.float32:
        return False
    inner = producer(cast.inputs[0])
    if _is(inner, "ConvInteger"):
        return _fuse_scaled(rewrite, node, [inner, cast], None, scale)
    if inner is None or not _is(inner, "Add"):
        return False
    for sums, offset in (inner.inputs, inner.inputs[::-1]):
        conv = producer(sums)
        if _is(conv, "ConvInteger"):
            return _fuse_scaled(rewrite, node, [conv, inner, cast], offset, scale)
    return False


def _is(node: Node | None, name: str) -> TypeGuard[Node]:
    return node is not None and not node.domain and node.op_type == name


def _fuse_scaled(
    rewrite: Rewrite, node: Node, others: list[Node], offset: Value | None, scale: Value | None
) -> bool:  # fmt: skip
    conv = others[0]
    x, w, x_zero, w_zero = (*conv.inputs, None, None)[:4]
    reason = None
    if w is None or w.const is None:
        reason = "its weights are not constant"
    elif scale is None or scale.dtype != np.float32 or not _is_one_number(scale):
        reason = "the scale is not one number"
    elif offset is not None and not _is_for_each_filter(offset, w):
        reason = "the offset is not one number for each filter"
    shared = next((inner for inner in others if sole_reader(inner.output) is None), None)
    if reason is None and shared is not None:
        reason = why_no_sole_reader(shared.output)
    if reason is not None:
        rewrite.refused(node, f"not fused with {conv.label}: {reason}")
        return True
    inputs = [x, w, scale, x_zero, w_zero, offset]
    fused = rewrite.fuse(node, others, "ConvIntegerToFloat", inputs, conv.attributes)
    rewrite.applied(fused, f"takes in {conv.label}")
    return True


def _is_for_each_filter(value: Value, weights: Value) -> bool:
    """Return whether a shape is that of one number for each filter, broadcast over the spatial axes."""
    filters, *kernel = (weights.static_shape or ())[:1] + (weights.static_shape or ())[2:]
    spatial = (1,) * len(kernel)
    return value.static_shape in ((filters, *spatial), (1, filters, *spatial))


def _add_filter_bias(rewrite: Rewrite, node: Node, x: Value | None, bias: Value | None) -> bool:
    """Fuse a sum of a scaled convolution and a bias."""
    conv = producer(x)
    if conv is None or conv.op_type != "ConvIntegerToFloat" or x is None or bias is None or bias.const is None:
        return False
    weights = conv.inputs[1]
    if len(conv.inputs) > 6 or weights is None or bias.dtype != np.float32 or not _is_for_each_filter(bias, weights):
        return False
    if sole_reader(x) is not node:
        rewrite.refused(node, f"not fused with {conv.label}: {why_no_sole_reader(x)}")
        return False
    fused = rewrite.fuse(node, [conv], conv.op_type, [*conv.inputs, bias], conv.attributes)
    rewrite.applied(fused, f"is the bias of {conv.label}")
    return True
