"""The part of a model that can run although other parts can't."""

from __future__ import annotations

from tinyonnx.ir import Graph, Node, Value
from tinyonnx.onnxfile.check import problem_of


def runnable_part(graph: Graph) -> Graph:
    """Return a copy with the nodes whose operators are known and whose inputs are all computed.

    A node counts as one with its subgraphs. Results that nothing reads are the outputs.
    """
    part = graph.clone()
    known = {id(value) for value in part.inputs}
    kept: list[Node] = []
    for node in part.nodes:
        if _can_run(node, known):
            kept.append(node)
            known.update(id(value) for value in node.outputs if value is not None)
    part.clear_outputs()
    for node in reversed([node for node in part.nodes if node not in kept]):
        part.remove_node(node)
    part.initializers = [value for value in part.initializers if value.const is not None]
    part.overridable = [value for value in part.overridable if value.const is not None]
    for node in kept:
        for value in node.outputs:
            if value is not None and not value.uses:
                part.add_output(value)
    return part


def _can_run(node: Node, known: set[int]) -> bool:
    nodes = [node, *(inner for subgraph in node.subgraphs for inner in subgraph.walk())]
    if any(problem_of(each) is not None for each in nodes):
        return False
    outer = [*node.inputs, *(value for subgraph in node.subgraphs for value in subgraph.captures())]
    return all(_is_computed(value, known) for value in outer) and all(
        value.const is not None for subgraph in node.subgraphs for value in subgraph.initializers
    )


def _is_computed(value: Value | None, known: set[int]) -> bool:
    return value is None or value.const is not None or id(value) in known
