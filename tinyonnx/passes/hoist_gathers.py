"""Compute only gathered elements: Gather(a ∘ b, i) becomes Gather(a, i) ∘ Gather(b, i).

Exporters write several functions of one tensor as one operation with a last axis for the functions, and then gather
each of them; the elements of one function are not contiguous. An operand that has a single index on that axis is read
directly.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, constant, constant_sizes

_OPS = ("Add", "Sub", "Mul", "Div", "Max", "Min")


def hoist_gathers(rewrite: Rewrite) -> None:
    """Hoist Gathers over every operation of two operands that only Gathers of single indices read."""
    nested = set(map(id, rewrite.graph.walk())) - set(map(id, rewrite.graph.nodes))
    for node in reversed(list(rewrite.graph.nodes)):
        if node.op_type not in _OPS or node.domain or len(node.inputs) != 2 or node.opset < 7:
            continue
        readers = [user for user, _ in node.output.uses if isinstance(user, Node) and id(user) not in nested]
        axes = set(map(_axis, readers))
        if not readers or len(readers) != len(node.output.uses) or None in axes:
            continue
        shape = node.output.static_shape
        (axis,) = axes if len(axes) == 1 else (None,)
        if shape is None or axis is None or any(v is None or v.static_shape is None for v in node.inputs):
            rewrite.refused(node, "Gathers not hoisted: they are of several axes, or shapes are unknown")
        elif not len(readers) <= shape[axis]:
            rewrite.refused(node, f"Gathers not hoisted: there are {len(readers)}, of {shape[axis]} indices")
        else:
            for gather in readers:
                _hoist(rewrite, node, gather, axis)
            rewrite.graph.remove_node(node)


def _axis(gather: Node) -> int | None:
    """Return the axis along which a Gather takes a single, constant index; None for other nodes."""
    if gather.op_type != "Gather" or gather.domain or gather.inputs[0] is None:
        return None
    index, shape = constant(gather.inputs[1]), gather.inputs[0].static_shape
    if index is None or index.ndim or shape is None or gather.output.static_shape is None:
        return None
    axis = int(gather.attributes.get("axis", 0)) % len(shape)
    return axis if -shape[axis] <= int(index) < shape[axis] else None


def _hoist(rewrite: Rewrite, node: Node, gather: Node, axis: int) -> None:
    """Replace a Gather by the operation on gathered operands."""
    operands: list[Value | None] = []
    for i, value in enumerate(node.inputs):
        assert value is not None
        operands.append(_operand(rewrite, gather, value, f"{gather.label}:{i}", axis - len(node.output.shape or ())))
    new = rewrite.fuse(gather, [], node.op_type, operands, node.attributes, domain="", opset=node.opset)
    new.origin = (*node.origin, *gather.origin)
    rewrite.applied(new, f"Gather is hoisted over {node.label}")


def _operand(rewrite: Rewrite, gather: Node, value: Value, name: str, axis: int) -> Value:
    """Return an operand's part for the index of a Gather along `axis`, which is negative."""
    shape = value.static_shape
    assert shape is not None
    if len(shape) + axis < 0:
        return value
    at = len(shape) + axis
    index = constant(gather.inputs[1])
    if value.const is not None and index is not None:
        here = int(index) if shape[at] > 1 else 0
        return rewrite.constant(name, ("hoist_gathers", at, here), lambda a: np.asarray(a.take(here, at)), value.const)
    rest = shape[:at] + shape[at + 1 :]
    result = Value(name, value.dtype, rest)
    if shape[at] == 1:
        inputs = [value, constant_sizes(f"{name}:shape", rest)]
        attributes = {"allowzero": 1} if 0 in rest else {}
        new = Node(
            "Reshape", inputs, [result], attributes, opset=14, name=name, index=gather.index, origin=gather.origin
        )
    else:
        indices = gather.inputs[1]
        assert indices is not None
        inputs = [value, indices]
        attributes = {"axis": at}
        new = Node(
            "Gather", inputs, [result], attributes, opset=13, name=name, index=gather.index, origin=gather.origin
        )
    rewrite.graph.add_node(new, rewrite.graph.position(gather))
    return result
