"""Fuse a product with a constant matrix with the Add of a bias or of another tensor: x · W + b + r is one Linear."""

from __future__ import annotations

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import (
    Rewrite,
    aligns_by_axis,
    computed_terms,
    constant,
    producer,
    sole_reader,
    why_no_sole_reader,
)
from tinyonnx.registry import FUSED


def fuse_linear(rewrite: Rewrite) -> None:
    """Fuse every MatMul with the Add after it, and with a second one."""
    for add in [n for n in rewrite.graph.nodes if n.op_type == "Add" and not n.domain]:
        for product, other in computed_terms(rewrite, add, _product):
            bias, residual = (*product.inputs[2:], None, None)[:2]
            reason = _why_not(product, other, add)
            if reason is None and other is not None and other.const is not None:
                bias = other
            else:
                residual = other
            if reason:
                rewrite.refused(product, f"not fused with {add.label}: {reason}")
                continue
            fused = rewrite.fuse(add, [product], "Linear", [*product.inputs[:2], bias, residual], {})
            rewrite.applied(fused, f"adds {other.name if other is not None else ''} in the epilogue of {product.label}")
            break


def _product(value: Value | None) -> Node | None:
    """Return the product of a tensor with a constant matrix that computes a value; None if none does."""
    node = producer(value)
    if node is None or (node.op_type, node.domain) not in (("MatMul", ""), ("Linear", FUSED)):
        return None
    w = constant(node.inputs[1])
    return node if w is not None and w.ndim == 2 else None


def _why_not(product: Node, other: Value | None, add: Node) -> str | None:
    shape = product.output.static_shape
    bias, residual = (*product.inputs[2:], None, None)[:2]
    if sole_reader(product.output) is not add:
        return why_no_sole_reader(product.output)
    if aligns_by_axis(add):
        return f"opset {add.opset} has other broadcasting rules"
    if product.attributes.get("activation"):
        return f"it has the activation {product.attributes['activation']} already"
    if other is None or shape is None or other.static_shape is None:
        return "shapes are unknown"
    if other.dtype != product.output.dtype:
        return "dtypes differ"
    if other.const is not None:
        if bias is not None or residual is not None:
            return "it has a bias already"
        return None if other.static_shape == shape[-1:] else "the constant is not one number per column"
    if residual is not None:
        return "it adds another tensor already"
    if other.static_shape != shape:
        return f"the other operand has shape {list(other.static_shape)}, not {list(shape)}"
    return None
