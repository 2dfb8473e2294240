"""The intermediate representation: values, nodes, graphs and subgraphs, with use lists.

A `Value` is one tensor (or sequence) of the model. Nodes refer to values directly, also those of an enclosing
graph: the uses of a captured value include nodes of subgraphs. An output of a graph is a use, too. A pass may
rewire `Graph.outputs`; `Graph.output_names` (the names that users request) and `Graph.declared_outputs` (the
types in the file) stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, Any]
Dim = int | str | None


def _outwards(near: int, length: int) -> Iterator[int]:
    """Yield the positions of a list, those next to `near` first.

    Edits follow the order of a graph. To search for the next one beside the last takes linear time over
    all of them, where each search from the beginning would be linear by itself.
    """
    near = min(near, length - 1)
    for distance in range(max(near + 1, length - near)):
        if distance <= near:
            yield near - distance
        if 0 < distance < length - near:
            yield near + distance


class Value:
    """One tensor, sequence or map of a graph.

    Attributes:
        name: unique within its graph.
        dtype: None if unknown.
        shape: None if unknown; a dimension is a size, a symbolic name or None.
        type: declared ONNX type in onnxruntime's spelling; only for inputs, outputs and declared values.
        const: the array of an initializer or a folded constant, else None.
        sizes: an array of objects, the content of an integer tensor that follows from the sizes of the model's inputs,
            where these are expressions (`tinyonnx.sizes`); else None.
        producer: the node with this output; None for inputs and constants.
        uses: pairs of a node and the position among its inputs, or of a graph and the position among its outputs.
    """

    __slots__ = ("_edited", "const", "dtype", "name", "producer", "shape", "sizes", "type", "uses")

    def __init__(
        self,
        name: str,
        dtype: np.dtype[Any] | None = None,
        shape: tuple[Dim, ...] | None = None,
        const: Array | None = None,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.type: str | None = None
        self.const = const
        self.sizes: Array | None = None
        self.producer: Node | None = None
        self.uses: list[tuple[Node | Graph, int]] = []
        self._edited = 0  # position of the last use removed

    def remove_use(self, user: Node | Graph, index: int) -> None:
        """Remove one of the uses."""
        for at in _outwards(self._edited, len(self.uses)):
            found = self.uses[at]
            if found[0] is user and found[1] == index:
                del self.uses[at]
                self._edited = at
                return
        raise AssertionError(f"{user!r} does not use {self.name}")

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape if every dimension is a known size, or an expression that behaves like one, else None."""
        # called tens of thousands of times per plan: any() over a generator takes twice as long
        if self.shape is None:
            return None
        for dim in self.shape:
            if dim is None or isinstance(dim, str):
                return None
        return cast(tuple[int, ...], self.shape)

    @property
    def is_constant(self) -> bool:
        """Whether its content is known before a run, given the sizes of the inputs."""
        return self.const is not None or self.sizes is not None

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {self.dtype}, {self.shape})"


class Node:
    """One call of an operator.

    Attributes:
        op_type, domain: the operator; the domain of ONNX's own operators is "".
        opset: version of the node's domain.
        inputs: values; None for an absent optional input.
        outputs: values; None for an output that nothing reads.
        attributes: Python values by name; a subgraph is a `Graph`.
        name: as in the file, may be empty.
        index: position in the file.
        origin: labels of the nodes of the model that this node replaces; its own label unless it is fused.
        rounded: whether kernels may round operands of its products to bfloat16.
    """

    __slots__ = ("attributes", "domain", "index", "inputs", "name", "op_type", "opset", "origin", "outputs", "rounded")

    def __init__(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        opset: int = 1,
        name: str = "",
        index: int = -1,
        origin: Iterable[str] = (),
    ) -> None:
        self.op_type = op_type
        self.domain = domain
        self.opset = opset
        self.name = name
        self.index = index
        self.inputs: list[Value | None] = list(inputs)
        self.outputs: list[Value | None] = list(outputs)
        self.attributes: dict[str, Any] = dict(attributes or {})
        self.origin: tuple[str, ...] = tuple(origin) or (self.label,)
        self.rounded = False

    @property
    def label(self) -> str:
        """The node's name; if it has none, the name of its first output."""
        if self.name:
            return self.name
        return next((v.name for v in self.outputs if v is not None), f"#{self.index}")

    @property
    def output(self) -> Value:
        """The first output; most operators have only one."""
        value = self.outputs[0]
        assert value is not None
        return value

    @property
    def subgraphs(self) -> list[Graph]:
        """The graphs among the attributes."""
        return [a for a in self.attributes.values() if isinstance(a, Graph)]

    def __repr__(self) -> str:
        return f"Node({self.op_type} {self.label!r})"


class Graph:
    """Nodes in executable order, with inputs, initializers and outputs. A subgraph has no link to its parent.

    `overridable` holds the initializers that are inputs as well: a feed may replace them.

    Edit a graph through its methods only: they keep `Value.uses` and `Value.producer` consistent, which `verify`
    checks.
    """

    def __init__(self, name: str = "", opsets: Mapping[str, int] | None = None) -> None:
        self.name = name
        self.opsets: dict[str, int] = dict(opsets or {})
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.declared_outputs: list[Value] = []
        self.initializers: list[Value] = []
        self.overridable: list[Value] = []
        self.metadata: dict[str, str] = {}
        self._edited = 0  # last result of `position`

    # -- building ---------------------------------------------------------------------

    def add_input(self, value: Value) -> Value:
        """Append an input and return it."""
        self.inputs.append(value)
        return value

    def add_initializer(self, name: str, array: Array) -> Value:
        """Append an initializer with this array and return its value."""
        value = Value(name, array.dtype, array.shape, array)
        self.initializers.append(value)
        return value

    def override(self, name: str) -> Value:
        """Turn an overridable initializer into an input and return it."""
        value = next(v for v in self.overridable if v.name == name)
        self.overridable.remove(value)
        self.initializers.remove(value)
        value.const = None
        return self.add_input(value)

    def drop_initializers(self) -> None:
        """Remove the initializers that nothing reads, except overridable ones."""
        kept = set(map(id, self.overridable))
        self.initializers = [v for v in self.initializers if v.uses or id(v) in kept]

    def add_output(self, value: Value, name: str | None = None) -> None:
        """Append an output; `name` is the one that users request (default: the value's)."""
        value.uses.append((self, len(self.outputs)))
        self.outputs.append(value)
        self.output_names.append(value.name if name is None else name)
        declared = Value(value.name, value.dtype, value.shape)
        declared.type = value.type
        self.declared_outputs.append(declared)

    def clear_outputs(self) -> None:
        """Remove all outputs."""
        for i, value in enumerate(self.outputs):
            value.remove_use(self, i)
        self.outputs, self.output_names, self.declared_outputs = [], [], []

    def add_node(self, node: Node, at: int | None = None) -> Node:
        """Insert a node at position `at` (default: the end), register its uses and return it."""
        self.nodes.insert(len(self.nodes) if at is None else at, node)
        for i, value in enumerate(node.inputs):
            if value is not None:
                value.uses.append((node, i))
        for value in node.outputs:
            if value is not None:
                assert value.producer is None, f"{value.name} has two producers"
                value.producer = node
        return node

    # -- editing ----------------------------------------------------------------------

    def set_input(self, node: Node, index: int, value: Value | None) -> None:
        """Replace one input of a node; None makes it absent."""
        old = node.inputs[index]
        if old is not None:
            old.remove_use(node, index)
        node.inputs[index] = value
        if value is not None:
            value.uses.append((node, index))

    def replace_all_uses_with(self, old: Value, new: Value) -> None:
        """Let every reader of `old`, in this graph or a subgraph, read `new` instead."""
        for user, index in list(old.uses):
            if isinstance(user, Graph):
                user.outputs[index] = new
            else:
                user.inputs[index] = new
            new.uses.append((user, index))
        old.uses.clear()

    def remove_node(self, node: Node) -> None:
        """Remove a node whose outputs have no uses left."""
        for value in node.outputs:
            assert value is None or not value.uses, f"{value.name} is still used"
        for i, value in enumerate(node.inputs):
            if value is not None:
                value.remove_use(node, i)
        for value in node.outputs:
            if value is not None:
                value.producer = None
        for subgraph in node.subgraphs:
            subgraph._drop()
        del self.nodes[self.position(node)]

    def _drop(self) -> None:
        """Unregister all uses by this graph, which is removed with its node."""
        self.clear_outputs()
        for node in self.nodes:
            for i, operand in enumerate(node.inputs):
                if operand is not None:
                    operand.remove_use(node, i)
            for subgraph in node.subgraphs:
                subgraph._drop()

    def replace_node(self, old: Node, new: Node) -> Node:
        """Put `new` in the place of `old` and return it.

        The outputs of `new` must be values without a producer, or None; they replace those of `old` by position.
        """
        self.add_node(new, self.position(old))
        for a, b in zip(old.outputs, new.outputs, strict=True):
            if a is not None and b is not None:
                self.replace_all_uses_with(a, b)
        self.remove_node(old)
        return new

    # -- reading ----------------------------------------------------------------------

    def position(self, node: Node) -> int:
        """Return the position of a node in `nodes`, fast if it is near that asked for before."""
        self._edited = next(at for at in _outwards(self._edited, len(self.nodes)) if self.nodes[at] is node)
        return self._edited

    def walk(self) -> Iterator[Node]:
        """Yield every node, including those of subgraphs."""
        for node in self.nodes:
            yield node
            for subgraph in node.subgraphs:
                yield from subgraph.walk()

    def values(self) -> dict[str, Value]:
        """Return the values of this graph, without those of its subgraphs, by name."""
        found = {v.name: v for v in (*self.inputs, *self.initializers)}
        for node in self.nodes:
            found.update({v.name: v for v in node.outputs if v is not None})
            found.update({v.name: v for v in node.inputs if v is not None and v.name not in found})
        return found

    def captures(self) -> list[Value]:
        """Return the values of enclosing graphs that this graph or a subgraph of it reads.

        Contents that follow from the sizes of the model's inputs (`Value.sizes`) are among them: they exist once per
        run, in the outermost graph.
        """
        own: set[int] = set()
        found: dict[int, Value] = {}

        def visit(graph: Graph) -> None:
            own.update(id(v) for v in graph.inputs)
            for node in graph.nodes:
                for value in node.inputs:
                    if value is not None and id(value) not in own and value.const is None:
                        found[id(value)] = value
                for subgraph in node.subgraphs:
                    visit(subgraph)
                own.update(id(v) for v in node.outputs if v is not None)
            for value in graph.outputs:
                if id(value) not in own and value.const is None:
                    found[id(value)] = value

        visit(self)
        return list(found.values())

    def clone(self) -> Graph:
        """Return a copy that can be edited; constant arrays are shared."""
        return self._clone({})

    def _clone(self, known: dict[int, Value]) -> Graph:
        def copy(value: Value | None) -> Value | None:
            if value is None:
                return None
            if id(value) not in known:
                new = Value(value.name, value.dtype, value.shape, value.const)
                new.type, new.sizes = value.type, value.sizes
                known[id(value)] = new
            return known[id(value)]

        def sure(value: Value) -> Value:
            new = copy(value)
            assert new is not None
            return new

        graph = Graph(self.name, self.opsets)
        graph.metadata = dict(self.metadata)
        graph.inputs = [sure(v) for v in self.inputs]
        graph.initializers = [sure(v) for v in self.initializers]
        graph.overridable = [sure(v) for v in self.overridable]
        for node in self.nodes:
            attributes = {k: a._clone(known) if isinstance(a, Graph) else a for k, a in node.attributes.items()}
            new = graph.add_node(
                Node(
                    node.op_type,
                    [copy(v) for v in node.inputs],
                    [copy(v) for v in node.outputs],
                    attributes,
                    domain=node.domain,
                    opset=node.opset,
                    name=node.name,
                    index=node.index,
                    origin=node.origin,
                )
            )
            new.rounded = node.rounded
        for value, name in zip(self.outputs, self.output_names, strict=True):
            graph.add_output(sure(value), name)
        graph.declared_outputs = list(self.declared_outputs)
        return graph

    def verify(self) -> None:
        """Check all invariants: execution order, single producers, use lists in both directions.

        Raises AssertionError: a violation is a bug in a pass, never the user's mistake.
        """
        uses: dict[int, list[tuple[Node | Graph, int]]] = {}
        seen: dict[int, Value] = {}
        self._verify(set(), uses, seen)
        for key, value in seen.items():
            expected, actual = uses.get(key, []), value.uses
            same = expected == actual or (len(expected) == len(actual) and set(expected) == set(actual))
            assert same, f"use list of {value.name}: has {actual}, should be {expected}"

    def _verify(self, outer: set[int], uses: dict[int, list[tuple[Node | Graph, int]]], seen: dict[int, Value]) -> None:
        defined = set(outer)
        for value in self.inputs:
            assert value.producer is None, f"input {value.name} has a producer"
            defined.add(id(value))
            seen[id(value)] = value

        def read(values: Iterable[Value | None], user: Node | Graph) -> None:
            for index, value in enumerate(values):
                if value is None:
                    continue
                key = id(value)
                assert key in defined or value.is_constant, f"{value.name} is read by {user!r} before it exists"
                if key in uses:
                    uses[key].append((user, index))
                else:
                    seen[key], uses[key] = value, [(user, index)]

        for node in self.nodes:
            read(node.inputs, node)
            for attribute in node.attributes.values():
                if isinstance(attribute, Graph):
                    attribute._verify(defined, uses, seen)
            for result in node.outputs:
                if result is not None:
                    assert result.producer is node, f"{result.name}: producer is {result.producer!r}, not {node!r}"
                    assert id(result) not in defined, f"{result.name} is produced twice"
                    defined.add(id(result))
                    seen[id(result)] = result
        assert len(self.outputs) == len(self.output_names)
        read(self.outputs, self)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self.nodes)} nodes)"
