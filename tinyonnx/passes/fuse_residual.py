"""Fuse a Conv with the Add, its only reader, of a tensor of the same shape: y = (x ∗ W + b) + r."""

from __future__ import annotations

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, computed_terms, producer, sole_reader, why_no_sole_reader


def fuse_residual(rewrite: Rewrite) -> None:
    """Fuse every Conv and Add."""
    for add in [n for n in rewrite.graph.nodes if n.op_type == "Add" and not n.domain]:
        for conv, other in computed_terms(rewrite, add, _conv):
            reason = _why_not(conv, other, add)
            if reason:
                rewrite.refused(conv, f"not fused with {add.label}: {reason}")
                continue
            inputs = [*conv.inputs, None][:3]
            fused = rewrite.fuse(add, [conv], "FusedConv", [*inputs, other], conv.attributes)
            rewrite.applied(fused, f"adds {other.name if other is not None else ''} in the epilogue of {conv.label}")
            break


def _conv(value: Value | None) -> Node | None:
    node = producer(value)
    return node if node is not None and node.op_type == "Conv" and not node.domain else None


def _why_not(conv: Node, other: Value | None, add: Node) -> str | None:
    if sole_reader(conv.output) is not add:
        return why_no_sole_reader(conv.output)
    if other is None or other.static_shape is None or conv.output.static_shape is None:
        return "shapes are unknown"
    if other.static_shape != conv.output.static_shape:
        return f"the other operand has shape {list(other.static_shape)}, not {list(conv.output.static_shape)}"
    if other.dtype != conv.output.dtype:
        return "dtypes differ"
    return None
