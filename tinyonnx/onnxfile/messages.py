"""Labels, names and order of nodes in protobuf messages; uses the messages only, without importing onnx."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tinyonnx.errors import ModelError
from tinyonnx.onnxfile.check import describe

Message = Any
"""A protobuf message of onnx."""


class Kind(IntEnum):
    """Numbers of AttributeProto.AttributeType."""

    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14


def domain_of(domain: str) -> str:
    """Return the domain as the registry spells it: "" for ai.onnx."""
    return "" if domain == "ai.onnx" else domain


def label_of(node: Message, index: int) -> str:
    """Return a node's name; if it has none, the name of its first output, else its position."""
    return node.name or next(filter(None, node.output), f"#{index}")


def function_label(key: tuple[str, str, str]) -> str:
    """Return `domain.name` of a function, with its overload if it has one."""
    domain, name, overload = key
    return f"{domain}.{name}" + (f":{overload}" if overload else "")


def where_is(file: str, node: Message, index: int, prefix: str = "") -> str:
    """Return the beginning of an error message about a node: file, operator, label and position."""
    return f"{file}: {describe(node.op_type, domain_of(node.domain), prefix + label_of(node, index), index)}"


def all_names(graph: Message) -> set[str]:
    """Return the names defined in a graph and its subgraphs."""
    names = _own_names(graph)
    for node in graph.node:
        for subgraph in _subgraphs(node):
            names |= all_names(subgraph)
    return names


def in_order(nodes: Iterable[Message], defined: set[str], file: str, where: str) -> list[tuple[int, Message]]:
    """Sort nodes topologically; return them with their positions in the file.

    Raises ModelError if a name is defined twice or nodes form a cycle.
    """
    numbered = list(enumerate(nodes))
    producer: dict[str, int] = {}
    for index, node in numbered:
        for name in filter(None, node.output):
            if name in defined or name in producer:
                raise ModelError(f'{where_is(file, node, index)}: "{name}" is already defined')
            producer[name] = index
    needs = [{producer[name] for name in reads_of(node) if name in producer} for _, node in numbered]
    if all(max(before, default=-1) < index for index, before in enumerate(needs)):
        return numbered
    try:
        return [numbered[index] for index in TopologicalSorter(dict(enumerate(needs))).static_order()]
    except CycleError as error:
        cycle = " -> ".join(f'"{label_of(numbered[i][1], i)}"' for i in error.args[1][:8])
        raise ModelError(f"{where}: nodes depend on each other in a cycle: {cycle}") from None


def _subgraphs(node: Message) -> list[Message]:
    return [a.g for a in node.attribute if a.type == Kind.GRAPH and not a.ref_attr_name]


def _own_names(graph: Message) -> set[str]:
    names = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    names.update(s.values.name for s in graph.sparse_initializer)
    for node in graph.node:
        names.update(node.output)
    return names


def reads_of(node: Message) -> set[str]:
    """Return the names that a node reads, including those that its subgraphs capture, without absent inputs."""
    names = set(node.input)
    for subgraph in _subgraphs(node):
        read = {v.name for v in subgraph.output}.union(*(reads_of(n) for n in subgraph.node))
        names |= read - _own_names(subgraph)
    return names - {""}
