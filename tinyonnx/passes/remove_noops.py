"""Remove nodes that change nothing; turn nodes that keep the order of elements into one Reshape.

Exporters leave many of them: a maximum over a stack of one branch (Unsqueeze, Concat, ReduceMax), Squeeze after
Squeeze, Dropout. A Reshape of a Reshape reads the input of the first; a Reshape to the shape of its input
is removed.
"""

from __future__ import annotations

from collections.abc import Callable

from tinyonnx.ir import Graph, Node, Value
from tinyonnx.passes._rewrite import Rewrite, axes_of, constant_sizes

_RESHAPING = {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}
_REDUCTIONS = {"ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceProd"}


def remove_noops(rewrite: Rewrite) -> None:
    """Remove or replace every such node of the graph."""
    for node in list(rewrite.graph.nodes):
        if node.domain or not node.inputs or node.inputs[0] is None or not node.outputs or node.outputs[0] is None:
            continue
        source = node.inputs[0]
        rule = _RULES.get(node.op_type)
        is_valid = node.output.dtype is not None or node.op_type == "Identity"
        if rule is not None and is_valid and rule(node):
            _bypass(rewrite, node, source, f"{node.op_type} changes nothing")
        elif _keeps_order(node):
            _to_reshape(rewrite, node, source)
        elif node.op_type == "Dropout":
            _drop_training(rewrite, node, source)
    for node in rewrite.graph.walk():
        for subgraph in node.subgraphs:
            _remove_identities(rewrite, subgraph)


def _remove_identities(rewrite: Rewrite, graph: Graph) -> None:
    """Remove the Identity nodes of a subgraph, through which exporters let bodies return their inputs."""
    for node in list(graph.nodes):
        if (
            node.op_type == "Identity"
            and not node.domain
            and node.inputs[0] is not None
            and node.outputs[0] is not None
        ):
            rewrite.applied(node, "Identity changes nothing")
            graph.replace_all_uses_with(node.output, node.inputs[0])
            graph.remove_node(node)


def _drop_training(rewrite: Rewrite, node: Node, source: Value) -> None:
    """Remove a Dropout that was exported in training mode, as onnxruntime does, unless it gives an output."""
    if any(value is node.output for value in rewrite.graph.outputs):
        rewrite.refused(node, "it is in training mode, and its random result is an output")
    else:
        _bypass(rewrite, node, source, "Dropout in training mode is left out")


def _bypass(rewrite: Rewrite, node: Node, source: Value, why: str) -> None:
    """Let the readers of a node read `source` instead, and remove the node."""
    if any(v is not None and v.uses for v in node.outputs[1:]):
        rewrite.refused(node, "a second output is read")
        return
    rewrite.applied(node, why)
    rewrite.graph.replace_all_uses_with(node.output, source)
    rewrite.graph.remove_node(node)


def _keeps_order(node: Node) -> bool:
    """Return whether the output has the elements of the first input in the same order, and known shapes."""
    source = node.inputs[0]
    assert source is not None
    shape, result = source.static_shape, node.output.static_shape
    if shape is None or result is None or source.dtype is None:
        return False
    if node.op_type in _RESHAPING:
        return True
    if node.op_type == "Transpose":
        order = node.attributes.get("perm") or list(range(len(shape)))[::-1]
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)
    if node.op_type in _REDUCTIONS:
        axes = axes_of(node)
        if axes is None:
            return False
        if not axes and node.attributes.get("noop_with_empty_axes"):
            return True
        return all(shape[a] == 1 for a in axes or range(len(shape)))
    return False


def _to_reshape(rewrite: Rewrite, node: Node, source: Value) -> None:
    """Replace a node, with the Reshapes before it, by a single Reshape, or by none if the shape stays the same."""
    shape = node.output.static_shape
    assert shape is not None
    producer = source.producer
    while producer is not None and producer.op_type == "Reshape" and not producer.domain and producer.inputs[0]:
        source = producer.inputs[0]
        producer = source.producer
    if source.static_shape == shape:
        _bypass(rewrite, node, source, f"{node.op_type} changes nothing")
    elif node.op_type != "Reshape" or node.inputs[0] is not source:
        target = constant_sizes(f"{node.label}:shape", shape)
        attributes = {"allowzero": 1} if 0 in shape else {}
        # of the node's own opset if Reshape has these inputs and attributes there, so that the graph can be saved
        opset = node.opset if node.opset >= (14 if attributes else 5) else 14
        rewrite.fuse(node, [], "Reshape", [source, target], attributes, domain="", opset=opset)
        rewrite.applied(node, f"{node.op_type} keeps the order of elements: replaced by a Reshape to {list(shape)}")


def _same_type(node: Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype is not None and source.dtype == node.output.dtype


def _same_shape(node: Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.static_shape is not None and source.static_shape == node.output.static_shape


def _inference_dropout(node: Node) -> bool:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    return training is None or (training.const is not None and not training.const.any())


def _nothing_padded(node: Node) -> bool:
    pads = node.inputs[1].const if len(node.inputs) > 1 and node.inputs[1] is not None else None
    return pads is not None and not pads.any() and _same_shape(node)


_RULES: dict[str, Callable[[Node], bool]] = {
    "Identity": lambda node: True,
    "Dropout": _inference_dropout,
    "Cast": _same_type,
    "Concat": lambda node: len(node.inputs) == 1,
    "Expand": _same_shape,
    "Pad": _nothing_padded,
    "Sum": lambda node: len(node.inputs) == 1,
    "Max": lambda node: len(node.inputs) == 1,
    "Min": lambda node: len(node.inputs) == 1,
}
