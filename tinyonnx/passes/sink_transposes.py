"""Move Transposes between orders of channels towards the end, where they meet their inverses and disappear.

Exporters of frameworks whose channels come last surround each convolution by two Transposes; in between, arithmetic
runs on channels that come last. With T a Transpose and T⁻¹ its inverse:

- f(T(x)) = T(f(x)) for an elementwise f, and T(a) + T(b) = T(a + b);
- T(a) + c = T(a + T⁻¹(c)) for a constant c;
- reductions, Concat, Pad, Slice and Softmax of T(x) are those of x along the axes that T maps to theirs;
- T₂(T₁(x)) is one Transpose, or x.

A Transpose is moved only if everything that reads its result can take it in, so that their number doesn't grow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite, axes_of, constant_sizes

_UNARY = (
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
    "Sign", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_BROADCASTING = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mul", "Or",
    "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

Order = tuple[int, ...]


class _Moved(NamedTuple):
    """The inputs and attributes of a node that computes on the operands of Transposes instead of on their results."""

    inputs: list[Value | None]
    attributes: dict[str, object]
    order: Order
    """Order of the Transpose after the node."""


class _Refusal(Exception):
    """The reason why a Transpose stays before a node."""


def sink_transposes(rewrite: Rewrite) -> None:
    """Move every such Transpose after the nodes that read it, and join those that become adjacent."""
    for node in list(rewrite.graph.nodes):
        if node.domain:
            continue
        if node.op_type == "Transpose":
            _join(rewrite, node)
        elif node.op_type in _RULES and any(_moves_channels(v) for v in node.inputs):
            try:
                _sink(rewrite, node)
            except _Refusal as reason:
                rewrite.refused(node, str(reason))


def _order(node: Node | None) -> Order | None:
    """Return the axis of the operand for each axis of a Transpose's result; None for other nodes."""
    if node is None or node.op_type != "Transpose" or node.domain or node.output.shape is None:
        return None
    rank = len(node.output.shape)
    return tuple(int(axis) for axis in node.attributes.get("perm") or range(rank)[::-1])


def _inverse(order: Order) -> Order:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _moves_channels(value: Value | None) -> bool:
    """Return whether a value is a Transpose's result with the channels moved from the last place to the second or back.

    Other orders, as of attention's heads, stay where other passes expect them.
    """
    order = None if value is None else _order(value.producer)
    if order is None or len(order) < 3:
        return False
    last = (0, len(order) - 1, *range(1, len(order) - 1))
    return order in (last, _inverse(last))


def _join(rewrite: Rewrite, node: Node) -> None:
    """Make one Transpose of two that follow each other, or none."""
    source, order = node.inputs[0], _order(node)
    first = None if source is None else source.producer
    before = _order(first)
    if order is None or before is None or first is None or len(before) != len(order):
        return
    operand, joint = first.inputs[0], tuple(before[axis] for axis in order)
    if joint == tuple(range(len(joint))) and operand is not None:
        rewrite.graph.replace_all_uses_with(node.output, operand)
        rewrite.graph.remove_node(node)
        rewrite.applied(node, f"is the inverse of {first.label}")
        _drop(rewrite, first)
    else:
        joined = rewrite.fuse(node, [first], "Transpose", [operand], {"perm": joint}, domain="", opset=node.opset)
        rewrite.applied(joined, f"joined with {first.label}")


def _drop(rewrite: Rewrite, node: Node) -> None:
    if not node.output.uses:
        rewrite.graph.remove_node(node)


def _sink(rewrite: Rewrite, node: Node) -> None:
    """Compute a node on the operands of its Transposes and transpose its result. Raises _Refusal."""
    if any(v is not None and v.uses for v in node.outputs[1:]):
        raise _Refusal("a second output is read")
    if node.output.shape is None:
        raise _Refusal("the shape of its result is unknown")
    transposes = [v for v in node.inputs if _moves_channels(v)]
    first = transposes[0]
    assert first is not None
    assert first.producer is not None
    order = _order(first.producer)
    assert order is not None
    for value in transposes:
        assert value is not None
        assert value.producer is not None
        if _order(value.producer) != order:
            raise _Refusal("its operands are transposed in different ways")
        for user, _ in value.uses:
            if not isinstance(user, Node) or user.domain or user.op_type not in ("Transpose", *_RULES):
                raise _Refusal(f"{value.producer.label} is read in its order elsewhere, too")
    moved = _RULES[node.op_type](rewrite, node, order)
    result = node.output
    assert result.shape is not None
    unmoved = tuple(range(len(moved.order)))
    inner = Value(f"{result.name}:before", result.dtype, tuple(result.shape[a] for a in _inverse(moved.order)))
    if moved.order == unmoved:
        inner = Value(result.name, result.dtype, result.shape)
    at = rewrite.graph.position(node)
    new = Node(node.op_type, moved.inputs, [inner], moved.attributes, opset=node.opset, name=node.label,
               index=node.index, origin=node.origin)  # fmt: skip
    rewrite.graph.add_node(new, at)
    outer = inner
    if moved.order != unmoved:
        outer = Value(result.name, result.dtype, result.shape)
        behind = Node("Transpose", [inner], [outer], {"perm": moved.order}, opset=13, name=f"{node.label}:transposed",
                      index=node.index, origin=first.producer.origin)  # fmt: skip
        rewrite.graph.add_node(behind, at + 1)
    rewrite.graph.replace_all_uses_with(result, outer)
    rewrite.graph.remove_node(node)
    for producer in {id(v.producer): v.producer for v in transposes if v is not None}.values():
        if producer is not None:
            _drop(rewrite, producer)
    rewrite.applied(new, f"{first.producer.label if first.producer else first.name} is moved behind it")


# -- one rule for each kind of node --------------------------------------------------------


def _operand(node: Node, value: Value | None, order: Order) -> Value:
    """Return the operand of the Transpose that gives a value. Raises _Refusal."""
    producer = None if value is None else value.producer
    operand = producer.inputs[0] if producer is not None and _order(producer) == order else None
    if operand is None:
        raise _Refusal("another operand is not transposed")
    return operand


def _elementwise(rewrite: Rewrite, node: Node, order: Order) -> _Moved:
    inputs: list[Value | None] = [_operand(node, node.inputs[0], order), *node.inputs[1:]]
    return _Moved(inputs, dict(node.attributes), order)


def _broadcasting(rewrite: Rewrite, node: Node, order: Order) -> _Moved:
    if node.opset < 7:
        raise _Refusal(f"opset {node.opset} has other broadcasting rules")
    assert node.output.shape is not None
    if len(node.output.shape) != len(order):
        raise _Refusal("its result has more axes")
    inputs: list[Value | None] = []
    for i, value in enumerate(node.inputs):
        if value is None or value.const is None:
            inputs.append(_operand(node, value, order))
        elif value.const.size == 1:
            inputs.append(value)
        else:
            name, tag = f"{node.label}:operand{i}", ("sink_transposes", order)
            inputs.append(rewrite.constant(name, tag, lambda c: _reordered(c, order), value.const))
    return _Moved(inputs, dict(node.attributes), order)


def _reordered(array: Array, order: Order) -> Array:
    """Return a constant that is broadcast to the result of a Transpose as one for its operand."""
    wide = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return np.ascontiguousarray(wide.transpose(_inverse(order)))


def _along_axis(rewrite: Rewrite, node: Node, order: Order) -> _Moved:
    if node.op_type != "Concat" and node.opset < 13:
        raise _Refusal(f"{node.op_type} of opset {node.opset} has several axes")
    inputs: list[Value | None] = [_operand(node, value, order) for value in node.inputs]
    axis = int(node.attributes.get("axis", 1 if node.op_type == "Concat" else -1))  # Concat's default until opset 3
    return _Moved(inputs, {**node.attributes, "axis": order[axis]}, order)


def _reduction(rewrite: Rewrite, node: Node, order: Order) -> _Moved:
    axes = axes_of(node)
    if not axes:
        raise _Refusal("its axes are not known, or all")
    reduced = sorted(order[axis] for axis in axes)
    attributes, inputs = dict(node.attributes), [_operand(node, node.inputs[0], order), *node.inputs[1:]]
    if "axes" in attributes:
        attributes["axes"] = tuple(reduced)
    else:
        inputs[1] = constant_sizes(f"{node.label}:axes", reduced)
    if attributes.get("keepdims", 1):
        return _Moved(inputs, attributes, order)
    return _Moved(inputs, attributes, _without(order, reduced))


def _without(order: Order, removed: Sequence[int]) -> Order:
    """Return the order of the axes that are left when some of the operand's are removed."""
    left = [axis for axis in order if axis not in removed]
    return tuple(sorted(left).index(axis) for axis in left)


def _squeeze(rewrite: Rewrite, node: Node, order: Order) -> _Moved:
    moved = _reduction(rewrite, node, order)
    axes = axes_of(node) or []
    return moved._replace(order=_without(order, [order[axis] for axis in axes]))


def _pad(rewrite: Rewrite, node: Node, order: Order) -> _Moved:
    given = node.inputs[1].const if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if given is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        raise _Refusal("its pads are not constant, or are given for some axes only")
    pads = given.reshape(2, len(order))[:, list(_inverse(order))].reshape(-1)
    inputs = [_operand(node, node.inputs[0], order), constant_sizes(f"{node.label}:pads", pads.tolist())]
    return _Moved([*inputs, *node.inputs[2:]], dict(node.attributes), order)


def _slice(rewrite: Rewrite, node: Node, order: Order) -> _Moved:
    if node.opset < 10 or len(node.inputs) < 4 or node.inputs[3] is None or node.inputs[3].const is None:
        raise _Refusal("its axes are not constant")
    axes = constant_sizes(f"{node.label}:axes", [order[int(axis)] for axis in node.inputs[3].const.reshape(-1)])
    inputs = [_operand(node, node.inputs[0], order), *node.inputs[1:3], axes, *node.inputs[4:]]
    return _Moved(inputs, dict(node.attributes), order)


_RULES: dict[str, Callable[[Rewrite, Node, Order], _Moved]] = {
    **dict.fromkeys(_UNARY, _elementwise),
    **dict.fromkeys(_BROADCASTING, _broadcasting),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("Concat", "Softmax", "LogSoftmax"), _along_axis),
    "Pad": _pad,
    "Slice": _slice,
    "Squeeze": _squeeze,
}
