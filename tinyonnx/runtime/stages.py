"""Graphs in two stages: kernels need shapes, and some are known only when other values have been computed.

The size of a result of NonMaxSuppression, NonZero or a Reshape to a computed shape depends on data. The first stage of
a graph ends with such results; the second has them, and all else that it reads, as inputs. So both have kernels and
plans for every size. The second may be divided again.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from tinyonnx.ir import Dim, Graph, Node, Value
from tinyonnx.registry import FUSED


class Split(NamedTuple):
    """How a graph is divided into two stages.

    Attributes:
        names: values that the second stage reads.
        shapes: theirs; a dimension that may vary is None or a name, a shape without known rank None.
        early: positions of the graph's outputs that the first stage computes.
        bounded: names of results of the first stage that are the beginning of what a bounded operator gives.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[Dim, ...] | None, ...]
    early: tuple[int, ...]
    bounded: tuple[str, ...]


_BOUNDED = {"NonMaxSuppression": "BoundedNonMaxSuppression"}
"""Operators with a form that gives as many rows as there can be, and the number of those that count."""


def find_split(graph: Graph, inferred: Graph, names: Mapping[int, str]) -> Split | None:
    """Return how to divide a graph; None if no shape depends on data, or both stages need an If that was decided.

    `inferred` is a copy of the graph with inferred shapes and folded constants; `names` has the names of the graph's
    values by the ids of those in the copy.
    """
    unknown: set[int] = set()  # results of the first stage without shape
    late: set[int] = set()
    countable: set[str] = set()
    shapes: dict[str, tuple[int, ...] | None] = {value.name: value.static_shape for value in inferred.inputs}
    late_names: set[str] = set()
    for node in inferred.nodes:
        results = [v for v in node.outputs if v is not None]
        if any(id(v) in late or id(v) in unknown for v in _operands(node)):
            late.update(map(id, results))
            late_names.update(names[id(v)] for v in results if id(v) in names)
            continue
        shapes.update((names[id(v)], v.static_shape) for v in results if id(v) in names)
        if _is_bounded(node):
            countable.update(names[id(v)] for v in results if id(v) in names)
        unknown.update(id(v) for v in results if v.static_shape is None or v.dtype is None)
    early = tuple(i for i, value in enumerate(inferred.outputs) if id(value) not in late)
    values = _read_from(shapes, late_names, [value for i, value in enumerate(graph.outputs) if i not in early])
    if values is None:
        return None
    ends = {value.name: value for value in (*values, *(graph.outputs[i] for i in early))}
    bounded = tuple(name for name in ends if name in countable)
    if not (late or bounded):
        return None
    is_fixed = all(isinstance(dim, int) for value in graph.inputs for dim in value.shape or (None,))
    known = [shapes[value.name] if is_fixed else None for value in values]
    found = [
        value.shape if shape is None else tuple(map(int, shape)) for value, shape in zip(values, known, strict=True)
    ]
    return Split(tuple(value.name for value in values), tuple(found), early, bounded)


def _is_bounded(node: Node) -> bool:
    """Return whether the bounded form of a node has a kernel, which needs constant parameters (inputs 2 and later)."""
    known = all(value is None or value.const is not None for value in node.inputs[2:])
    return known and not node.domain and node.op_type in _BOUNDED


def _operands(node: Node) -> list[Value]:
    """Return all values that a node reads, captured ones included."""
    return [*(v for v in node.inputs if v is not None), *(v for graph in node.subgraphs for v in graph.captures())]


def _read_from(early: Container[str], late: Container[str], results: Sequence[Value]) -> list[Value] | None:
    """Return the early values from which the second stage computes these results.

    What shape inference has folded, such as arithmetic with sizes, is part of both stages; None for an If.
    """
    found: list[Value] = []
    seen: set[int] = set()
    waiting = list(reversed(results))
    while waiting:
        value = waiting.pop()
        if id(value) in seen or value.const is not None:
            continue
        seen.add(id(value))
        node = value.producer
        if value.name in early:
            found.append(value)
        elif node is None or (node.subgraphs and value.name not in late):
            return None
        else:
            waiting += _operands(node)
    return found


def first_stage(graph: Graph, split: Split) -> tuple[Graph, list[str]]:
    """Return a copy that ends with the early outputs, and with the values of the second stage, whose names follow.

    The number of rows of each bounded result is an output after these.
    """
    copy = graph.clone()
    values, outputs = copy.values(), list(zip(copy.outputs, copy.output_names, strict=True))
    fed = {value.name for value in copy.inputs}
    names = [name for name in split.names if name not in fed]
    copy.clear_outputs()
    for i in split.early:
        copy.add_output(*outputs[i])
    for name in names:
        copy.add_output(values[name])
    for name in split.bounded:
        old = values[name].producer
        assert old is not None
        results = [Value(name), Value(f"{name}:rows")]
        new = Node(
            _BOUNDED[old.op_type], old.inputs, results, old.attributes, domain=FUSED, name=old.label, index=old.index
        )  # fmt: skip
        copy.add_node(new, copy.position(old))
        copy.replace_all_uses_with(values[name], results[0])
        copy.remove_node(old)
        copy.add_output(results[1])
    _drop_dead(copy)
    return copy, names


def second_stage(graph: Graph, split: Split, shapes: Sequence[tuple[Dim, ...] | None]) -> Graph:
    """Return a copy whose inputs are the values that the second stage reads, of these shapes, with the late outputs."""
    copy = graph.clone()
    values, outputs = copy.values(), list(zip(copy.outputs, copy.output_names, strict=True))
    copy.clear_outputs()
    for i, output in enumerate(outputs):
        if i not in split.early:
            copy.add_output(*output)
    copy.inputs = []
    for name, shape in zip(split.names, shapes, strict=True):
        fed = copy.add_input(Value(name, None, shape))
        copy.replace_all_uses_with(values[name], fed)
    _drop_dead(copy)
    return copy


def _drop_dead(graph: Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if not any(value is not None and value.uses for value in node.outputs):
            graph.remove_node(node)
    graph.overridable = []
    graph.drop_initializers()
