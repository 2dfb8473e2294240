"""Attach to each Gradient node the part of the graph that it differentiates."""

from __future__ import annotations

from tinyonnx.errors import ModelError
from tinyonnx.ir import Graph, Node, Value
from tinyonnx.onnxfile.check import describe

_DOMAIN = "ai.onnx.preview.training"


def attach_functions(graph: Graph, file: str) -> None:
    """Replace the name in attribute `y` of each Gradient by a graph from the tensors `xs` and `zs` to that tensor.

    Raises ModelError if a name is unknown or `y` depends on other variables.
    """
    gradients = [node for node in graph.nodes if (node.domain, node.op_type) == (_DOMAIN, "Gradient")]
    if not gradients:
        return
    values = graph.values()
    for node in gradients:
        where = f"{file}: {describe(node.op_type, node.domain, node.label, node.index)}"
        names = [*node.attributes["xs"], *(node.attributes.get("zs") or [])]
        for name in (*names, node.attributes["y"]):
            if name not in values:
                raise ModelError(f'{where}: tensor "{name}" does not exist')
        if len(names) != len(node.inputs):
            raise ModelError(f"{where}: has {len(node.inputs)} inputs for the {len(names)} tensors in xs and zs")
        leaves = [values[name] for name in names]
        node.attributes["y"] = _function(graph, leaves, values[node.attributes["y"]], where)


def _function(graph: Graph, leaves: list[Value], y: Value, where: str) -> Graph:
    """Return the nodes between `leaves` and `y` as a separate graph."""
    function = Graph("function", graph.opsets)
    copies: dict[int, Value] = {}
    for leaf in leaves:
        copies[id(leaf)] = function.add_input(Value(leaf.name, leaf.dtype, leaf.shape))
    needed = _needed(y, set(copies))
    for node in graph.nodes:
        if id(node) not in needed:
            continue
        if node.subgraphs:
            raise ModelError(f"{where}: {node.op_type} on the way to {y.name!r} can't be differentiated")
        inputs = [None if v is None else _copy(v, copies, where) for v in node.inputs]
        outputs = [None if v is None else Value(v.name, v.dtype, v.shape) for v in node.outputs]
        for old, new in zip(node.outputs, outputs):
            if old is not None and new is not None and id(old) not in copies:
                copies[id(old)] = new
        function.add_node(
            Node(node.op_type, inputs, outputs, node.attributes, domain=node.domain, opset=node.opset,
                 name=node.name, index=node.index)
        )  # fmt: skip
    function.add_output(_copy(y, copies, where))
    return function


def _needed(y: Value, leaves: set[int]) -> set[int]:
    """Return the identities of the nodes that `y` depends on, up to the leaves."""
    needed: set[int] = set()
    todo = [y]
    while todo:
        value = todo.pop()
        if id(value) in leaves or value.producer is None or id(value.producer) in needed:
            continue
        needed.add(id(value.producer))
        todo += [v for v in value.producer.inputs if v is not None]
    return needed


def _copy(value: Value, copies: dict[int, Value], where: str) -> Value:
    if id(value) not in copies:
        if value.const is None:
            raise ModelError(f'{where}: y depends on "{value.name}", which is in neither xs nor zs')
        copies[id(value)] = Value(value.name, value.dtype, value.shape, value.const)
    return copies[id(value)]
