"""Replace Split by one Slice for each part: kernels write one output, and parts that nothing reads cost nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tinyonnx.ir import Graph, Node, Value
from tinyonnx.passes._rewrite import Rewrite, constant_sizes


def split_into_slices(rewrite: Rewrite) -> None:
    """Replace every Split whose parts have known sizes, also in subgraphs."""
    for graph in list(_graphs(rewrite.graph)):
        _split(rewrite, graph)


def _graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for subgraph in node.subgraphs:
            yield from _graphs(subgraph)


def _split(rewrite: Rewrite, graph: Graph) -> None:
    for node in [n for n in graph.nodes if n.op_type == "Split" and not n.domain]:
        source = node.inputs[0]
        shapes = [None if v is None else v.static_shape for v in node.outputs]
        if source is None or source.static_shape is None or None in shapes:
            rewrite.refused(node, "the sizes of its parts are unknown")
            continue
        axis = int(node.attributes.get("axis", 0)) % len(source.static_shape)
        at, first = graph.position(node), 0
        for i, (part, shape) in enumerate(zip(list(node.outputs), shapes)):
            assert part is not None
            assert shape is not None
            end = first + shape[axis]
            if part.uses:
                bounds = [
                    constant_sizes(f"{node.label}:{name}{i}", [n])
                    for name, n in (("start", first), ("end", end), ("axis", axis))
                ]
                new = Value(part.name, part.dtype, part.shape)
                graph.add_node(
                    Node("Slice", [source, *bounds], [new], {}, opset=13, name=f"{node.label}:{i}", index=node.index,
                         origin=node.origin),
                    at,
                )  # fmt: skip
                at += 1
                graph.replace_all_uses_with(part, new)
            first = end
        graph.remove_node(node)
        rewrite.applied(node, "replaced by a Slice for each part")
